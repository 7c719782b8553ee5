#!/usr/bin/env python3
"""`make bench`: instructions of one map and unmap, beside Linux's on the same emulated machine.

The guest prints `# bench <name> <instructions>` under -icount, where one tick of the time-stamp
counter is one instruction, so the figures are exact and the same on every host. Ends with status 0
when every row keeps its budget, and none grows with the number of live mappings.
"""

import argparse
import re
import sys
from pathlib import Path

import guest
from images import DEMAND, make_cd, module_of, own_drivers
from machines import Machine

MACHINE = Machine("bench", ram="2G", arguments=("-icount", "shift=0,sleep=off"), timeout=300)
BENCH_LINE = re.compile(r"^# bench (\S+) (\d+)")

# (name, work, instructions of a pair in Linux, budget or None)
# Linux: Debian 12, Linux 6.1.0-56-amd64 in QEMU 7.2 (q35, -cpu max, 1 GiB), medians of a module that
# calls the same work in a loop:
#   map-*       ioremap + iounmap, lazy purge's share included
#   reserved-*  vmap_pages_range into an existing area + vunmap_range, flushed before reuse
#   mdl-1       vm_map_ram + vm_unmap_ram
ROWS = (
    ("map-4K", "4 KiB, uncached", 4812, 300),
    ("map-4K-others", "  with 10,000 other pages mapped", 5900, 300),
    ("map-4K-same", "  with 10,000 mappings of the page", 393000, 300),
    ("map-4K-walk", "  another page each time", 4812, None),
    ("map-64K", "64 KiB", 7125, None),
    ("map-2M", "2 MiB, aligned", 6223, 350),
    ("map-2M-walk", "  another range each time", 6223, None),
    ("map-16M", "16 MiB", 10911, None),
    ("map-256M", "256 MiB", 51883, 2000),
    ("map-1G", "1 GiB", 11458, 400),
    ("reserved-1", "1 page, reserved", 829, 150),
    ("reserved-16", "16 pages, reserved", 2465, 400),
    ("reserved-256", "256 pages, reserved", 22116, 3600),
    ("reserved-4096", "4096 pages, reserved", 341821, 54000),
    ("mdl-1", "MDL of 1 page", 903, 350),
)
# What has nothing to be compared with: (name, work, budget).
OWN_ROWS = (
    ("interrupt-dpc", "interrupt to DPC, and back", 600),
    ("irp-2", "request through two devices and back", 400),
    ("ping-pong", "event there and back, 2 switches", 900),
    ("yield", "another thread and back, 2 switches", 350),
    ("event", "event set and taken", 250),
    ("dpc", "DPC queued to DPC run, and back", 320),
    ("load-100K", "driver of 105 KiB, loaded and linked", 200000),
    ("load-100K-copies", "  copying its sections, not included", 120000),
)
# Rows that must not be slower by more than this than the row they belong to.
FLAT = {"map-4K-others": "map-4K", "map-4K-same": "map-4K"}
FLAT_LIMIT = 1.10
# The same without any flush: not the same promise, shown for orientation.
LINUX_NOT_FLUSHED = {
    "reserved-1": 646, "reserved-16": 1892, "reserved-256": 21922, "reserved-4096": 341525}


def run_guest(build):
    image = build / "bench.cd"
    large = module_of(build / "testdrivers" / "ldrlarge.sys", (DEMAND,))
    make_cd(build / "iospace", image, "mode=bench", (*own_drivers(build / "iospace"), large))
    command = guest.qemu_command(MACHINE, (MACHINE.door, image), [])
    outcome = guest.run_qemu(command, MACHINE.timeout, build / "bench.log")
    if outcome.status != guest.PASSED:
        print("\n".join(outcome.lines[-20:]), file=sys.stderr)
        sys.exit(f"the guest ended with status {outcome.status}; {outcome.errors}")
    return {match[1]: int(match[2]) for match in map(BENCH_LINE.match, outcome.lines) if match}


def complaint(name, measured, budget):
    """Why a row is not good enough, or None."""
    ours = measured.get(name)
    if ours is None:
        return f"{name} is missing"
    if budget is not None and ours > budget:
        return f"{name} is over its budget: {ours:,} instead of {budget:,}"
    base = measured.get(FLAT.get(name))
    if base is not None and ours > base * FLAT_LIMIT:
        return f"{name} is not flat: {ours:,} instead of about {base:,}"
    return None


def print_row(name, work, ours, linux, budget):
    figures = f"{'missing':>10}" if ours is None else f"{ours:>10,}"
    ratio = "" if ours is None else f"{ours / linux:.2f}"
    limit = "" if budget is None else f"{budget:,}"
    unflushed = f"{LINUX_NOT_FLUSHED[name]:,}" if name in LINUX_NOT_FLUSHED else ""
    print(f"{work:<36} {figures} {limit:>8} {linux:>10,} {ratio:>6}   {unflushed:>18}".rstrip())


def print_table(measured):
    """Returns what is wrong with the figures, a sentence per row."""
    print(f"{'instructions of map + unmap':<36} {'IoSpace':>10} {'budget':>8} {'Linux 6.1':>10} "
          f"{'ratio':>6}   Linux, not flushed")
    for name, work, linux, budget in ROWS:
        print_row(name, work, measured.get(name), linux, budget)
    for name, work, budget in OWN_ROWS:
        ours = measured.get(name)
        print(f"{work:<36} {'missing' if ours is None else format(ours, ',') :>10} {budget:>8,}")
    known = {row[0] for row in ROWS + OWN_ROWS}
    for name in sorted(set(measured) - known):
        print(f"{name:<36} {measured[name]:>10,}")
    complaints = (complaint(row[0], measured, row[-1]) for row in ROWS + OWN_ROWS)
    return [text for text in complaints if text]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/free")
    bad = print_table(run_guest(Path(parser.parse_args().build)))
    if bad:
        sys.exit("\n".join(bad))


if __name__ == "__main__":
    main()
