"""The corpus of the loader's tests and fuzzer, tests/host/fuzz/images.

  images.py --drivers build/testdrivers    takes the small drivers of the tests anew, as they were built
  images.py --found FOLDER [--keep 16]     adds the smallest of what the fuzzer has found, and of those
                                           that begin alike one only

Sizes and contents change with the compiler; the committed files are those of one day.
"""

import argparse
import hashlib
import shutil
import sys
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "images"
DRIVERS = ("ldrbare.sys", "ldrlib.sys", "ldrmissing.sys", "ldruser.sys")
HEADER_BYTES = 0x200


def take_drivers(folder):
    CORPUS.mkdir(exist_ok=True)
    for name in DRIVERS:
        shutil.copyfile(folder / name, CORPUS / name)


def add_found(folder, keep):
    known = set()
    for path in sorted(folder.iterdir(), key=lambda path: (path.stat().st_size, path.name)):
        data = path.read_bytes()
        if keep and data[:HEADER_BYTES] not in known and len(data) >= HEADER_BYTES:
            known.add(data[:HEADER_BYTES])
            (CORPUS / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
            keep -= 1


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drivers", type=Path)
    parser.add_argument("--found", type=Path)
    parser.add_argument("--keep", type=int, default=16)
    arguments = parser.parse_args()
    if arguments.drivers:
        take_drivers(arguments.drivers)
    if arguments.found:
        add_found(arguments.found, arguments.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
