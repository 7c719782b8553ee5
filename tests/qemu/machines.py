"""The table of machines that the tests boot. One row, one boot; `run.py --list` prints their names.

A row fails when the guest does not end in time, says nothing, ends with another status than
expected, reports a failed check or fewer checks than the floor, lacks a line that it must print,
prints a bug check that was not expected, or does something to a device that QEMU calls a guest
error.
"""

from dataclasses import dataclass, replace

from bugchecks import (ANY, DMA, DMA_BOUNCE_ROWS, DMA_ROWS, DRIVER_MISUSES, FAULTS_WITH_AN_ADDRESS,
                       IO_ROWS, NO_EXECUTE, READ_ONLY, ROWS, VERIFIER, VERIFIER_ROWS)
from guest import BOCHS_SHUTDOWN, BUG_CHECK, FAILED, PASSED

# --------------------------------------------------------------------------------------------------
# Devices. {disk} is the image that tests/tools/mkdisk.py makes; the guest's writes to it are thrown
# away. {folder} is the folder of the row's host, with whatever that has put there.

DISK = ("-drive", "file={disk},if=none,id=disk,format=raw,snapshot=on",
        "-device", "nvme,drive=disk,serial=IOSPACE0001")
NETWORK = ("-netdev", "user,id=net", "-device", "e1000,netdev=net")
# A device whose BAR is plain memory: the self-tests read, write and execute it.
MEMORY = ("-object", "memory-backend-ram,id=shared,size=4M,share=on",
          "-device", "ivshmem-plain,memdev=shared")
ALL_DEVICES = DISK + NETWORK + MEMORY
# The same with the memory in a file, which the host reads afterwards (shared.py).
SHARED_FILE = ("-object", "memory-backend-file,id=shared,size=4M,mem-path={shared},share=on",
               "-device", "ivshmem-plain,memdev=shared")

# Every read of sector 2048 fails with an I/O error.
FAILING_DISK = (
    "-blockdev",
    '{{"driver":"blkdebug","node-name":"disk","read-only":true,'
    '"image":{{"driver":"file","filename":"{disk}","read-only":true,"locking":"off"}},'
    '"inject-error":[{{"event":"none","iotype":"read","errno":5,"sector":2048,"once":false}}]}}',
    "-device", "nvme,drive=disk,serial=IOSPACE0001")

# A second controller with what the first one lacks: no namespace 1, blocks of 4 KiB, long transfers;
# and its serial number allows the tests to write.
SECOND_DISK = (
    "-drive", "file={disk},if=none,id=scratch,format=raw,snapshot=on",
    "-device", "nvme,id=second,serial=SCRATCH0002,mdts=10,max_ioqpairs=1",
    "-device", "nvme-ns,drive=scratch,bus=second,nsid=5,logical_block_size=4096,"
               "physical_block_size=4096")

# A controller whose namespaces have gaps between their ids, blocks of 512 and of 4096 bytes, and one that has
# metadata, which no disk is made of.
SPARSE_DISKS = (
    "-device", "nvme,id=sparse,serial=SPARSE0003",
    *(argument for nsid, more in ((3, "logical_block_size=4096,physical_block_size=4096"),
                                  (8, "ms=8"), (200, "logical_block_size=512"))
      for argument in ("-drive", f"file={{disk}},if=none,id=ns{nsid},format=raw,snapshot=on",
                       "-device", f"nvme-ns,drive=ns{nsid},bus=sparse,nsid={nsid},{more}")))

# A controller with memory for submission queues.
CMB_DISK = ("-drive", "file={disk},if=none,id=disk,format=raw,snapshot=on",
            "-device", "nvme,drive=disk,serial=IOSPACE0001,cmb_size_mb=1")

# Answers a read only after the driver has reset the controller.
SILENT_DISK = (
    "-blockdev", '{{"driver":"null-co","node-name":"disk","size":67108864,'
                 '"latency-ns":16000000000}}',
    "-device", "nvme,drive=disk,serial=IOSPACE0001")

