#!/usr/bin/env python3
"""`make bench-peer`: the same work by this kernel and by Debian's Linux, in turns, on the same emulated
machine; one table of what each of them does in a second, and of the instructions that it takes.

  rates         plain TCG, one processor, or two where the row says so; both kernels in turns, so that what else the host does falls on
                both. The ratio is the median of the turns'
  instructions  -icount; what the processor is busy with, never the waiting
  boot          from the kernel's entry to its drivers' start

The table goes to docs/performance.md with --write; that page says what is measured, and its limits.
Linux is downloaded from Debian's archive once (debian.py); nothing is installed.

    make bench-peer                          everything; ten minutes, of which the host should do nothing else
    make bench-peer PEER="--turns 1"         quicker, and less sure
    make bench-peer PEER="--only nvme"       only the rows whose name contains it
"""

import argparse
import datetime
import os
import re
import socket
import statistics
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "qemu"))
import bench  # noqa: E402
import counting  # noqa: E402
import debian  # noqa: E402
import guest  # noqa: E402
from images import make_cd, own_drivers  # noqa: E402
from machines import Machine  # noqa: E402

PAGE = ROOT / "docs" / "performance.md"
TABLE = re.compile(r"(<!-- table: .*? -->\n)(.*?)(<!-- end -->)", re.DOTALL)
FLOOD = Path(__file__).with_name("flood.c")
RECEIVER = "52:54:00:00:00:02"
TIMEOUT = 600  # seconds, of one boot

RATE_LINE = re.compile(r"# rate (\S+) (\d+) (\d+)")
BENCH_LINE = re.compile(r"# bench (\S+) (\d+)")
CLOCK_LINE = re.compile(r"# clock (\d+)")
BOOT_LINE = re.compile(r"# boot (\d+)")

# Linux waits in a loop where its drivers count: when a processor sleeps, virtual time jumps to the next
# timer, while devices take their real time.
LINUX_OPTIONS = "console=ttyS0 panic=-1"
LINUX_COUNTS = f"{LINUX_OPTIONS} idle=poll"
LINUX_BOOT = f"{LINUX_OPTIONS} quiet loglevel=0"


@dataclass(frozen=True)
class Work:
    text: str
    ours: str  # the row's name in this kernel
    linux: str  # ... in Linux
    byte_count: int = 0  # of one operation, where megabytes say more


WORKS = (
    Work("4 KiB of device memory, map + unmap", "map-4K", "map-4K"),
    Work("2 MiB", "map-2M", "map-2M"),
    Work("256 MiB", "map-256M", "map-256M"),
    Work("1 GiB", "map-1G", "map-1G"),
    Work("1 page into reserved addresses", "reserved-1", "reserved-1"),
    Work("16 pages", "reserved-16", "reserved-16"),
    Work("256 pages", "reserved-256", "reserved-256"),
    Work("4,096 pages", "reserved-4096", "reserved-4096"),
    Work("NVMe, 4 KiB read, depth 32, IRP / bio", "nvme-4k-qd32-irp", "nvme-4k-qd32"),
    Work("the same, polled queue / polled bio", "nvme-4k-qd32-queue", "nvme-4k-qd32-polled"),
    Work("NVMe, 4 KiB read, depth 1, IRP / bio", "nvme-4k-qd1-irp", "nvme-4k-qd1"),
    Work("the same, polled queue / polled bio", "nvme-4k-qd1-polled", "nvme-4k-qd1-polled"),
    Work("NVMe, 128 KiB in sequence, depth 32, IRP / bio", "nvme-128k-seq-irp", "nvme-128k-seq",
         128 << 10),
    Work("the same, polled queue / polled bio", "nvme-128k-seq-queue", "nvme-128k-seq-polled",
         128 << 10),
    Work("e1000, 64-byte frames sent", "net-send-64", "net-send-64"),
    Work("e1000, 64-byte frames received", "net-receive-64", "net-receive-64"),
)


# Work by one thread, and by one on each processor of a machine with two.
WORKS_TOGETHER = tuple(
    Work(text.format(threads="1 thread" if count == 1 else f"{count} threads"),
         f"{name}-by-{count}", f"{name}-by-{count}")
    for name, text in (("map-4K", "4 KiB of device memory, {threads} on 2 processors"),
                       ("reserved-1", "1 page into reserved addresses, {threads} on 2 processors"),
                       ("reserved-16", "16 pages, {threads} on 2 processors"),
                       ("reserved-1-used", "1 page, written to, {threads} on 2 processors"),
                       ("reserved-16-used", "16 pages, written to, {threads} on 2 processors"))
    for count in (1, 2))


