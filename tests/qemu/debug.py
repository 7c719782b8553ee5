#!/usr/bin/env python3
"""`make gdb`: QEMU waits at its first instruction and gdb attaches with the kernel's symbols.

Without a terminal it only prints the two commands. Words after `--` are the kernel's command line.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

import guest
from images import make_cd, own_drivers
from machines import ALL_DEVICES, Machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from mkdisk import ensure_disk  # noqa: E402

MACHINE = Machine("debug")
PORT = 1234


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build")
    parser.add_argument("options", nargs="*", default=["mode=demo"])
    arguments = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    build = Path(arguments.build)
    disk, image, serial = build / "disk.img", build / "debug.cd", build / "debug.serial"
    ensure_disk(disk)
    make_cd(build / "iospace", image, " ".join(arguments.options),
              own_drivers(build / "iospace"))
    devices = [argument.format(disk=disk) for argument in ALL_DEVICES]
    qemu = guest.qemu_command(MACHINE, (MACHINE.door, image), devices)
    qemu += ["-serial", f"file:{serial}", "-S", "-gdb", f"tcp:127.0.0.1:{PORT}"]
    gdb = ["gdb", "-ex", f"target remote 127.0.0.1:{PORT}", "-ex", "hbreak KiSystemStartup",
           "-ex", "continue", str(build / "iospace.elf")]
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print(shlex.join(qemu))
        print(shlex.join(gdb))
        return
    print(f"The guest's serial output goes to {serial}.")
    child = subprocess.Popen(qemu, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        subprocess.run(gdb)
    finally:
        guest.end_child(child)


if __name__ == "__main__":
    main()