# OVMF looks for a TPM before it starts the boot loader, and QEMU counts every poll as the guest's
# error.
OVMF_TPM_PROBES = (r"at addr 0xFED400",)

# --------------------------------------------------------------------------------------------------
# Rows.


@dataclass(frozen=True)
class Stop:
    """An expected bug check: code and four parameters, each a number, ANY or ANNOUNCED."""
    code: int
    parameters: tuple


@dataclass(frozen=True)
class Machine:
    name: str
    machine: str = "q35"
    cpu: str = "max"
    ram: str = "512M"
    processors: int = 1
    firmware: str = "seabios"  # or ovmf
    door: str = "cd"  # or iso, or efi: see images.py
    devices: tuple = ALL_DEVICES
    arguments: tuple = ()  # more of QEMU's command line
    options: str = "mode=test"  # the kernel's command line
    drivers: tuple = ()  # tests/drivers that are started, besides drivers/; the rest is on demand
    timeout: int = 120  # seconds
    status: int = PASSED  # or several that will do
    floor: int = 1  # the least number of passed checks; 0: the guest runs no self-tests
    patterns: tuple = ()  # regular expressions, each must match a line; {crc} is the disk's CRC-32
    allowed: tuple = ()  # regular expressions for guest errors that are meant
    complaints: tuple = ()  # regular expressions: the row must fail, and with these sentences only
    stop: Stop = None  # the bug check that must happen
    oracle: bool = False  # compare the guest's report of its mappings with QEMU's MMU
    host: type = None  # of host.py: does what the guest asks it for
    traces: tuple = ()  # patterns of QEMU's events, which go to a file beside the log
    emulator: str = "qemu"  # or bochs
    is_free: bool = False  # boots the free kernel: no asserts, locks inline
    is_wide: bool = False  # tells little that others do not: for `make test-wide` only

    @property
    def command_line(self):
        return self.options + " oracle" * self.oracle + " host" * (self.host is not None)

    @property
    def shares_memory(self):
        """Whether a file of the host is the memory of a device, and its end is checked."""
        return any("{shared}" in argument for argument in self.devices)


# More of QEMU's command line: room for 240 processors, and the second one in a place of its own.
def second_processor(place):
    return ("-smp", "1,sockets=240,maxcpus=240", "-device",
            f"max-x86_64-cpu,core-id=0,thread-id=0,{place}")


# Lines of the demonstration.
CHECKSUM = "disk: crc32 of the first 64 MiB: {crc}"
LEASE = r"net: DHCP lease: 10\.0\.2\.15"
NO_DISK = "this machine has no disk that the kernel can use"
NO_NETWORK = "this machine has no network card that the kernel can use"
PLACED = ("16 KiB of memory, 64-bit, placed by this kernel", CHECKSUM, LEASE)

# What the dump of every bug check shows: registers, and a stack of named functions.
DUMP = (r"cr0 [0-9a-f]{8}  cr3 [0-9a-f]+", r"    0x[0-9a-f]{16} (KiSystemStartup|KiStartThread)\+0x[0-9a-f]+")
FAULT_DUMP = (r"trap 14 \(page fault\), error code 0x[0-9a-f]+: [a-z ]+, the page",
              r"rax [0-9a-f]{16}  rbx [0-9a-f]{16}", r"translation of 0x[0-9a-f]{16}:",
              r"PML4 at 0x[0-9a-f]+: 0x[0-9a-f]{16}")

SELF_TESTS = 215  # the floor for a machine with all devices
DEVICE_FREE = 190  # ... and without any

E1000_TESTS = 40  # tests whose suites are the network card's
E1000_QUICK_TESTS = 18  # without loopback
VERIFIED = SELF_TESTS - 20  # what level 1 forbids is skipped
NO_LEAKS = "^# leaks, with the drivers unloaded: 0, 0 bytes"
STRESS = r"# \d{2,} operations of \d+ threads, .*, [1-9]\d* failures on purpose, [1-9]\d* reads of a disk, [1-9]\d* frames sent, "
SOME_FAILED = "^# allocations that failed on purpose so far: [1-9]"


