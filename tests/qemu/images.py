#!/usr/bin/env python3
"""Bootable images around one kernel: always GRUB and multiboot2, through three doors.

  iso    grub-mkrescue's ISO, for BIOS and UEFI: what users run
  core   GRUB's core image with the kernel inside, for QEMU's -kernel under SeaBIOS: the quickest
  efi    the same as an EFI program, for QEMU's -kernel under OVMF

The kernel's command line is part of GRUB's configuration, so each command line has an image of its
own; ImageStore makes them on demand.

As a program:  images.py iso|core|efi KERNEL OUTPUT [COMMAND LINE]
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import threading
from pathlib import Path

GRUB_LIBRARY = Path("/usr/lib/grub")
GRUB_PREFIX = "(memdisk)/boot/grub"
MODULES = ["memdisk", "tar", "multiboot2", "normal", "configfile"]


def grub_configuration(command_line):
    return (
        "set timeout=0\n"
        "set default=0\n"
        'menuentry "IoSpace" {\n'
        f"    multiboot2 /boot/iospace {command_line}\n"
        "    boot\n"
        "}\n"
    )


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()}")


def make_memdisk(kernel, command_line, path):
    files = {
        "boot/iospace": Path(kernel).read_bytes(),
        # A core image starts in a memory disk, where "/" is not the root of anything.
        "boot/grub/grub.cfg": b"set root=memdisk\n" + grub_configuration(command_line).encode(),
    }
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def make_grub_program(kernel, output, command_line, target, modules):
    with tempfile.TemporaryDirectory() as folder:
        memdisk = Path(folder, "memdisk.tar")
        make_memdisk(kernel, command_line, memdisk)
        run(["grub-mkimage", "-O", target, "-o", str(output), "-m", str(memdisk), "-p", GRUB_PREFIX]
            + MODULES + modules)


def make_core(kernel, output, command_line):
    make_grub_program(kernel, output, command_line, "i386-pc", ["biosdisk"])
    loader = GRUB_LIBRARY / "i386-pc" / "lnxboot.img"
    output.write_bytes(loader.read_bytes() + output.read_bytes())


def make_efi(kernel, output, command_line):
    make_grub_program(kernel, output, command_line, "x86_64-efi", [])


def make_iso(kernel, output, command_line):
    with tempfile.TemporaryDirectory() as folder:
        grub = Path(folder, "boot", "grub")
        grub.mkdir(parents=True)
        Path(folder, "boot", "iospace").write_bytes(Path(kernel).read_bytes())
        (grub / "grub.cfg").write_text(grub_configuration(command_line))
        run(["grub-mkrescue", "-o", str(output), folder])


MAKERS = {"iso": make_iso, "core": make_core, "efi": make_efi}


class ImageStore:
    """Makes each (door, command line) once; safe to ask from several threads."""

    def __init__(self, kernel, folder):
        self.kernel = kernel
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.images = {}
        self.lock = threading.Lock()

    def get(self, door, command_line):
        with self.lock:
            key = (door, command_line)
            if key not in self.images:
                path = self.folder / f"{len(self.images):03}.{door}"
                MAKERS[door](self.kernel, path, command_line)
                self.images[key] = path
            return self.images[key]


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in MAKERS:
        sys.exit(__doc__)
    door, kernel, output = sys.argv[1:4]
    MAKERS[door](kernel, Path(output), " ".join(sys.argv[4:]))


if __name__ == "__main__":
    main()
