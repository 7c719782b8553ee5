#!/usr/bin/env python3
"""`make bench`: instructions of the kernel's services and of its drivers, beside Linux's for the same
work on the same emulated machine.

The guest prints `# bench <name> <value>` under -icount, where one tick of the time-stamp counter is
one instruction, so the figures are exact and (devices that work in parallel aside) the same on every
host. Ends with status 0 when every row that was asked for keeps its budget, and none grows with the
number of live mappings.

Rates by several threads are shown only: they depend on what else the host does.

    make bench                the whole table
    make bench FILTER=nvme    only the rows whose name contains it
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import counting
import guest
from images import DEMAND, make_cd, module_of, own_drivers
from machines import Machine

BENCH_LINE = re.compile(r"^# bench (\S+) (\d+)")
RATE_LINE = re.compile(r"^# rate (\S+) (\d+) (\d+)")
CLOCK_LINE = re.compile(r"^# clock (\d+)")
COUNTED = ("-icount", "shift=0,sleep=off")


def null_disk(latency):
    """What answers reads and writes after so many nanoseconds, and keeps nothing."""
    return ("-blockdev", "driver=null-co,node-name=disk,size=8589934592,read-zeroes=on,"
                         f"latency-ns={latency}",
            "-device", "nvme,drive=disk,serial=SCRATCH0001")


# QEMU looks at a queue 500 instructions after its doorbell, and a disk without latency answers before
# the next request is sent: a depth of 32 would be one of 1. By then all of them are sent.
SLOW_DISK = null_disk(2_000_000)
# QEMU says each access to a controller's registers, and each command of a disk.
REGISTER_TRACE = ("-trace", "pci_nvme_mmio_read", "-trace", "pci_nvme_mmio_write",
                  "-trace", "pci_nvme_io_cmd")

# Two cards on one cable.
TWO_CARDS = tuple(argument for index in (0, 1) for argument in (
    "-netdev", f"hubport,id=port{index},hubid=0",
    "-device", f"e1000,netdev=port{index},mac=52:54:00:00:00:0{index + 1}"))
# Drivers that would take the cards for themselves.
NOT_STARTED = ("inet.sys",)


@dataclass(frozen=True)
class Row:
    name: str
    work: str
    budget: int = None  # None: shown only
    linux: int = None  # instructions in Linux; None: there is no such work
    unflushed: int = None  # the same without a flush: not the same promise, shown for orientation
    flat: str = None  # the row that this one must not exceed by more than FLAT_LIMIT


FLAT_LIMIT = 1.10

# Linux: Debian 12, Linux 6.1.0-56-amd64 in QEMU 7.2 (q35, -cpu max, 1 GiB), medians of a module that
# calls the same work in a loop:
#   map-*       ioremap + iounmap, lazy purge's share included
#   reserved-*  vmap_pages_range into an existing area + vunmap_range, flushed before reuse
#   mdl-1       vm_map_ram + vm_unmap_ram
#   nvme-*      submit_bio to bi_end_io, with one interrupt vector; busy instructions
#   net-*       pktgen's bursts of 32, one buffer again and again; frames of a flood that nobody wants
KERNEL_ROWS = (
    Row("map-4K", "4 KiB, uncached", 300, 4812),
    Row("map-4K-others", "  with 10,000 other pages mapped", 300, 5900, flat="map-4K"),
    Row("map-4K-same", "  with 10,000 mappings of the page", 300, 393000, flat="map-4K"),
    Row("map-4K-walk", "  another page each time", None, 4812),
    Row("map-64K", "64 KiB", None, 7125),
    Row("map-2M", "2 MiB, aligned", 350, 6223),
    Row("map-2M-walk", "  another range each time", None, 6223),
    Row("map-16M", "16 MiB", None, 10911),
    Row("map-256M", "256 MiB", 2000, 51883),
    Row("map-1G", "1 GiB", 400, 11458),
    Row("reserved-1", "1 page, reserved", 150, 829, 646),
    Row("reserved-16", "16 pages, reserved", 400, 2465, 1892),
    Row("reserved-256", "256 pages, reserved", 3600, 22116, 21922),
    Row("reserved-4096", "4096 pages, reserved", 54000, 341821, 341525),
    Row("mdl-1", "MDL of 1 page", 350, 903),
    Row("interrupt-dpc", "interrupt to DPC, and back", 600),
    Row("irp-2", "request through two devices and back", 400),
    Row("irp-1-reused", "request of one's own, pended and completed", 190),
    Row("remove-lock", "remove lock acquired and released", 40),
    Row("spin-lock-dpc", "spin lock acquired and released in a DPC", 20),
    Row("dma-list-1", "list of 1 page, built and put", 220),
    Row("dma-list-1-routine", "  by the routine of version 2", 220),
    Row("dma-list-1-system", "  in memory of the system", 220),
    Row("dma-list-32", "list of 32 adjacent pages", 470),
    Row("dma-list-32-scattered", "  of 32 pages here and there", 780),
    Row("ping-pong", "event there and back, 2 switches", 900),
    Row("yield", "another thread and back, 2 switches", 350),
    Row("event", "event set and taken", 250),
    Row("dpc", "DPC queued to DPC run, and back", 320),
    Row("load-100K", "driver of 105 KiB, loaded and linked", 200000),
    Row("load-100K-copies", "  copying its sections, not included", 120000),
)
NVME_ROWS = (
    Row("nvme-4k-qd32-queue", "4 KiB read, depth 32, polled queue", 250, 2996),
    Row("nvme-4k-qd32-interrupt", "  queue with interrupts", 300, 2996),
    Row("nvme-4k-qd32-irp", "  by IRP", 600, 2996),
    Row("nvme-4k-qd1-polled", "4 KiB read, depth 1, polled queue", 500, 8159),
    Row("nvme-4k-qd1-interrupt", "  queue with interrupts", None, 8159),
    Row("nvme-4k-qd1-irp", "  by IRP", None, 8159),
    Row("nvme-128k-seq-queue", "128 KiB in sequence, depth 32, polled", 700, 18132),
    # Each of these ends with an interrupt of its own: the disk takes its time to fill 128 KiB.
    Row("nvme-128k-seq-irp", "  by IRP", 2500, 18132),
    Row("nvme-mmio-writes", "register writes per 1,000 I/O by IRP"),
    Row("nvme-mmio-writes-queue", "  polled queue", 62),
    Row("nvme-mmio-reads", "register reads per 1,000 I/O by IRP", 0),
    Row("nvme-mmio-reads-queue", "  polled queue", 0),
)
# These are counted by QEMU, while another row is measured, both at depth 32.
REGISTER_ROWS = {"": "nvme-4k-qd32-irp", "-queue": "nvme-4k-qd32-queue"}

NET_ROWS = (
    Row("net-send-64", "64-byte frame sent, lists of 32", 150, 737),
    Row("net-receive-64", "64-byte frame received, lists of 32", 300, 3270),
)


# The same where a second processor must be kept from seeing what is gone; what it costs to interrupt it,
# and to wait for it, stands apart.
MANY_ROWS = tuple(row for row in KERNEL_ROWS
                  if row.name.split("-")[0] in ("map", "reserved", "mdl")) + (
    Row("broadcast", "the other processor interrupted, and waited for"),)

# From the kernel's entry to the start of the last driver. Linux: from its entry to its first program.
BOOT_LIMIT = 60_000_000
BOOT_DEVICES = (*null_disk(0), *TWO_CARDS[:4])
BOOT_COUNTED = ("-icount", "shift=0,sleep=on")
BOOT_ROWS = tuple(Row(f"boot-smp{processors}",
                      f"{processors} processor{'s' if processors > 1 else ''}", BOOT_LIMIT,
                      1_590_000_000)
                  for processors in (1, 2))

# Pairs of a map and an unmap in a second; the same name with -by-1 and -by-2 in the guest.
RATE_ROWS = (("compute", "nothing of mm: what the host gives"), ("irql", "IRQL raised and lowered"),
             ("map-4K", "4 KiB, uncached"), ("map-64K", "64 KiB, uncached"), ("reserved-1", "1 page, reserved"),
             ("reserved-16", "16 pages, reserved"),
             ("reserved-1-used", "1 page, reserved, written to"),
             ("reserved-16-used", "16 pages, reserved, all written to"), ("mdl-1", "MDL of 1 page"),
             ("mdl-16", "MDL of 16 pages"),
             ("pages-1", "page allocated with its MDL, freed"),
             ("pages-16", "16 pages allocated with their MDL, freed"),
             ("pool-100", "100 bytes of pool, freed"),
             *((f"forget-{pages}{name}", f"{pages} pages used, and {what} forgotten")
               for pages in (4, 15, 32, 64)
               for name, what in (("", "each"), ("-all", "everything"))))
RATE_MACHINE = Machine("bench-rates", ram="2G", processors=2, devices=(), timeout=300,
                       arguments=("-accel", "tcg,thread=multi"))


@dataclass(frozen=True)
class Subject:
    """What one machine is for."""
    machine: Machine
    title: str
    rows: tuple


SUBJECTS = (
    Subject(Machine("bench", ram="2G", devices=(), arguments=COUNTED, timeout=300),
            "instructions of map + unmap", KERNEL_ROWS),
    Subject(Machine("bench-smp2", ram="2G", processors=2, devices=(), arguments=COUNTED, timeout=300),
            "the same with 2 processors", MANY_ROWS),
    Subject(Machine("bench-nvme", ram="2G", devices=SLOW_DISK, arguments=COUNTED, timeout=300),
            "NVMe: instructions per I/O, no waiting", NVME_ROWS),
    Subject(Machine("bench-net", ram="2G", devices=TWO_CARDS, arguments=COUNTED, timeout=300),
            "e1000: instructions per frame, no waiting", NET_ROWS),
)


def boot(build, machine, options, arguments=(), not_started=NOT_STARTED):
    """The outcome of one boot that passed."""
    image = build / f"{machine.name}.cd"
    large = module_of(build / "testdrivers" / "ldrlarge.sys", (DEMAND,))
    drivers = (driver for driver in own_drivers(build / "iospace") if driver.name not in not_started)
    make_cd(build / "iospace", image, f"mode=bench {options}".strip(), (*drivers, large))
    command = guest.qemu_command(machine, (machine.door, image), list(machine.devices))
    outcome = guest.run_qemu(command + list(arguments), machine.timeout,
                             build / f"{machine.name}.log")
    if outcome.status != guest.PASSED:
        print("\n".join(outcome.lines[-20:]), file=sys.stderr)
        sys.exit(f"{machine.name}: the guest ended with status {outcome.status}; {outcome.errors}")
    return outcome


def figures_of(outcome):
    return {match[1]: int(match[2]) for match in map(BENCH_LINE.match, outcome.lines) if match}


def count_register_accesses(build, machine, place):
    """{row: accesses per 1,000 commands}, as QEMU sees them between the first command of the measured
    work and the last one. The kernel reads little of the disk before: a few commands among thousands."""
    outcome = boot(build, machine, f"row={REGISTER_ROWS[place]}", REGISTER_TRACE)
    events = [line.split()[0] for line in outcome.device_log if line.startswith("pci_nvme_")]
    commands = [index for index, event in enumerate(events) if event == "pci_nvme_io_cmd"]
    if REGISTER_ROWS[place] not in figures_of(outcome) or not commands:
        return {}
    during = events[commands[0]:commands[-1]]
    return {f"nvme-mmio-{kind}s{place}":
            round(1000 * during.count(f"pci_nvme_mmio_{kind}") / len(commands))
            for kind in ("read", "write")}


def measure(build, subject, text):
    """{row: value} of the subject's rows whose name contains text."""
    wanted = {row.name for row in subject.rows if text in row.name}
    measured = {}
    if any("mmio" not in name for name in wanted):
        measured |= figures_of(boot(build, subject.machine, f"filter={text}" if text else ""))
    for place in REGISTER_ROWS:
        if wanted & {f"nvme-mmio-reads{place}", f"nvme-mmio-writes{place}"}:
            measured |= count_register_accesses(build, subject.machine, place)
    return {name: value for name, value in measured.items() if name in wanted}