class Flood:
    """The host's end of the second card's cable, and who fills it."""

    def __init__(self, folder):
        self.program = folder / "flood"
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(self.program),
                        str(FLOOD)], check=True)
        ends = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for end in ends:
            end.bind(("127.0.0.1", 0))
        self.port, self.other = (end.getsockname()[1] for end in ends)
        for end in ends:
            end.close()  # QEMU takes the first port; nobody needs the other
        self.child = None

    def netdev(self):
        return (f"dgram,id=port1,local.type=inet,local.host=127.0.0.1,local.port={self.port},"
                f"remote.type=inet,remote.host=127.0.0.1,remote.port={self.other}")

    def hear(self, line, *_):
        """What the guest says: it wants a flood, or has had enough."""
        if "# flood" in line:
            self.child = subprocess.Popen([str(self.program), str(self.port), RECEIVER])
        elif "net-receive-64" in line:
            self.stop()

    def stop(self):
        if self.child:
            guest.end_child(self.child)
            self.child = None


class Peers:
    """Both kernels, ready to boot."""

    def __init__(self, build):
        self.build = build
        self.folder = build / "peer"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.linux = debian.prepare(self.folder)
        self.flood = Flood(self.folder)

    def machine(self, name, arguments=(), processors=1, is_small=False):
        return Machine(name, ram="512M" if is_small else "2G", arguments=arguments,
                       processors=processors, timeout=TIMEOUT)

    def devices(self, is_rating, is_small=False):
        """One disk and two cards: on one cable, or the second one to the host. Where the machine is small, one
        card."""
        if is_small:
            return list(bench.BOOT_DEVICES)
        if not is_rating:
            return [*bench.SLOW_DISK, *bench.TWO_CARDS]
        return [*bench.null_disk(0), *bench.TWO_CARDS[:4], "-netdev", self.flood.netdev(),
                "-device", f"e1000,netdev=port1,mac={RECEIVER}"]

    def run(self, name, command):
        try:
            outcome = guest.run_qemu(command, TIMEOUT, self.folder / f"{name}.log", self.flood.hear)
        finally:
            self.flood.stop()
        ended = outcome.status == guest.PASSED or any("# end" in line for line in outcome.lines)
        if not ended:
            sys.exit(f"{name}: the guest did not end well; {outcome.errors}\n"
                     + "\n".join(outcome.lines[-10:]))
        return outcome.lines

    def boot_ours(self, name, options, is_rating=False, arguments=(), processors=1, is_small=False):
        image = self.folder / f"{name}.cd"
        drivers = tuple(driver for driver in own_drivers(self.build / "iospace")
                        if driver.name not in bench.NOT_STARTED)
        make_cd(self.build / "iospace", image, f"mode=bench {options}".strip(), drivers)
        machine = self.machine(name, arguments, processors, is_small)
        return self.run(name, guest.qemu_command(machine, (machine.door, image),
                                                 self.devices(is_rating, is_small)))

    def boot_linux(self, name, options, orders=(), is_rating=False, arguments=(), processors=1,
                   is_small=False):
        machine = self.machine(name, arguments, processors, is_small)
        command = guest.qemu_command(machine, ("efi", self.linux.kernel),
                                     self.devices(is_rating, is_small))
        return self.run(name, [*command, "-initrd", str(self.linux.initramfs),
                               "-append", f"{options} peer={','.join(orders)}"])


# --------------------------------------------------------------------------------------------------
# Measuring.


def first(pattern, lines):
    return next((int(match[1]) for match in map(pattern.search, lines) if match), None)


def rates_of(lines, clock):
    """{row: operations per second}, by a clock of so many ticks a second."""
    return {match[1]: int(match[2]) * clock / int(match[3])
            for match in map(RATE_LINE.search, lines) if match and int(match[3])}


def counts_of(lines):
    return {match[1]: int(match[2]) for match in map(BENCH_LINE.search, lines) if match}


def linux_orders(kind, works):
    return [f"{kind}:{work.linux}" for work in works]


