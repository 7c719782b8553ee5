# IoSpace: `make help` lists what can be made. Everything that is made goes to $(BUILD).

BUILD ?= build
SOAK_SECONDS ?= 300
DBG ?= 1# 1: asserts and lock-rank checks; 0: as benchmarks want it

ifeq ($(origin CC),default)
CC := $(CROSS_COMPILE)gcc
endif
OBJCOPY ?= $(CROSS_COMPILE)objcopy
NM ?= $(CROSS_COMPILE)nm

ifneq ($(filter-out clean help,$(or $(MAKECMDGOALS),all)),)
ifeq ($(filter x86_64-% amd64-%,$(shell $(CC) -dumpmachine)),)
$(error '$(CC)' does not compile for x86-64: set CROSS_COMPILE, for example to x86_64-linux-gnu-)
endif
endif

# A checked kernel can walk its stack; a free one has a register more, and shorter functions.
FRAME_POINTER := $(if $(filter 0,$(DBG)),-fomit-frame-pointer,-fno-omit-frame-pointer)

CFLAGS := -std=gnu11 -O2 -g -DDBG=$(DBG) \
    -ffreestanding -fno-pie -fno-pic -mcmodel=kernel -mno-red-zone -mno-mmx -mno-sse -mno-sse2 \
    -fno-stack-protector -fcf-protection=none -fasynchronous-unwind-tables \
    $(FRAME_POINTER) -fno-strict-aliasing -Wall -Wextra -Werror -Wstrict-prototypes \
    -Wmissing-prototypes -Wswitch-enum -Wshadow -Wno-multichar # pool tags are written as 'abcd'
LDFLAGS := -nostdlib -static -Wl,--build-id=none,-z,max-page-size=4096,-z,noexecstack,--eh-frame-hdr

SOURCES := $(wildcard boot/*.S boot/*.c arch/x64/*.S arch/x64/*.c arch/x64/mm/*.c kernel/*.c \
    kernel/*/*.c mm/*.c tests/kernel/*.c tests/examples/*.c)
OBJECTS := $(SOURCES:%=$(BUILD)/obj/%.o)
EXPORTS := kernel/ldr/exports.txt
EXPORT_TABLE := $(BUILD)/obj/exports.o
EXPORT_LIBRARY := $(BUILD)/ntoskrnl.def
MAKE_EXPORTS := python3 kernel/ldr/makeexports.py
IMAGE := $(BUILD)/iospace.elf
KERNEL := $(BUILD)/iospace
ISO := $(BUILD)/iospace.iso

# Drivers are images of their own: drivers/NAME, and for the tests tests/drivers/NAME or NAME.c.
DRIVER_CC ?= gcc
MAKE_DRIVER = python3 kernel/kit/makedriver.py --build $(BUILD) --compiler $(DRIVER_CC) --checked $(DBG) $(DRIVER_OPTIONS)
KIT := kernel/kit/makedriver.py $(wildcard kernel/kit/*.h kernel/kit/*/*.h) kernel/ddk/except.h $(wildcard kernel/ddk/ntdd*.h) kernel/ddk/sehddk.h
DRIVERS := $(patsubst drivers/%/,$(BUILD)/drivers/%.sys,$(wildcard drivers/*/))
DRIVER_OUT = $(or $(OUT),$(BUILD)/$(basename $(notdir $(abspath $(SRC)))).sys)
TEST_DRIVERS := $(patsubst tests/drivers/%.c,$(BUILD)/testdrivers/%.sys,$(wildcard tests/drivers/*.c)) \
    $(patsubst tests/drivers/%/,$(BUILD)/testdrivers/%.sys,$(wildcard tests/drivers/*/))

INCLUDES = -I. -Ikernel/ddk -Iarch/x64/inc
$(BUILD)/obj/tests/examples/%.o: INCLUDES = -Ikernel/ddk -I$(<D)

.PHONY: all drivers driver iso run ping test test-wide host-test bench bench-peer fuzz soak gdb docs check imports compdb clean \
    help setup setup-driver
.DELETE_ON_ERROR:

all: $(KERNEL) $(EXPORT_LIBRARY) drivers ## the kernel and its drivers: iospace is what is booted, iospace.elf has debug information

drivers: $(DRIVERS) $(TEST_DRIVERS) ## the drivers as .sys images, those of the tests too

# A driver from anywhere: make driver SRC=~/mydriver [OUT=mydriver.sys] [DRIVER_CC=clang]
driver: $(EXPORT_LIBRARY) | setup-driver ## builds your driver: SRC=folder [OUT=x.sys] [DRIVER_CC=clang] [DRIVER_FLAGS=-Dx]
	$(if $(SRC),,$(error say where the sources are: make driver SRC=folder))
	@$(MAKE_DRIVER) --output "$(DRIVER_OUT)" "$(SRC)" -- $(DRIVER_FLAGS)
	@echo "  SYS     $(DRIVER_OUT)"
	@python3 kernel/ldr/imports.py $(EXPORTS) "$(DRIVER_OUT)" $(FOLDER) | grep -v ' found$$'

iso: $(ISO) ## one ISO that boots under BIOS and UEFI

# With a driver: make run DRIVER=x.sys [DRIVER_IDS='PCI\VEN_1234&DEV_11E8'] [QEMU_ARGS='-device edu']
run: $(if $(DRIVER),$(KERNEL) $(DRIVERS),$(ISO)) | setup ## boots the ISO and shows what it does; DRIVER=x.sys [DRIVER_IDS=...] [QEMU_ARGS=...]: with your driver
	@python3 tests/qemu/demo.py --build $(BUILD) $(DRIVER:%=--driver "%") \
	    $(if $(DRIVER_IDS),--ids '$(DRIVER_IDS)') --qemu='$(QEMU_ARGS)' --options='$(OPTIONS)'

