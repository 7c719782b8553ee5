"""The memory that a guest shares with the host: a file behind QEMU's ivshmem-plain. What the guest's
driver wrote is checked in the file after the guest has ended, so every physical address that the
driver used is proved by who knows nothing of the guest.

Each quarter of the memory was written another way. Its words of eight bytes say which way, and their
own place (IVSHMEM_WORD in kernel/ddk/ntddivshmem.h), so that a page in the wrong place shows.
"""

# proves 4.4.1, 5.2.1, 6.8.1: the host finds in a device's memory what each mapping of it wrote

import struct

BYTES = 4 << 20
WORD_BYTES = 8
UNTOUCHED = b"\xEE"
WAYS = ("write-combined", "cached", "through a reserved mapping", "by IRP_MJ_WRITE")
SHOWN = 4


def create(path):
    path.write_bytes(UNTOUCHED * BYTES)


def complaints(path):
    """(checked words, sentences about those that are wrong)."""
    quarter = BYTES // len(WAYS)
    content = path.read_bytes()
    words = struct.unpack(f"<{len(content) // WORD_BYTES}Q", content)
    wrong = [(index * WORD_BYTES, word) for index, word in enumerate(words)
             if word != ((index * WORD_BYTES // quarter + 1) << 56 | index * WORD_BYTES)]
    sentences = [f"shared memory: 0x{word:016x} at 0x{offset:x}, which was to be written "
                 f"{WAYS[offset // quarter]}" for offset, word in wrong[:SHOWN]]
    if len(wrong) > SHOWN:
        sentences.append(f"shared memory: {len(wrong)} of {len(words)} words are wrong")
    return len(words), sentences