def low_resources(when, level=0):
    """A whole boot, drivers and all, with allocations that fail: whatever can't be had is done
    without, and nothing is left behind."""
    return Machine(f"q35-max-fail-{when.replace('=', '-')}-verifier-{level}",
                   options=f"mode=demo filter=low-resource fail=all {when} verifier={level}",
                   status=(PASSED, FAILED), patterns=(SOME_FAILED, NO_LEAKS, "^ok 1 verifier"))


# The edu driver, by messages and by a line that two devices share.
EDUS = ("-device", "edu", "-device", "edu")
BY_MESSAGE = (NO_LEAKS, "^edu: started, with a message")
BY_LINE = (NO_LEAKS, "^edu: started, with a line")
STORM = ("^interrupts: line [0-9]+ storms: its last 5000 interrupts .* were {} stormy.sys at 00:.*; "
         "masked for")
EDU_MOVES = r"ok \d+ A real device of 28 address bits moves data out and back \[[0-9., ]+\]$"

# The tests of the network wait for timers; they have rows of their own for what is another machine
# to their drivers.
# What has nothing to do with the machine is left out where that is all that differs.
TEST = "mode=test skip=e1000,inet,irp,seh,registry"
# What many that spin take long for is left out.
MANY = {8: TEST + ",nvme,disk,stale-peers,stress",
        16: TEST + ",nvme,disk,stale-peers,stress,alone,shootdown"}

