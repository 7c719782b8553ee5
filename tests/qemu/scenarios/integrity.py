"""What a random workload wrote is compared with the images, byte for byte. The guest's half is
tests/kernel/t_integrity.c, with the model of integrity.c: layout and constants are the same here.
"""

import struct
from itertools import chain

from host import Host
from machines import NO_LEAKS, Machine
from scenarios.storage import blockdev

MAGIC = 0x31304B434F4C4249
GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
HEADER = struct.Struct("<QII")  # magic, tag, block count
RECORD = struct.Struct("<IIII")  # three generations, and how many of them count
HEADER_WORDS = 4
MEMORY_BYTES = 4 << 20
SHOWN = 4

# (tag, namespace, bytes of a block, bytes)
DISKS = ((1, 1, 512, 16 << 20), (2, 2, 4096, 24 << 20), (3, 7, 512, 4 << 20))
FAULTY_TAG = 1
FAULTS = ([("read", 1000 + 3000 * index, False) for index in range(4)] +
          [("write", 2000 + 500 * index, True) for index in range(40)])


def mix(value):
    value = (value + GOLDEN) & MASK
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & MASK
    return value ^ value >> 31


class Blocks:
    """The contents that blocks of one disk may have."""

    def __init__(self, tag, block_bytes):
        self.tag, self.block_bytes, self.tag_word = tag, block_bytes, mix(tag)
        words = range(HEADER_WORDS, block_bytes // 8)
        self.pattern = sum((index * GOLDEN & MASK) << 64 * (index - HEADER_WORDS)
                           for index in words)
        self.everywhere = sum(1 << 64 * (index - HEADER_WORDS) for index in words)
        self.zero = bytes(block_bytes)

    def content(self, block, generation):
        if generation == 0:
            return self.zero
        check = mix(generation << 32 | block) ^ self.tag_word
        rest = self.everywhere * check ^ self.pattern
        return (struct.pack("<QQQQ", (MAGIC + self.tag) & MASK, block, generation, check) +
                rest.to_bytes(self.block_bytes - 8 * HEADER_WORDS, "little"))

    def describe(self, data):
        if data == self.zero:
            return "zeros"
        magic, block, generation, _ = struct.unpack_from("<QQQQ", data)
        if magic - MAGIC not in range(1, 256):
            return f"something else: {data[:16].hex()}"
        right = data == Blocks(magic - MAGIC, self.block_bytes).content(block, generation)
        return (f"{'' if right else 'damaged '}generation {generation} of block {block} of disk "
                f"{magic - MAGIC}")


class IntegrityHost(Host):
    """Makes empty images with a mark in the last block, and judges them by the guest's model."""

    HAS_FAULTS = False

    def image(self, tag):
        return self.folder / f"n{tag}.img"

    def prepare(self):
        (self.folder / "model").write_bytes(b"\xEE" * MEMORY_BYTES)
        for tag, identity, block_bytes, disk_bytes in DISKS:
            with open(self.image(tag), "wb") as image:
                image.seek(disk_bytes - block_bytes)
                image.write(self.mark(tag, identity, block_bytes))

    @staticmethod
    def mark(tag, identity, block_bytes):
        return struct.pack("<QQQ", MAGIC, tag, identity).ljust(block_bytes, b"\x77")

    def do_faults(self, _):
        return int(self.HAS_FAULTS)

    def judge(self, outcome):
        models = self.read_model()
        self.verdict.check(sorted(models) == [disk[0] for disk in DISKS],
                           f"the guest told of disks {sorted(models)}")
        for tag, identity, block_bytes, _ in DISKS:
            if tag in models:
                self.compare(tag, identity, block_bytes, models[tag])

    def read_model(self):
        """{tag: records of its blocks}, as far as the guest has written it."""
        data = (self.folder / "model").read_bytes()
        place, models = 0, {}
        while place + HEADER.size <= len(data):
            magic, tag, count = HEADER.unpack_from(data, place)
            if magic != MAGIC:
                break
            place += HEADER.size
            end = place + count * RECORD.size
            models[tag] = list(RECORD.iter_unpack(data[place:end]))
            place = end
        return models

    def compare(self, tag, identity, block_bytes, records):
        blocks, wrong, written, open_count = Blocks(tag, block_bytes), [], 0, 0
        with open(self.image(tag), "rb") as image:
            for number, (*generations, count) in enumerate(records):
                data = image.read(block_bytes)
                allowed = generations[:count]
                written += allowed != [0]
                open_count += count > 1
                if all(data != blocks.content(number, one) for one in allowed):
                    wrong.append(f"disk {tag}, block {number}: {blocks.describe(data)}; it may "
                                 f"hold generations {allowed}")
            is_marked = image.read() == self.mark(tag, identity, block_bytes)
        self.verdict.check(not wrong, f"{len(wrong)} blocks of disk {tag} are wrong")
        self.verdict.failures += wrong[:SHOWN]
        self.verdict.check(is_marked, f"the last block of disk {tag} was written to")
        self.verdict.notes.append(f"disk {tag}: {len(records)} blocks of {block_bytes} bytes "
                                  f"compared, {written} written, {open_count} with a choice")


class FaultyHost(IntegrityHost):
    HAS_FAULTS = True


class DamagingHost(IntegrityHost):
    """Turns a bit in each image before it compares: the comparison must notice."""

    def judge(self, outcome):
        for tag, _, block_bytes, disk_bytes in DISKS:
            with open(self.image(tag), "r+b") as image:
                place = disk_bytes // 2 + block_bytes - 1
                image.seek(place)
                byte = image.read(1)[0]
                image.seek(place)
                image.write(bytes([byte ^ 1]))
        super().judge(outcome)


def image_of(tag):
    return blockdev({"driver": "file", "node-name": f"n{tag}", "discard": "unmap",
                     "filename": f"{{folder}}/n{tag}.img"})


def faulty_image_of(tag):
    rules = [{"event": "none", "iotype": kind, "errno": 5, "sector": sector, "once": once}
             for kind, sector, once in FAULTS]
    image = {"driver": "file", "discard": "unmap", "filename": f"{{folder}}/n{tag}.img"}
    return blockdev({"driver": "blkdebug", "node-name": f"n{tag}", "discard": "unmap",
                     "image": image, "inject-error": rules})


SHARED_MEMORY = ("-object", f"memory-backend-file,id=shared,size={MEMORY_BYTES},"
                 "mem-path={folder}/model,share=on", "-device", "ivshmem-plain,memdev=shared")


CONTROLLER = ("-device", "nvme,id=c,serial=SCRATCH0001")


def namespaces():
    for tag, identity, block_bytes, _ in DISKS:
        yield from ("-device", f"nvme-ns,drive=n{tag},bus=c,nsid={identity},"
                               f"logical_block_size={block_bytes},physical_block_size={block_bytes}")


def devices(has_faults):
    images = [faulty_image_of(tag) if has_faults and tag == FAULTY_TAG else image_of(tag)
              for tag, *_ in DISKS]
    return (*SHARED_MEMORY, *chain(*images), *CONTROLLER, *namespaces())


def workload(name, options="", host=IntegrityHost, **fields):
    return Machine(f"integrity-{name}", host=host, patterns=(NO_LEAKS,), timeout=180,
                   options=f"mode=test filter=integrity: {options}",
                   **{"devices": devices(host.HAS_FAULTS), **fields})


ROWS = (
    workload("notices-a-bit", "seconds=1", DamagingHost,
             complaints=tuple(pattern for tag, *_ in DISKS for pattern in (
                 f"^1 blocks of disk {tag} are wrong", f"^disk {tag}, block [0-9]+: "))),
    workload("faults", "seconds=8", FaultyHost),
    workload("resets", "seconds=8 resets"),
    # QEMU cuts the function off from memory first, and then ends what is under way.
    workload("function-resets", "seconds=5 resets=function",
             allowed=("^Invalid (read|write) at addr 0x.*, reason: rejected$",)),
    workload("bounce-verifier", "seconds=5 dma=bounce verifier=1", ram="256M"),
)
