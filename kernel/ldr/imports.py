#!/usr/bin/env python3
"""`make imports DRIVER=x.sys`: what a driver imports, and whether it will find it.

  imports.py LIST DRIVER [FOLDER...]

LIST is kernel/ldr/exports.txt. ntoskrnl.exe and HAL.dll are the kernel; any other module is looked
for, by its name, beside the driver and in the folders. Status 1: something is missing, 2: DRIVER is
no image that can be read.
"""

import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path

import makeexports

KERNEL = ("ntoskrnl.exe", "hal.dll")
ORDINAL_BIT = 1 << 63
MAXIMUM_FORWARDS = 8


class BadImage(Exception):
    pass


@dataclass
class Image:
    """As much of a PE32+ file as linking needs."""
    path: Path
    data: bytes = field(repr=False)

    def __post_init__(self):
        self.check(self.data[:2] == b"MZ", "has no MZ header")
        header = self.number("<I", 0x3C)
        self.check(self.data[header:header + 4] == b"PE\0\0", "has no PE header")
        self.check(self.number("<H", header + 4) == 0x8664, "is not for x86-64")
        self.check(self.number("<H", header + 24) == 0x20B, "is not PE32+")
        count, optional_bytes = self.number("<H", header + 6), self.number("<H", header + 20)
        self.directories = header + 24 + 112
        self.directory_count = self.number("<I", self.directories - 4)
        first = header + 24 + optional_bytes
        self.sections = [struct.unpack_from("<8xIIII", self.slice(first + 40 * index, 40))
                         for index in range(count)]

    def check(self, condition, text):
        if not condition:
            raise BadImage(f"{self.path}: {text}")

    def slice(self, offset, count):
        self.check(0 <= offset and offset + count <= len(self.data), "is cut short")
        return self.data[offset:offset + count]

    def number(self, code, offset):
        return struct.unpack(code, self.slice(offset, struct.calcsize(code)))[0]

    def offset(self, rva):
        for virtual_bytes, start, raw_bytes, raw in self.sections:
            if start <= rva < start + max(virtual_bytes, raw_bytes):
                return raw + rva - start
        raise BadImage(f"{self.path}: RVA 0x{rva:x} lies in no section")

    def text(self, rva):
        start = self.offset(rva)
        end = self.data.find(b"\0", start)
        self.check(end >= 0, "is cut short")
        return self.data[start:end].decode("latin-1")

    def directory(self, index):
        if index >= self.directory_count:
            return 0, 0
        return struct.unpack("<II", self.slice(self.directories + 8 * index, 8))

    def imports(self):
        """(module, name or #ordinal), in the order of the file."""
        rva, _ = self.directory(1)
        while rva:
            names, _, _, module, slots = struct.unpack("<IIIII", self.slice(self.offset(rva), 20))
            if module == 0 or slots == 0:
                return
            yield from ((self.text(module), name) for name in self.thunks(names or slots))
            rva += 20

    def thunks(self, rva):
        while entry := self.number("<Q", self.offset(rva)):
            yield f"#{entry & 0xFFFF}" if entry & ORDINAL_BIT else self.text((entry & 0x7FFFFFFF) + 2)
            rva += 8

    def exports(self):
        """{name and #ordinal: None, or the text of a forwarder}"""
        rva, size = self.directory(0)
        if rva == 0:
            return {}
        base, count, name_count, functions, names, ordinals = struct.unpack(
            "<IIIIII", self.slice(self.offset(rva) + 16, 24))
        targets = [self.number("<I", self.offset(functions + 4 * index)) for index in range(count)]
        forward = [self.text(target) if rva <= target < rva + size else None for target in targets]
        found = {f"#{base + index}": forward[index] for index in range(count) if targets[index]}
        for index in range(name_count):
            place = self.number("<H", self.offset(ordinals + 2 * index))
            self.check(place < count, "has an export directory that contradicts itself")
            found[self.text(self.number("<I", self.offset(names + 4 * index)))] = forward[place]
        return found


class Linker:
    def __init__(self, kernel_names, folders):
        self.kernel_names = set(kernel_names)
        self.folders = folders
        self.modules = {}

    def exports_of(self, module):
        """As Image.exports; None: there is no such module."""
        key = module.lower()
        if key in KERNEL:
            return dict.fromkeys(self.kernel_names)
        if key not in self.modules:
            paths = [path for folder in self.folders for path in sorted(Path(folder).glob("*"))
                     if path.name.lower() == key]
            self.modules[key] = Image(paths[0], paths[0].read_bytes()).exports() if paths else None
        return self.modules[key]

    def look_up(self, module, name, forwards=0):
        """What becomes of an import: (good, words)"""
        exports = self.exports_of(module)
        if exports is None:
            return False, f"missing: there is no {module} beside the driver"
        if name not in exports:
            return False, f"missing: {module} does not export it"
        target = exports[name]
        if target is None:
            return True, "found"
        if forwards == MAXIMUM_FORWARDS:
            return False, "missing: its forwarders lead in a circle"
        module, _, name = target.rpartition(".")
        module += "" if "." in module else self.suffix(module)
        good, words = self.look_up(module, name, forwards + 1)
        return good, f"{words}, forwarded to {target}"

    def suffix(self, stem):
        known = [name for folder in self.folders for name in (p.name for p in Path(folder).glob("*"))]
        names = {name.lower() for name in (*KERNEL, *known)}
        return next((end for end in (".dll", ".sys", ".exe") if stem.lower() + end in names), ".dll")


def main(arguments):
    names = [export.name for export in makeexports.read(arguments[0])]
    driver = Path(arguments[1])
    linker = Linker(names, [driver.parent, *arguments[2:]])
    missing = count = 0
    for module, name in Image(driver, driver.read_bytes()).imports():
        good, words = linker.look_up(module, name)
        print(f"{module:16} {name:44} {words}")
        count += 1
        missing += not good
    print(f"{driver.name}: {count} imports, {missing} missing")
    return 1 if missing else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (BadImage, OSError, makeexports.Refusal) as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(2)