ping: $(KERNEL) $(DRIVERS) | setup ## boots the kernel, pings it, asks for its state: [REPORTS='memory inet'] [OPTIONS=...]
	@python3 tests/qemu/ping.py --build $(BUILD) --options='$(OPTIONS)' $(REPORTS)

test: $(KERNEL) drivers | setup ## host tests, every machine, mutations; the last line is the sum
	@python3 tests/qemu/run.py --build $(BUILD)

test-wide: $(KERNEL) drivers | setup ## the same on more machines, and more allocations that fail
	@python3 tests/qemu/run.py --build $(BUILD) --wide

host-test: ## mm compiled for this machine, under sanitizers
	@if [ -f tests/host/Makefile ]; then $(MAKE) -C tests/host BUILD=$(abspath $(BUILD))/host test; fi

fuzz: | setup ## libFuzzer on mm's API, for FUZZ_SECONDS
	@$(MAKE) -C tests/host BUILD=$(abspath $(BUILD))/host $@

soak: $(KERNEL) drivers | setup ## random work of disks for SOAK_SECONDS, of mm on many processors for four times that, OPERATIONS random operations of mm (100 million), and the fuzzer
	@python3 tests/qemu/run.py --build $(BUILD) --soak $(SOAK_SECONDS)
	@$(MAKE) -C tests/host BUILD=$(abspath $(BUILD))/host $@

bench: | setup ## instructions per operation, beside Linux's; FILTER=nvme: only rows with such names
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/free DBG=0 all
	@python3 tests/qemu/bench.py --build $(BUILD)/free --filter="$(FILTER)"

bench-peer: | setup ## the same work by Debian's Linux, in turns: a table of ratios; PEER="--turns 1 --write"
	@tests/tools/setup.sh peer
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/free DBG=0 all
	@python3 tests/peer/peer.py --build $(BUILD)/free $(PEER)

gdb: $(KERNEL) drivers | setup ## QEMU waits, gdb attaches with symbols
	@python3 tests/qemu/debug.py --build $(BUILD)

docs: ## brings docs/coverage.md and the examples in docs/api up to date
	@python3 tests/tools/check_docs.py --write

check: ## format, includes, headers, gcc and clang with warnings as errors, locks, static analysis
	@tests/tools/setup.sh check
	@CC="$(CC)" CFLAGS="$(CFLAGS)" python3 tests/tools/check.py --build $(BUILD)

imports: ## lists what DRIVER=x.sys imports, and what of it is missing; FOLDER=... may have other drivers
	@python3 kernel/ldr/imports.py $(EXPORTS) $(DRIVER) $(FOLDER)

compdb: ## compile_commands.json for editors and clang tools
	@python3 tests/tools/compdb.py --build $(BUILD)

clean: ## removes what was made
	rm -rf $(BUILD) compile_commands.json

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

setup:
	@tests/tools/setup.sh test

setup-driver:
	@tests/tools/setup.sh driver

.SECONDEXPANSION:

$(BUILD)/drivers/%.sys: $$(wildcard drivers/$$*/*) $(KIT) $(EXPORT_LIBRARY) | setup-driver
	@echo "  SYS     $@"
	@mkdir -p $(@D)
	@$(MAKE_DRIVER) --strict --output $@ drivers/$*

$(BUILD)/testdrivers/%.sys: $$(wildcard tests/drivers/$$*.c tests/drivers/$$*/*) $(KIT) $(EXPORT_LIBRARY) | setup-driver
	@echo "  SYS     $@"
	@mkdir -p $(@D)
	@$(MAKE_DRIVER) --output $@ $(firstword $(wildcard tests/drivers/$*.c tests/drivers/$*))

# A driver with __try. Without a compiler for it, its tests are skipped.
$(BUILD)/testdrivers/seh.sys: DRIVER_OPTIONS = --compiler clang --optional
$(BUILD)/testdrivers/sehgcc.sys: tests/drivers/seh/seh.h
$(BUILD)/testdrivers/ktupper.sys: tests/drivers/ktlower/ktlower.c

# GRUB loads every section of the file, so debug information stays out of the booted one; symbols
# stay in.
$(KERNEL): $(IMAGE)
	@$(OBJCOPY) --strip-debug $< $@

$(IMAGE): $(OBJECTS) $(EXPORT_TABLE) linker.ld
	@echo "  LD      $@"
	@$(CC) $(LDFLAGS) -Wl,-T,linker.ld,-Map,$@.map -o $@ $(OBJECTS) $(EXPORT_TABLE) -lgcc
	@$(NM) $@ > $@.symbols
	@$(MAKE_EXPORTS) verify $(EXPORTS) $@.symbols

$(EXPORT_TABLE): $(EXPORTS) kernel/ldr/makeexports.py
	@echo "  EXPORTS $@"
	@mkdir -p $(@D)
	@$(MAKE_EXPORTS) table $< > $(@:.o=.S)
	@$(CC) -c -o $@ $(@:.o=.S)

$(EXPORT_LIBRARY): $(EXPORTS) kernel/ldr/makeexports.py
	@mkdir -p $(@D)
	@$(MAKE_EXPORTS) library $< > $@

$(ISO): $(KERNEL) $(DRIVERS) $(TEST_DRIVERS) tests/qemu/images.py tests/tools/inf.py | setup
	@echo "  ISO     $@"
	@python3 tests/qemu/images.py iso $(KERNEL) $@

$(BUILD)/obj/%.o: % Makefile
	@echo "  CC      $<"
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) $(INCLUDES) -MMD -MP -MT '$$(BUILD)/obj/$<.o' -c -o $@ $<

-include $(OBJECTS:.o=.d)