def measure_rates(peers, works, turns, text):
    """([{row: rate}] of ours, of Linux's, [seconds of boot], the same): one for each turn."""
    ours, linux, our_boots, linux_boots = [], [], [], []
    for turn in range(turns):
        print(f"rates, turn {turn + 1} of {turns}", file=sys.stderr)
        mine = peers.boot_ours("rates-ours", f"rates filter={text}" if text else "rates", True)
        theirs = peers.boot_linux("rates-linux", LINUX_OPTIONS, linux_orders("rate", works), True)
        # The counter is the host's for both; Linux takes longer to find out how fast it is.
        clock = first(CLOCK_LINE, theirs)
        ours.append(rates_of(mine, clock))
        linux.append(rates_of(theirs, clock))
        our_boots.append(first(BOOT_LINE, mine) / 1e9 * first(CLOCK_LINE, mine) / clock)
        linux_boots.append(first(BOOT_LINE, theirs) / 1e9)
    return ours, linux, our_boots, linux_boots


def measure_together(peers, works, turns, text):
    """([{row: rate}] of ours, of Linux's), by threads on two processors: one for each turn."""
    ours, linux = [], []
    for turn in range(turns if works else 0):
        print(f"rates on 2 processors, turn {turn + 1} of {turns}", file=sys.stderr)
        mine = peers.boot_ours("together-ours", f"rates filter={text if '-by-' in text else '-by-'}",
                               True, processors=2)
        theirs = peers.boot_linux("together-linux", LINUX_OPTIONS, linux_orders("rate", works), True,
                                  processors=2)
        clock = first(CLOCK_LINE, theirs)
        ours.append(rates_of(mine, clock))
        linux.append(rates_of(theirs, clock))
    return ours, linux


def measure_counts(peers, works, text):
    """({row: instructions} of ours, of Linux's)"""
    print("instructions", file=sys.stderr)
    orders = linux_orders("count", works)
    if any(work.linux == "net-receive-64" for work in works):
        # What sending costs must be known.
        orders = ["count:net-send-64"] + [order for order in orders if order != "count:net-send-64"]
    return (counts_of(peers.boot_ours("counts-ours", f"filter={text}" if text else "",
                                      arguments=bench.COUNTED)),
            counts_of(peers.boot_linux("counts-linux", LINUX_COUNTS, orders,
                                       arguments=bench.COUNTED)))


def pvh_entry(kernel):
    """Where QEMU enters an ELF file that is a Linux: its note 18 by "Xen"."""
    data = kernel.read_bytes()
    for size, form in ((8, "<Q"), (4, "<I")):
        place = data.find(struct.pack("<III", 4, size, 18) + b"Xen\0")
        if place >= 0:
            return struct.unpack_from(form, data, place + 16)[0]
    raise debian.Unavailable(f"{kernel.name} has no entry for QEMU")


def measure_boot(peers):
    """Instructions from a kernel's entry to its drivers' start: (ours, Linux's)."""
    print("boot", file=sys.stderr)
    counted = ("-icount", "shift=0,sleep=on")
    results = []
    for name, entry in (("ours", counting.elf_entry(peers.build / "iospace")),
                        ("linux", pvh_entry(peers.linux.kernel))):
        output = peers.folder / f"boot-{name}.counts"
        arguments = (*counted, *counting.arguments(peers.folder, output, entry))
        if name == "ours":
            peers.boot_ours("boot-ours", "filter=none-of-them", arguments=arguments, is_small=True)
        else:
            peers.boot_linux("boot-linux", LINUX_BOOT, arguments=arguments, is_small=True)
        regions = counting.read(output).regions
        results.append(regions[0] if regions else None)
    return results


# --------------------------------------------------------------------------------------------------
# The table.


def number(value, byte_count=0):
    if value is None:
        return "-"
    if byte_count:
        return f"{value * byte_count / 1e6:,.0f} MB"
    return f"{value:,.0f}"


def median_of(turns, name):
    values = [turn[name] for turn in turns if name in turn]
    return statistics.median(values) if values else None


def ratio_text(ratios):
    """The median, and how far the turns are apart."""
    if not ratios:
        return "-"
    text = f"**{statistics.median(ratios):.2f}**"
    return text if len(ratios) == 1 else f"{text} ({min(ratios):.2f}-{max(ratios):.2f})"


