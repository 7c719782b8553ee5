#!/usr/bin/env python3
"""`make run`: boots the ISO on a machine with a real disk behind an NVMe controller and a network
card, shows what the kernel prints while it prints it, and compares the disk's CRC-32 with the
host's own.

Ends with status 0 when the guest passed and both figures agree, otherwise with the reason.
"""

import argparse
import os
import re
import sys
from pathlib import Path

import guest
from machines import ALL_DEVICES, Machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from mkdisk import ensure_disk  # noqa: E402

MACHINE = Machine("demo", door="iso", timeout=120)
CRC_LINE = re.compile(r"disk: crc32 of the first 64 MiB: (0x[0-9a-f]{8})")


def reason_of_failure(outcome, crc):
    """None when all is well."""
    if outcome.timed_out:
        return f"the guest did not end within {MACHINE.timeout} s"
    if outcome.status != guest.PASSED:
        name = guest.STATUS_NAMES.get(outcome.status, outcome.errors or "it did not end by itself")
        return f"the guest ended with status {outcome.status}: {name}"
    found = [match[1] for match in map(CRC_LINE.search, outcome.lines) if match]
    if not found:
        return "the guest did not print the CRC-32 of the disk"
    if found[-1] != crc:
        return f"the guest read crc32 {found[-1]}, but the host wrote {crc}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build")
    build = Path(parser.parse_args().build)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    disk = build / "disk.img"
    crc = ensure_disk(disk)
    (build / "logs").mkdir(exist_ok=True)
    devices = [argument.format(disk=disk) for argument in ALL_DEVICES]
    command = guest.qemu_command(MACHINE, (MACHINE.door, build / "iospace.iso"), devices)
    outcome = guest.run_qemu(command, MACHINE.timeout, build / "logs" / "demo.log",
                             lambda line, *_: print(line, flush=True))
    reason = reason_of_failure(outcome, crc)
    print()
    if reason:
        sys.exit(f"host: FAILED: {reason}")
    print(f"host: crc32 of the first 64 MiB: {crc}: the guest read what the host wrote")
    print(f"host: passed, {outcome.seconds:.1f} s")


if __name__ == "__main__":
    main()