def measure_boot(build, text):
    """{row: instructions of all processors} from the kernel's entry to the last driver's start."""
    measured = {}
    for processors, row in enumerate(BOOT_ROWS, 1):
        if text not in row.name:
            continue
        output = build / f"{row.name}.counts"
        machine = Machine(row.name, processors=processors, devices=BOOT_DEVICES,
                          arguments=BOOT_COUNTED, timeout=300)
        entry = counting.elf_entry(build / "iospace")
        boot(build, machine, "filter=none-of-them", counting.arguments(build, output, entry), ())
        regions = counting.read(output).regions
        measured |= {row.name: regions[0]} if regions else {}
    return measured


def print_rates(build, text):
    """By one thread and by two, each on a processor of its own."""
    wanted = [(name, work) for name, work in RATE_ROWS if text in f"{name}-by-"]
    if not wanted:
        return
    lines = boot(build, RATE_MACHINE, f"rates filter={text if '-by-' in text else '-by-'}").lines
    clock = next(int(match[1]) for match in map(CLOCK_LINE.match, lines) if match)
    rates = {match[1]: int(match[2]) * clock / int(match[3])
             for match in map(RATE_LINE.match, lines) if match}
    print(f"{'pairs per second, plain TCG':<42} {'1 thread':>10} {'2':>10} {'ratio':>8}")
    for name, work in wanted:
        one, two = rates.get(f"{name}-by-1"), rates.get(f"{name}-by-2")
        if one and two:
            print(f"{work:<42} {one:>10,.0f} {two:>10,.0f} {two / one:>8.2f}")