MACHINES = (
    # Processors, chipsets and sizes of RAM, through the quick door.
    Machine("q35-max", floor=SELF_TESTS, oracle=True),
    Machine("q35-qemu64", is_wide=True, options=TEST, cpu="qemu64", floor=SELF_TESTS, oracle=True),
    Machine("pc-max", is_wide=True, machine="pc", floor=SELF_TESTS, oracle=True),
    Machine("pc-qemu64-128M", options=TEST, machine="pc", cpu="qemu64", ram="128M",
            floor=SELF_TESTS),
    Machine("q35-max-5G", options=TEST, ram="5G", timeout=240, floor=SELF_TESTS, oracle=True),

    # 4 KiB leaves only: QEMU's INVLPG is precise then, so stale translations show.
    Machine("q35-max-leaf4k", is_wide=True, options=TEST + " leaf4k", timeout=240, floor=SELF_TESTS,
            oracle=True),
    Machine("pc-qemu64-leaf4k", is_wide=True, machine="pc", cpu="qemu64", options=TEST + " leaf4k",
            timeout=120, floor=SELF_TESTS),

    # The kernel as benchmarks want it.
    Machine("q35-max-free", options=TEST, is_free=True, floor=SELF_TESTS, oracle=True),
    Machine("q35-qemu64-free-leaf4k", is_wide=True, cpu="qemu64", options="mode=test leaf4k filter=stale",
            is_free=True, floor=8),

    # UEFI firmware puts 64-bit BARs far above RAM.
    Machine("q35-max-ovmf", options=TEST, firmware="ovmf", door="iso", floor=SELF_TESTS,
            allowed=OVMF_TPM_PROBES, oracle=True),
    Machine("q35-max-ovmf-5G", is_wide=True, firmware="ovmf", door="iso", ram="5G", timeout=240,
            options="mode=test filter=iospace", floor=20, allowed=OVMF_TPM_PROBES),
    Machine("pc-qemu64-ovmf", is_wide=True, options=TEST, machine="pc", cpu="qemu64", firmware="ovmf", door="iso",
            floor=SELF_TESTS, allowed=OVMF_TPM_PROBES),

    # Level 1 of the verifier: the same, and nothing is left at the end.
    Machine("q35-max-verifier", options=TEST + " verifier=1", floor=VERIFIED, oracle=True,
            patterns=(NO_LEAKS,)),
    Machine("pc-qemu64-128M-verifier", machine="pc", cpu="qemu64", ram="128M",
            options=TEST + " verifier=1", floor=VERIFIED, patterns=(NO_LEAKS,)),
    Machine("q35-max-verifier-leaf4k", is_wide=True, options=TEST + " verifier=1 leaf4k", floor=VERIFIED,
            patterns=(NO_LEAKS,)),

    # Every transfer by bounce pages. With 1 GiB some memory is beyond 28 address bits.
    Machine("q35-max-bounce", is_wide=True, ram="1G", options="mode=test skip=e1000,inet,irp dma=bounce", floor=SELF_TESTS),
    Machine("q35-max-bounce-verifier", ram="1G", options="mode=test skip=e1000,inet,irp dma=bounce verifier=1",
            floor=VERIFIED, patterns=(NO_LEAKS,)),

    # A real device moves the data, of 28 address bits.
    *(Machine(f"q35-max-edu-{end}", ram="1G", devices=("-device", "edu"), floor=30,
              options=f"mode=test filter=dma dma={end}", patterns=(EDU_MOVES,))
      for end in ("identity", "bounce")),

    # The driver of that device.
    Machine("q35-max-edu", devices=EDUS, options="mode=test filter=edu", floor=6,
            patterns=BY_MESSAGE),
    Machine("pc-qemu64-edu-verifier", is_wide=True, machine="pc", cpu="qemu64", devices=EDUS, floor=6,
            options="mode=test filter=edu verifier=1 dma=bounce", patterns=BY_MESSAGE),
    Machine("q35-max-edu-intx-verifier", devices=EDUS, floor=6,
            options="mode=test filter=edu verifier=1 intx", patterns=BY_LINE),
    Machine("pc-max-edu-intx", is_wide=True, machine="pc", devices=EDUS, floor=6,
            options="mode=test filter=edu intx dma=bounce", patterns=BY_LINE),
    # All devices by lines, where most of them share one.
    Machine("q35-max-intx", devices=ALL_DEVICES + EDUS, options=TEST + " intx", floor=SELF_TESTS),

    # What a driver writes to the memory of a device is where the host looks for it.
    *(Machine(f"{machine}-shared-memory{'-verifier' * level}", machine=machine, cpu=cpu,
              firmware=firmware, door=door, devices=SHARED_FILE, floor=2, patterns=(NO_LEAKS,),
              options=f"mode=test filter=ivshmem verifier={level}",
              allowed=OVMF_TPM_PROBES if firmware == "ovmf" else ())
      for machine, cpu, firmware, door, level in (
          ("q35", "max", "seabios", "cd", 0), ("q35", "max", "seabios", "cd", 1),
          ("pc", "qemu64", "ovmf", "iso", 0))),

    # A line that stays asserted, unclaimed and then claimed, between well-behaved devices.
    *(Machine(f"{machine}-max-storm", machine=machine, devices=("-device", "edu") + NETWORK,
              drivers=("stormy",), options="mode=test filter=interrupt", floor=20,
              patterns=(NO_LEAKS, STORM.format("not claimed by"),
                        STORM.format("all claimed, but not quieted, by"),
                        "^stormy: the machine goes on after 5000 interrupts",
                        "^stormy: cured, 1 interrupt"))
      for machine in ("q35", "pc")),

    # The lab: drivers with a mistake, and what the kernel says of it.
    Machine("q35-lab-cache-type", devices=("-device", "pci-testdev,membar=16M"),
            drivers=("labcache",), options="mode=test filter=HalGetAdapter", floor=1,
            patterns=(r"driver labcache could not start it: status 0xc000009a",
                      r"the last refusal that driver labcache met: MmMapIoSpaceEx refused frames "
                      r"0x([0-9a-f]+)-0x\1: already in use with another cache type, held by "
                      r"PCI [0-9a-f:.]+ BAR2 for labcache.*, as WC$", NO_LEAKS)),

    # proves 25.1.1: each row of several processors prints how many run
    # Several processors. With many more than the host has, one that spins may wait for one that does not run:
    # what takes long then is left out.
    Machine("q35-max-smp2-verifier", processors=2, timeout=300, options=TEST + " verifier=1", floor=VERIFIED,
            patterns=("processors: 2 run", NO_LEAKS)),
    Machine("pc-qemu64-smp4", processors=4, timeout=300, machine="pc", cpu="qemu64",
            options=TEST, floor=SELF_TESTS, patterns=("processors: 4 run", NO_LEAKS)),
    *(Machine(f"q35-max-smp{count}", processors=count, timeout=300 * count // 8, devices=(),
              options=MANY[count], floor=DEVICE_FREE, patterns=(f"processors: {count} run", NO_LEAKS))
      for count in (8, 16)),
    *(Machine(f"q35-max-smp{count}-all", is_wide=True, processors=count, timeout=200 * count,
              options="mode=test", floor=SELF_TESTS, patterns=(f"processors: {count} run", NO_LEAKS))
      for count in (8, 16)),
    Machine("q35-max-smp4-free", is_wide=True, processors=4, timeout=300, devices=(), is_free=True, floor=15,
            options="mode=test filter=[25.", patterns=("processors: 4 run", NO_LEAKS)),
    Machine("q35-max-smp2-ovmf", processors=2, timeout=300, firmware="ovmf", door="iso", floor=15,
            options="mode=test filter=[25.", allowed=OVMF_TPM_PROBES,
            patterns=("processors: 2 run", NO_LEAKS)),

    # Processors as few machines have them: the second one's APIC id lies far from the first one's, among
    # hundreds that nobody has plugged in; is not like the first one; does not answer.
    Machine("q35-max-far-apic", arguments=second_processor("socket-id=200"), timeout=300, devices=(),
            floor=15, options="mode=test filter=[25.", patterns=("processors: 2 run", NO_LEAKS)),
    Machine("q35-max-unlike-processors", arguments=second_processor("socket-id=1,smap=off"),
            timeout=300, devices=(), floor=0, status=BUG_CHECK,
            stop=Stop(0x3E, (1, 0, 0, 0)), patterns=("is not like the first one",)),
    Machine("q35-max-silent-processor", processors=2, devices=(), timeout=300, floor=15,
            options="mode=test filter=[25. ghost=77",
            patterns=("the one with APIC id 77 does not answer", "processors: 2 run", NO_LEAKS)),

    # Everybody maps at once, at random: a minute in all. `make soak` has the same for an hour.
    *(Machine(f"stress-smp{processors}{'-verifier' * level}", processors=processors,
              devices=DISK + NETWORK, timeout=300, patterns=(STRESS, NO_LEAKS),
              is_free=processors == 4,
              options=f"mode=test filter=stress verifier={level} seconds={seconds}")
      for processors, level, seconds in ((2, 0, 25), (2, 1, 25), (4, 0, 10))),

    # Readers on the other processors, while mappings go: for a while here, for a million rounds in
    # `make test-wide` and `make soak`.
    *(Machine(f"q35-max-stale{name}", processors=processors, devices=MEMORY, floor=floor,
              is_wide=is_wide, timeout=timeout, options=f"mode=test filter=stale {options}",
              patterns=(NO_LEAKS, rf"{digits} rounds in all"))
      for name, processors, floor, is_wide, timeout, digits, options in (
          ("", 2, 10, False, 120, "[0-9]{3,}", "rounds=20000 seconds=3"),
          ("-verifier", 2, 10, False, 120, "[0-9]{3,}", "rounds=20000 seconds=3 verifier=1"),
          ("-leaf4k", 2, 19, False, 120, "[0-9]{3,}", "rounds=20000 seconds=3 leaf4k"),
          ("-4", 4, 10, True, 120, "[0-9]{3,}", "rounds=20000 seconds=5"),
          ("-4-verifier", 4, 10, True, 120, "[0-9]{3,}", "rounds=20000 seconds=5 verifier=1"),
          ("-million", 2, 10, True, 1600, "[0-9]{7,}", "rounds=143000 seconds=120"),
          ("-million-verifier", 2, 10, True, 1600, "[0-9]{7,}",
           "rounds=143000 seconds=120 verifier=1"))),

    # The ISO, as users boot it.
    Machine("pc-max-iso", machine="pc", door="iso", floor=SELF_TESTS),
    Machine("q35-max-iso-demo", is_wide=True, door="iso", options="mode=demo",
            floor=SELF_TESTS, patterns=(CHECKSUM, LEASE)),

    # Another implementation of the processor.
    Machine("bochs", emulator="bochs", door="iso", options="mode=test nodevices",
            status=BOCHS_SHUTDOWN, floor=DEVICE_FREE, timeout=300),
    Machine("bochs-smp2", emulator="bochs", door="iso", processors=2,
            options="mode=test nodevices filter=[25.", status=BOCHS_SHUTDOWN, floor=15, timeout=200,
            patterns=("processors: 2 run", "registers in MSRs")),  # x2APIC
    # Its INVLPG forgets one page, and its global translations survive a load of CR3.
    # The older processor has no INVPCID.
    *(Machine(f"bochs-smp2-stale{name}", emulator="bochs", cpu=cpu, door="iso", processors=2,
              is_wide=name == "-old",
              options="mode=test nodevices filter=stale leaf4k rounds=400 seconds=3", floor=16,
              status=BOCHS_SHUTDOWN, timeout=200, patterns=(NO_LEAKS, "[0-9]{4,} rounds in all"))
      for name, cpu in (("", "max"), ("-old", "corei7_sandy_bridge_2600k"))),
    Machine("bochs-smp2-stale-verifier", emulator="bochs", door="iso", processors=2, is_wide=True,
            options="mode=test nodevices filter=stale verifier=1 rounds=1000 seconds=10", floor=9,
            status=BOCHS_SHUTDOWN, timeout=300, patterns=(NO_LEAKS, "[0-9]{4,} rounds in all")),

    # The demonstration by bounce pages.
    Machine("pc-qemu64-bounce-verifier", machine="pc", cpu="qemu64", floor=20,
            options="mode=demo dma=bounce verifier=1 filter=dis",
            patterns=(CHECKSUM, LEASE, NO_LEAKS)),

    # Two controllers of different kinds.
    Machine("q35-max-two-disks", devices=DISK + SECOND_DISK, options="mode=test filter=disk",
            floor=7, patterns=("namespace 5, [0-9]+ blocks of 4096 bytes, 2048 KiB per command",)),

    # The network card's suites on every machine that is another one to its driver: verifier, bounce
    # pages, little memory, memory above 4 GiB, a line that others share, no throttling. Loopback takes
    # a minute.
    *(Machine(f"q35-max-e1000{name}", devices=NETWORK + devices, ram=ram, floor=floor,
              is_wide=name == "-bounce-verifier",
              options=f"mode=test filter=e1000 {options}", patterns=patterns, timeout=240)
      for name, ram, devices, floor, options, patterns in (
          ("-verifier", "128M", (), E1000_TESTS, "loopback verifier=1", (NO_LEAKS,)),
          ("-bounce-verifier", "512M", (), E1000_TESTS, "loopback dma=bounce verifier=1",
           (NO_LEAKS,)),
          ("-quick-bounce-verifier", "512M", (), E1000_QUICK_TESTS, "dma=bounce verifier=1",
           (NO_LEAKS,)),
          ("-5G", "5G", (), E1000_QUICK_TESTS, "", ()),
          ("-shared-line", "256M", EDUS, E1000_QUICK_TESTS, "intx", ()))),
    Machine("pc-qemu64-e1000-unthrottled-verifier", is_wide=True, machine="pc", cpu="qemu64",
            floor=E1000_QUICK_TESTS, options="mode=test filter=e1000 verifier=1",
            devices=("-netdev", "user,id=net", "-device", "e1000,netdev=net,mitigation=off"),
            patterns=(NO_LEAKS,), timeout=240),
    # Queues under load, alone, so that a failure is quickly seen.
    Machine("q35-max-nvme", options="mode=test filter=nvme", floor=10,
            patterns=(NO_LEAKS, r"^NVMe: queue 1 \(128 entries, shadow doorbells\): ")),
    Machine("q35-max-nvme-bounce-verifier", ram="1G", floor=9, patterns=(NO_LEAKS,),
            options="mode=test filter=nvme dma=bounce verifier=1"),
    Machine("q35-max-nvme-intx-verifier", options="mode=test filter=nvme intx verifier=1", floor=9,
            patterns=(NO_LEAKS,)),
    Machine("q35-max-nvme-lists", options="mode=test filter=nvme nvme.UseLists=1", floor=10,
            patterns=(NO_LEAKS, r"^NVMe: queue 1 \(.*, SGLs\): ")),
    Machine("q35-max-nvme-controller-memory", devices=CMB_DISK, floor=10,
            options="mode=test filter=nvme verifier=1",
            patterns=(NO_LEAKS, r"^NVMe: queue 1 \(.*, in the controller's memory\): ")),
    Machine("q35-max-nvme-small-queue", floor=9,
            patterns=(NO_LEAKS, r"^NVMe: queue 1 \(4 entries\): "),
            options="mode=test filter=nvme nvme.QueueEntries=4 nvme.UseShadow=0"),
    Machine("q35-max-sparse-namespaces", devices=SPARSE_DISKS + NETWORK,
            options="mode=test filter=disk", floor=7,
            patterns=(NO_LEAKS, "namespace 3, [0-9]+ blocks of 4096 bytes",
                      "namespace 8 is passed over: its blocks carry metadata",
                      "namespace 200, [0-9]+ blocks of 512 bytes")),

    # Whatever firmware assigned is ignored: the kernel places every memory BAR itself.
    Machine("q35-max-placebars", options="mode=demo placebars filter=io", floor=15, patterns=PLACED),
    Machine("pc-qemu64-placebars", is_wide=True, machine="pc", cpu="qemu64",
            options="mode=demo placebars filter=io", floor=15, patterns=PLACED),

    # Low resources.
    *(low_resources(f"every={interval}") for interval in (2, 16)),
    *(low_resources(f"every={interval}", 1) for interval in (5, 30)),
    *(low_resources(f"at={number}") for number in (3, 17)),
    *(replace(low_resources(f"every={interval}"), is_wide=True)
      for interval in (3, 4, 5, 7, 11, 23, 40, 100)),
    *(replace(low_resources(f"every={interval}", 1), is_wide=True) for interval in (3, 8, 13)),
    *(replace(low_resources(f"at={number}"), is_wide=True)
      for number in (1, 2, 5, 8, 12, 23, 30, 38)),

    # Less than there should be.
    Machine("q35-max-no-devices", devices=(), floor=DEVICE_FREE),
    Machine("q35-max-demo-no-devices", devices=(), options="mode=demo filter=pool", floor=10,
            patterns=(NO_DISK, NO_NETWORK)),
    Machine("pc-max-demo-no-disk", machine="pc", devices=NETWORK, floor=10,
            options="mode=demo filter=pool", patterns=(NO_DISK, LEASE)),
    Machine("q35-qemu64-demo-no-network", cpu="qemu64", devices=DISK, floor=10,
            options="mode=demo filter=pool", patterns=(CHECKSUM, NO_NETWORK)),
    Machine("q35-max-failing-disk", devices=FAILING_DISK + NETWORK, options="mode=demo filter=given",
            status=FAILED, patterns=("unrecovered read error .*0x281.*0xc000009c|"
                                     "unrecovered read error .*status 0xc000009c",)),
    Machine("q35-max-silent-disk", devices=SILENT_DISK, options="mode=demo filter=given", floor=1,
            status=FAILED, patterns=("NVMe: the controller is reset: a command was not answered",
                                     "NVMe: the controller works again")),
    Machine("q35-max-8M", ram="8M", devices=(), status=BUG_CHECK, floor=0,
            stop=Stop(0x7D, (ANY, 0x1000, ANY, 0)),
            patterns=("this machine has [0-9]+ KiB of usable RAM; IoSpace needs 16384 KiB",)),
    Machine("q35-max-17M", ram="17M", devices=(), options="mode=test filter=pool", floor=10),
    Machine("q35-no-nx", cpu="max,nx=off", devices=(), status=BUG_CHECK, floor=0,
            stop=Stop(0x5D, (0, 0, 0, 0)), patterns=("cannot forbid execution of a page",)),
    Machine("pc-qemu32", machine="pc", cpu="qemu32", devices=(), status=FAILED, floor=0,
            patterns=("this processor has no 64-bit mode",)),
)


