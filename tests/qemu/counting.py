"""The plugin that counts a guest's instructions (count.c): its building, its argument, its output."""

import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).with_name("count.c")


@dataclass
class Counts:
    regions: list = field(default_factory=list)  # instructions of each, in the order of their ends
    blocks: list = field(default_factory=list)  # (address, instructions, how often)


def plugin(folder):
    """The plugin, built if it is older than its source."""
    library = folder / "count.so"
    if not library.exists() or library.stat().st_mtime < SOURCE.stat().st_mtime:
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
                        "-fvisibility=hidden", "-o", str(library), str(SOURCE)], check=True)
    return library


def arguments(folder, output, entry=None):
    """More of QEMU's command line. The counts go to the file `output`; with an entry, the first region
    begins at this address."""
    words = f"{plugin(folder).resolve()},out={Path(output).resolve()}"
    return ("-plugin", words + (f",from={entry:#x}" if entry else ""))


def elf_entry(kernel):
    """The physical address at which a boot loader enters an ELF file."""
    data = kernel.read_bytes()
    entry, headers = struct.unpack_from("<QQ", data, 24)
    size, count = struct.unpack_from("<HH", data, 54)
    for place in range(headers, headers + count * size, size):
        kind, _, _, virtual, physical, _, byte_count = struct.unpack_from("<IIQQQQQ", data, place)
        if kind == 1 and virtual <= entry < virtual + byte_count:
            return entry - virtual + physical
    raise ValueError(f"{kernel}: its entry is in none of its segments")


def read(output):
    counts = Counts()
    for line in Path(output).read_text().splitlines():
        kind, *words = line.split()
        if kind == "region":
            counts.regions.append(int(words[0]))
        else:
            counts.blocks.append((int(words[0], 16), int(words[1]), int(words[2])))
    return counts