def complaint(row, measured):
    """Why a row is not good enough, or None."""
    ours = measured.get(row.name)
    if ours is None:
        return f"{row.name} is missing"
    if row.budget is not None and ours > row.budget:
        return f"{row.name} is over its budget: {ours:,} instead of {row.budget:,}"
    base = measured.get(row.flat)
    if base is not None and ours > base * FLAT_LIMIT:
        return f"{row.name} is not flat: {ours:,} instead of about {base:,}"
    return None


def number(value):
    return "" if value is None else f"{value:,}"


def print_row(row, ours):
    figures = "missing" if ours is None else number(ours)
    ratio = f"{ours / row.linux:.2f}" if ours is not None and row.linux else ""
    print(f"{row.work:<42} {figures:>10} {number(row.budget):>8} {number(row.linux):>10} "
          f"{ratio:>6} {number(row.unflushed):>19}".rstrip())


def print_table(subject, measured, text):
    """Returns what is wrong with the figures, a sentence per row."""
    rows = [row for row in subject.rows if text in row.name]
    print(f"{subject.title:<42} {'IoSpace':>10} {'budget':>8} {'Linux 6.1':>10} {'ratio':>6}"
          + (" Linux, not flushed" if any(row.unflushed for row in rows) else ""))
    for row in rows:
        print_row(row, measured.get(row.name))
    return [text for text in (complaint(row, measured) for row in rows) if text]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/free")
    parser.add_argument("--filter", default="", help="only the rows whose name contains it")
    arguments = parser.parse_args()
    build = Path(arguments.build)
    bad = []
    for subject in SUBJECTS:
        if any(arguments.filter in row.name for row in subject.rows):
            measured = measure(build, subject, arguments.filter)
            bad += print_table(subject, measured, arguments.filter)
    if any(arguments.filter in row.name for row in BOOT_ROWS):
        boots = Subject(None, "instructions of a boot, 1 NVMe, 1 e1000", BOOT_ROWS)
        bad += print_table(boots, measure_boot(build, arguments.filter), arguments.filter)
    print_rates(build, arguments.filter)
    if bad:
        sys.exit("\n".join(bad))


if __name__ == "__main__":
    main()