# Where the code and its parameters do not tell enough: the sentence must.
IMAGE = r"ldruser\.sys\+0x[0-9a-f]+: the "
SENTENCES = {
    "AcquireLocksInWrongOrder": r"L1.*HeldRanks",
    "ImageWritesItsConstants": r"\*\*\* write of 0x[0-9a-f]+ in " + IMAGE + "page is read-only",
    "ImageExecutesItsData": r"\*\*\* execution of 0x[0-9a-f]+ in " + IMAGE + "page holds data",
    "ImageCallsDiscardedCode": IMAGE + "driver's image lost these pages when its init",
    "WaitForWhatIsNoObject": r"W1.*WaitListHead",
    "StopWithACallback": "a driver's last words: farewell, 9 bytes, IRQL 15",
    "StopWhileOthersRun": "the other processor counted to something and stands still",
    "WaitInADpc": "KeWaitForSingleObject would wait at IRQL 2, in a DPC, called by WaitInDpc",
    "OverflowTheStackOfAThread": "the stack is used up",
}


def bug_check(name, code, *parameters_and_clauses):
    parameters = parameters_and_clauses[:4]
    sentence = (SENTENCES[name],) if name in SENTENCES else DRIVER_MISUSES.get(name, ())
    has_fault_dump = code in (READ_ONLY, NO_EXECUTE) or name in FAULTS_WITH_AN_ADDRESS
    return Machine(f"bugcheck-{name}", devices=(), options=f"mode=bugcheck bugcheck={name}",
                   processors=2 if "Others" in name else 1,
                   status=BUG_CHECK, floor=0, stop=Stop(code, parameters),
                   patterns=DUMP + sentence + (FAULT_DUMP if has_fault_dump else ()))


# The second line of a violation: what is wrong, and who called.
BLAME = (r"\*\*\* .*; called by \w+\+0x[0-9a-f]+",)


def violation(name, code, *parameters_and_clauses):
    row = bug_check(name, code, *parameters_and_clauses)
    return replace(row, options=f"{row.options} verifier=1",
                   patterns=row.patterns + (BLAME if code in (VERIFIER, DMA) and "Leak" not in name
                                            else ()))


def bouncing(row):
    return replace(row, options=f"{row.options} dma=bounce")


# What a caller must never do: one boot each, by the name of the guest's test.
BUG_CHECKS = (tuple(bug_check(*row) for row in ROWS) +
              tuple(violation(*row) for row in (*VERIFIER_ROWS, *DMA_ROWS, *IO_ROWS)) +
              tuple(bouncing(violation(*row)) for row in DMA_BOUNCE_ROWS))

ALL_MACHINES = MACHINES + BUG_CHECKS