def row_of(work, ours, linux, our_counts, linux_counts):
    ratios = [mine[work.ours] / theirs[work.linux] for mine, theirs in zip(ours, linux)
              if mine.get(work.ours) and theirs.get(work.linux)]
    counts = our_counts.get(work.ours), linux_counts.get(work.linux)
    fraction = f"**{counts[0] / counts[1]:.2f}**" if all(counts) else "-"
    return (work.text, number(median_of(ours, work.ours), work.byte_count),
            number(median_of(linux, work.linux), work.byte_count), ratio_text(ratios),
            number(counts[0]), number(counts[1]), fraction)


def boot_row(our_seconds, linux_seconds, counts):
    ratios = [theirs / mine for mine, theirs in zip(our_seconds, linux_seconds)]
    mine, theirs = (f"{statistics.median(seconds):.3f} s" if seconds else "-"
                    for seconds in (our_seconds, linux_seconds))
    fraction = f"**{counts[0] / counts[1]:.3f}**" if all(counts) else "-"
    return ("boot, to the drivers' start", mine, theirs, ratio_text(ratios),
            *map(number, counts), fraction)


HEAD = ("work", "IoSpace, per second", "Linux, per second", "ratio: IoSpace is faster by",
        "IoSpace, instructions", "Linux, instructions", "ratio of instructions")


def markdown(rows):
    lines = [HEAD, ("---",) + ("--:",) * (len(HEAD) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def scaling(ours, linux):
    """How much more two threads do than one: a sentence."""
    texts = []
    for work in WORKS_TOGETHER:
        base, _, count = work.ours.rpartition("-by-")
        ratios = [[turn[work.ours] / turn[f"{base}-by-1"] for turn in turns
                   if turn.get(work.ours) and turn.get(f"{base}-by-1")] for turns in (ours, linux)]
        if count != "1" and all(ratios):
            texts.append(f"{base} {ratio_text(ratios[0])}, Linux {ratio_text(ratios[1])}")
    return f"Two threads on two processors do so many times what one does: {'; '.join(texts)}."


def first_line(*command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else "unknown"


def circumstances(linux, turns, load):
    """When, with what, where: a paragraph."""
    processor = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                      if line.startswith("model name")), "unknown")
    qemu = first_line("qemu-system-x86_64", "--version").removeprefix("QEMU emulator version ")
    commit = first_line("git", "rev-parse", "--short", "HEAD")
    return (f"Measured on {datetime.date.today()}: IoSpace {commit}; Linux {linux.release}, Debian's "
            f"package {linux.version}; QEMU {qemu}; {processor}, {os.cpu_count()} cores, load average "
            f"before {load:.2f}; {turns} turn{'s' if turns != 1 else ''}.")


def write_page(text):
    page = PAGE.read_text()
    if not TABLE.search(page):
        sys.exit(f"{PAGE} has no place for the table")
    PAGE.write_text(TABLE.sub(lambda match: f"{match[1]}{text}\n{match[3]}", page))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/free")
    parser.add_argument("--turns", type=int, default=5, help="0: no rates")
    parser.add_argument("--only", default="", help="rows whose name in this kernel contains it")
    parser.add_argument("--no-counts", action="store_true", help="no instructions")
    parser.add_argument("--write", action="store_true", help="the table to docs/performance.md")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    try:
        peers = Peers(Path(arguments.build).resolve())
        works = [work for work in WORKS if arguments.only in work.ours]
        ours, linux, our_boots, linux_boots = measure_rates(peers, works, arguments.turns,
                                                            arguments.only)
        together = [work for work in WORKS_TOGETHER if arguments.only in work.ours]
        ours_together, linux_together = measure_together(peers, together, arguments.turns,
                                                         arguments.only)
        counts = ({}, {}) if arguments.no_counts else measure_counts(peers, works, arguments.only)
        boots = (None, None) if arguments.no_counts else measure_boot(peers)
    except debian.Unavailable as reason:
        sys.exit(f"there is no Linux to compare with: {reason}")
    rows = [row_of(work, ours, linux, *counts) for work in works]
    rows += [row_of(work, ours_together, linux_together, {}, {}) for work in together]
    rows.append(boot_row(our_boots, linux_boots, boots))
    text = f"{circumstances(peers.linux, arguments.turns, load)}\n\n{markdown(rows)}"
    if ours_together:
        text += f"\n\n{scaling(ours_together, linux_together)}"
    print(text)
    if arguments.write:
        write_page(text)


if __name__ == "__main__":
    main()
