#!/usr/bin/env python3
"""`make run`: boots the ISO on a machine with a real disk behind an NVMe controller and a network
card, shows what the kernel prints while it prints it, and compares the disk's CRC-32 with the
host's own.

With --driver, the same machine boots with somebody's driver beside the kernel: `make run DRIVER=x.sys`.
The kernel starts it on its devices, gives it a second, removes and unloads it, and tells what it left
behind.

Ends with status 0 when the guest passed and both figures agree, otherwise with the reason.
"""

import argparse
import os
import re
import shlex
import sys
from pathlib import Path

import guest
from images import make_cd, module_of, own_drivers
from machines import ALL_DEVICES, Machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from mkdisk import ensure_disk  # noqa: E402

MACHINE = Machine("demo", door="iso", timeout=120)
DRIVER_MACHINE = Machine("drivers", timeout=60)
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


def run_demo(build, devices, crc):
    """Boots the ISO. None, or why it failed."""
    command = guest.qemu_command(MACHINE, (MACHINE.door, build / "iospace.iso"), devices)
    outcome = guest.run_qemu(command, MACHINE.timeout, build / "logs" / "demo.log", show)
    reason = reason_of_failure(outcome, crc)
    print()
    if reason is None:
        print(f"host: crc32 of the first 64 MiB: {crc}: the guest read what the host wrote")
        print(f"host: passed, {outcome.seconds:.1f} s")
    return reason


def show(line, *_):
    print(line, flush=True)


def run_drivers(build, devices, modules, options):
    """Boots with the drivers in `modules`. None, or why it failed."""
    (build / "images").mkdir(exist_ok=True)
    image = build / "images" / "drivers.cd"
    names = {module.name for module in modules}
    others = tuple(module for module in own_drivers(build / "iospace") if module.name not in names)
    # Theirs first: the first driver that names a device gets it.
    make_cd(build / "iospace", image, f"mode=drivers {options}".strip(), modules + others)
    command = guest.qemu_command(DRIVER_MACHINE, (DRIVER_MACHINE.door, image), devices)
    outcome = guest.run_qemu(command, DRIVER_MACHINE.timeout, build / "logs" / "drivers.log", show)
    for line in outcome.device_log:
        print(f"host: QEMU says: {line}")
    if outcome.timed_out:
        return f"the guest did not end within {DRIVER_MACHINE.timeout} s"
    if outcome.status != guest.PASSED:
        name = guest.STATUS_NAMES.get(outcome.status, outcome.errors or "it did not end by itself")
        return f"the guest ended with status {outcome.status}: {name}"
    print(f"\nhost: the guest ended well, {outcome.seconds:.1f} s")
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build")
    parser.add_argument("--driver", action="append", default=[], help="a .sys to boot with")
    parser.add_argument("--ids", help="hardware ids for it, instead of those of the .inf beside it")
    parser.add_argument("--qemu", default="", help="more arguments for QEMU")
    parser.add_argument("--options", default="", help="more boot options for the kernel")
    arguments = parser.parse_args()
    build = Path(arguments.build)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    disk = build / "disk.img"
    crc = ensure_disk(disk)
    (build / "logs").mkdir(exist_ok=True)
    devices = [argument.format(disk=disk) for argument in ALL_DEVICES]
    devices += shlex.split(arguments.qemu)
    if arguments.driver:
        ids = arguments.ids.split() if arguments.ids else None
        modules = tuple(module_of(path, ids) for path in arguments.driver)
        reason = run_drivers(build, devices, modules, arguments.options)
    else:
        reason = run_demo(build, devices, crc)
    if reason:
        sys.exit(f"host: FAILED: {reason}")


if __name__ == "__main__":
    main()
