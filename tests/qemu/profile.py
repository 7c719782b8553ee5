#!/usr/bin/env python3
"""Where the instructions of one row of `make bench` go: by function, of the kernel and of its drivers.

    make bench FILTER=nvme-4k-qd32-irp                  builds the free kernel
    python3 tests/qemu/profile.py nvme-4k-qd32-irp      per operation, the greatest first
    python3 tests/qemu/profile.py --blocks ROW          the same by block of code, with its line

Counts are of everything between the row's first and last round, so what costs nothing in the table is
in them as well: the loop that waits (AwaitTurns), which is left out of the sum, and the measuring.
"""

import argparse
import bisect
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import bench
import counting

IMAGE_LINE = re.compile(r"^# image (\S+) (0x[0-9a-f]+) (\d+)")
UNITS_LINE = re.compile(r"^# units (\S+) (\d+)")
LINKED_BASE = 0x140000000  # where makedriver.py's linker puts an image
WAITING = "AwaitTurns"


class Symbols:
    """Functions of the kernel and of the images that the guest named."""

    def __init__(self):
        self.addresses, self.names = [], []
        self.files = []  # (first address, end, file, what to subtract from an address)

    def add(self, nm, path, first, end, offset):
        found = []
        for line in subprocess.run([nm, str(path)], capture_output=True, text=True,
                                   check=True).stdout.splitlines():
            match = re.match(r"^([0-9a-f]+) [tTwW] (\S+)", line)
            if match:
                found.append((int(match[1], 16) + offset, match[2]))
        merged = sorted([*zip(self.addresses, self.names), *found])
        self.addresses, self.names = [address for address, _ in merged], [name for _, name in merged]
        self.files.append((first, end, path, offset))

    def name_of(self, address):
        place = bisect.bisect_right(self.addresses, address) - 1
        return self.names[place] if place >= 0 else "?"

    def file_of(self, address):
        for first, end, path, offset in self.files:
            if first <= address < end:
                return path, address - offset
        return None, address

    def line_of(self, address):
        path, linked = self.file_of(address)
        if path is None:
            return ""
        line = subprocess.run(["addr2line", "-s", "-e", str(path), hex(linked)],
                              capture_output=True, text=True).stdout.strip()
        return line.split(" (")[0]


def symbols_of(build, lines):
    symbols = Symbols()
    for name, base, byte_count in (match.groups() for match in map(IMAGE_LINE.match, lines) if match):
        debug = build / "driverobj" / Path(name).stem / f"{name}.debug"
        first = int(base, 16)
        symbols.add("x86_64-w64-mingw32-nm", debug, first, first + int(byte_count),
                    first - LINKED_BASE)
    symbols.add("nm", build / "iospace.elf", 1 << 63, 1 << 64, 0)
    return symbols


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("row", help="the name of a row, as the kernel prints it")
    parser.add_argument("--build", default="build/free")
    parser.add_argument("--blocks", action="store_true", help="by block of code")
    parser.add_argument("--top", type=int, default=40, help="how many lines")
    arguments = parser.parse_args()
    build = Path(arguments.build)
    subject = next((subject for subject in bench.SUBJECTS
                    if any(row.name == arguments.row for row in subject.rows)), None)
    if subject is None:
        sys.exit(f"there is no row {arguments.row}: tests/qemu/bench.py has them all")
    output = build / "profile.counts"
    outcome = bench.boot(build, subject.machine, f"row={arguments.row}",
                         counting.arguments(build, output))
    units = [int(match[2]) for match in map(UNITS_LINE.match, outcome.lines)
             if match and match[1] == arguments.row]
    if not units:
        sys.exit(f"the guest did not measure {arguments.row} (log: {build}/{subject.machine.name}.log)")
    symbols = symbols_of(build, outcome.lines)
    by_place = Counter()
    waiting = 0
    for address, instructions, entered in counting.read(output).blocks:
        name = symbols.name_of(address)
        if name == WAITING:
            waiting += instructions * entered
        else:
            by_place[address if arguments.blocks else name] += instructions * entered
    total = sum(by_place.values())
    print(f"{arguments.row}: {units[0]} operations; instructions of each: {total / units[0]:.1f}"
          f" (and {waiting / units[0]:.1f} of waiting)")
    for place, count in by_place.most_common(arguments.top):
        name = place
        if arguments.blocks:
            name = f"{symbols.name_of(place):<36} {symbols.line_of(place)}"
        print(f"{count / units[0]:10.1f} {100 * count / total:5.1f} %  {name}")


if __name__ == "__main__":
    main()
