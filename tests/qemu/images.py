#!/usr/bin/env python3
"""Bootable images around one kernel: always GRUB and multiboot2, through three doors.

  iso    grub-mkrescue's ISO, for BIOS and UEFI: what users run
  cd     a CD with GRUB, the kernel and nothing else, for SeaBIOS: the quickest
  efi    GRUB as an EFI program with everything inside, for QEMU's -kernel under OVMF

Drivers go along as GRUB's modules, beside the kernel: `module2 /boot/x.sys x.sys ARGUMENTS`. The
arguments say what the driver is for: hardware ids, or the word `demand`.

The kernel's command line is part of GRUB's configuration, so each command line has an image of its
own; ImageStore makes them on demand.

As a program:  images.py iso|cd|efi KERNEL OUTPUT [COMMAND LINE]
The drivers are those of the folders `drivers` and `testdrivers` beside the kernel.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import inf  # noqa: E402

GRUB_MODULES = ["multiboot2", "normal", "configfile"]
GRUB_CD_IMAGE = "boot/grub/cd.img"

DEMAND = "demand"  # an argument: nothing loads the driver but a test that asks for it


@dataclass(frozen=True)
class Module:
    """A driver that is put beside the kernel."""
    path: Path
    arguments: tuple = ()  # words

    @property
    def name(self):
        return self.path.name


def module_of(path, ids=None, extra=()):
    """A driver with the ids given, or else with those of the .inf beside it, if there is one; and with
    the words in extra."""
    path = Path(path)
    beside = path.with_suffix(".inf")
    words = ()
    if ids is None and beside.exists():
        said = inf.read(beside)
        ids = said.hardware_ids
        words = (f"messages={said.messages}",) if said.messages else ()
        words += (f"{said.filter}filter",) if said.filter else ()
        words += tuple(inf.argument(*value) for value in said.values)
    return Module(path, (*(ids or ()), *words, *extra))


def own_drivers(kernel):
    """The drivers that belong to a kernel."""
    return tuple(module_of(path) for path in sorted(Path(kernel).parent.glob("drivers/*.sys")))


def test_drivers(kernel, started=()):
    """The drivers of tests/drivers: those named start, all others wait until a test asks for them."""
    paths = sorted(Path(kernel).parent.glob("testdrivers/*.sys"))
    return tuple(module_of(path, extra=() if path.stem in started else (DEMAND,)) for path in paths)


def quote(word):
    """A word for GRUB's shell, to which backslash, & and quotes mean something."""
    if "'" in word or "\n" in word:
        raise ValueError(f"GRUB cannot be given the word {word}")
    return f"'{word}'"


def grub_configuration(command_line, modules):
    lines = [f"    module2 /boot/{module.name} {' '.join(map(quote, (module.name, *module.arguments)))}\n"
             for module in modules]
    return (
        "set timeout=0\n"
        "set default=0\n"
        'menuentry "IoSpace" {\n'
        f"    multiboot2 /boot/iospace {command_line}\n"
        f"{''.join(lines)}"
        "    boot\n"
        "}\n"
    )


def files_of(kernel, modules):
    """{path in the image: its bytes}; the configuration comes beside them."""
    return {"boot/iospace": Path(kernel).read_bytes(),
            **{f"boot/{module.name}": module.path.read_bytes() for module in modules}}


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()}")


def make_memdisk(kernel, command_line, modules, path):
    # An EFI program starts in a memory disk, where "/" is not the root of anything.
    configuration = "set root=memdisk\n" + grub_configuration(command_line, modules)
    files = {**files_of(kernel, modules), "boot/grub/grub.cfg": configuration.encode()}
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def make_efi(kernel, output, command_line, modules):
    with tempfile.TemporaryDirectory() as folder:
        memdisk = Path(folder, "memdisk.tar")
        make_memdisk(kernel, command_line, modules, memdisk)
        run(["grub-mkimage", "-O", "x86_64-efi", "-o", str(output), "-m", str(memdisk),
             "-p", "(memdisk)/boot/grub", "memdisk", "tar", *GRUB_MODULES])


def make_tree(kernel, command_line, modules, folder):
    """The files of a CD."""
    Path(folder, "boot", "grub").mkdir(parents=True)
    for name, data in files_of(kernel, modules).items():
        Path(folder, name).write_bytes(data)
    Path(folder, "boot", "grub", "grub.cfg").write_text(grub_configuration(command_line, modules))


def make_cd(kernel, output, command_line, modules):
    with tempfile.TemporaryDirectory() as folder:
        make_tree(kernel, command_line, modules, folder)
        run(["grub-mkimage", "-O", "i386-pc-eltorito", "-o", str(Path(folder, GRUB_CD_IMAGE)),
             "-p", "/boot/grub", "biosdisk", "iso9660", *GRUB_MODULES])
        run(["xorriso", "-as", "mkisofs", "-quiet", "-o", str(output), "-b", GRUB_CD_IMAGE,
             "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", folder])


def make_iso(kernel, output, command_line, modules):
    with tempfile.TemporaryDirectory() as folder:
        make_tree(kernel, command_line, modules, folder)
        run(["grub-mkrescue", "-o", str(output), folder])


MAKERS = {"iso": make_iso, "cd": make_cd, "efi": make_efi}


class ImageStore:
    """Makes each (door, command line, modules) once; safe to ask from several threads."""

    def __init__(self, kernel, folder):
        self.kernel = Path(kernel)
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.images = {}
        self.lock = threading.Lock()

    def get(self, door, command_line, more=()):
        """`more`: modules besides the kernel's own drivers, and before them: the first one that names
        a device gets it."""
        with self.lock:
            key = (door, command_line, more)
            if key not in self.images:
                path = self.folder / f"{len(self.images):03}.{door}"
                modules = more + own_drivers(self.kernel)
                MAKERS[door](self.kernel, path, command_line, modules)
                self.images[key] = path
            return self.images[key]


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in MAKERS:
        sys.exit(__doc__)
    door, kernel, output = sys.argv[1:4]
    modules = own_drivers(kernel) + test_drivers(kernel)
    MAKERS[door](kernel, Path(output), " ".join(sys.argv[4:]), modules)


if __name__ == "__main__":
    main()
