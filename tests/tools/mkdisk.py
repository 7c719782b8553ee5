#!/usr/bin/env python3
"""Makes the disk that `make run` and the tests read: GPT, one FAT file system, real files in it.

The same bytes every time. Beside the image goes IMAGE.crc: the CRC-32 of its first 64 MiB, as
0x%08x.

Usage: mkdisk.py IMAGE
"""

import os
import random
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

MIB = 1 << 20
SECTOR_BYTES = 512
DISK_BYTES = 96 * MIB
CRC_BYTES = 64 * MIB
PARTITION_FIRST_SECTOR = 2048
PARTITION_LAST_SECTOR = DISK_BYTES // SECTOR_BYTES - 2048 - 1
DISK_GUID = "494F5350-4143-4500-8000-000000000001"
PARTITION_GUID = "494F5350-4143-4500-8000-000000000002"
FILE_TIME = 1577836800  # 2020-01-01

FILES = {
    "README.TXT": b"This file system was made by mkfs.fat and filled by mcopy.\r\n",
    "LETTERS.TXT": b"".join(bytes([65 + line % 26]) * 70 + b"\r\n" for line in range(5000)),
    "RANDOM.BIN": random.Random(1).randbytes(24 * MIB),
    "ZEROES.BIN": bytes(4 * MIB),
    "FOLDER/NESTED.TXT": b"A file in a folder.\r\n",
}


def run(*command):
    environment = dict(os.environ, SOURCE_DATE_EPOCH=str(FILE_TIME), TZ="UTC",
                       MTOOLS_SKIP_CHECK="1", PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")


def write_tree(folder):
    """The files on the host, with fixed times; returns what mcopy shall copy."""
    for name, data in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    for path in folder.rglob("*"):
        os.utime(path, (FILE_TIME, FILE_TIME))
    return sorted(str(path) for path in folder.iterdir())


def make_disk(path):
    with open(path, "wb") as image:
        image.truncate(DISK_BYTES)
    run("sgdisk", "--disk-guid", DISK_GUID,
        "--new", f"1:{PARTITION_FIRST_SECTOR}:{PARTITION_LAST_SECTOR}", "--typecode", "1:0700",
        "--change-name", "1:IoSpace data", "--partition-guid", f"1:{PARTITION_GUID}", str(path))
    kibibytes = (PARTITION_LAST_SECTOR - PARTITION_FIRST_SECTOR + 1) // 2
    run("mkfs.fat", "-F", "32", "-n", "IOSPACE", "--invariant",
        "--offset", str(PARTITION_FIRST_SECTOR), str(path), str(kibibytes))
    with tempfile.TemporaryDirectory() as folder:
        names = write_tree(Path(folder))
        where = f"{path}@@{PARTITION_FIRST_SECTOR * SECTOR_BYTES}"
        run("mcopy", "-s", "-m", "-Q", "-i", where, *names, "::/")


def crc_of(path):
    with open(path, "rb") as image:
        return f"0x{zlib.crc32(image.read(CRC_BYTES)):08x}"


def ensure_disk(path):
    """Makes the image unless it is there, whole and newer than this program; returns its CRC."""
    path = Path(path)
    crc = Path(f"{path}.crc")
    if not crc.exists() or not path.exists() or crc.stat().st_mtime < os.stat(__file__).st_mtime:
        path.parent.mkdir(parents=True, exist_ok=True)
        make_disk(path)
        crc.write_text(crc_of(path) + "\n")
    return crc.read_text().strip()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(ensure_disk(sys.argv[1]))
