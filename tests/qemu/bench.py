#!/usr/bin/env python3
"""`make bench`: instructions of one map and unmap, beside Linux's on the same emulated machine.

The guest prints `# bench <name> <instructions>` under -icount, where one tick of the time-stamp
counter is one instruction, so the figures are exact and the same on every host. Ends with status 0
when no row is slower than Linux.
"""

import argparse
import re
import sys
from pathlib import Path

import guest
from images import make_core
from machines import Machine

MACHINE = Machine("bench", ram="2G", arguments=("-icount", "shift=0,sleep=off"), timeout=300)
BENCH_LINE = re.compile(r"^# bench (\S+) (\d+)")

# Debian 12, Linux 6.1.0-56-amd64 in QEMU 7.2 (q35, -cpu max, 1 GiB), medians of a module that calls
# the same work in a loop: (name, work, instructions of a pair).
#   map-*       ioremap + iounmap, lazy purge's share included
#   reserved-*  vmap_pages_range into an existing area + vunmap_range, flushed before reuse
LINUX = (
    ("map-4K", "4 KiB, uncached", 4812),
    ("map-64K", "64 KiB", 7125),
    ("map-2M", "2 MiB, aligned", 6223),
    ("map-16M", "16 MiB", 10911),
    ("map-256M", "256 MiB", 51883),
    ("map-1G", "1 GiB", 11458),
    ("reserved-1", "1 page, reserved", 829),
    ("reserved-16", "16 pages, reserved", 2465),
    ("reserved-256", "256 pages, reserved", 22116),
    ("reserved-4096", "4096 pages, reserved", 341821),
)
# The same without any flush: not the same promise, shown for orientation.
LINUX_NOT_FLUSHED = {
    "reserved-1": 646, "reserved-16": 1892, "reserved-256": 21922, "reserved-4096": 341525}


def run_guest(build):
    image = build / "bench.core"
    make_core(build / "iospace", image, "mode=bench")
    command = guest.qemu_command(MACHINE, (MACHINE.door, image), [])
    outcome = guest.run_qemu(command, MACHINE.timeout, build / "bench.log")
    if outcome.status != guest.PASSED:
        print("\n".join(outcome.lines[-20:]), file=sys.stderr)
        sys.exit(f"the guest ended with status {outcome.status}; {outcome.errors}")
    return {match[1]: int(match[2]) for match in map(BENCH_LINE.match, outcome.lines) if match}


def print_table(measured):
    """Returns the names of the rows that are missing or slower than Linux."""
    bad = []
    print(f"{'instructions of map + unmap':<28} {'IoSpace':>10} {'Linux 6.1':>10} {'ratio':>7}"
          "   Linux, not flushed")
    for name, work, linux in LINUX:
        ours = measured.pop(name, None)
        if ours is None or ours > linux:
            bad.append(name)
        figures = f"{'missing':>10}" if ours is None else f"{ours:>10,}"
        ratio = "" if ours is None else f"{ours / linux:.2f}"
        unflushed = f"{LINUX_NOT_FLUSHED[name]:,}" if name in LINUX_NOT_FLUSHED else ""
        print(f"{work:<28} {figures} {linux:>10,} {ratio:>7}   {unflushed:>18}".rstrip())
    for name, ours in measured.items():
        print(f"{name:<28} {ours:>10,}")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/free")
    bad = print_table(run_guest(Path(parser.parse_args().build)))
    if bad:
        sys.exit(f"slower than Linux, or missing: {', '.join(bad)}")


if __name__ == "__main__":
    main()
