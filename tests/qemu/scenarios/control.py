"""Disks whose format, health and namespaces change, and the memory of NVMe controllers."""

import struct

from host import Host
from machines import NO_LEAKS, Machine
from scenarios.storage import DISK_BYTES, WRONG_DOORBELL, blockdev

# As tests/kernel/t_nvmecontrol.c has them.
PMR_BYTES = 4 << 20
PMR_WAYS = ("by IRP_MJ_WRITE", "through a mapping")
WORD_BYTES = 8
UNTOUCHED = b"\xEE"
SHOWN = 4


class ControlHost(Host):
    """Two empty images, the nodes n0 and n1, and a file that is persistent memory."""

    def prepare(self):
        for name in ("n0.img", "n1.img"):
            with open(self.folder / name, "wb") as image:
                image.truncate(DISK_BYTES)
        (self.folder / "pmr").write_bytes(UNTOUCHED * PMR_BYTES)


class PersistentHost(ControlHost):
    """Looks into persistent memory after the guest has ended."""

    def judge(self, outcome):
        half = PMR_BYTES // len(PMR_WAYS)
        words = struct.unpack(f"<{PMR_BYTES // WORD_BYTES}Q", (self.folder / "pmr").read_bytes())
        wrong = [(index * WORD_BYTES, word) for index, word in enumerate(words)
                 if word != ((index * WORD_BYTES // half + 1) << 56 | index * WORD_BYTES)]
        for offset, word in wrong[:SHOWN]:
            self.verdict.failures.append(
                f"persistent memory: 0x{word:016x} at 0x{offset:x}, which was to be written "
                f"{PMR_WAYS[offset // half]}")
        self.verdict.notes.append(f"{len(words)} words of persistent memory, {len(wrong)} wrong")


IMAGES = tuple(argument for name in ("n0", "n1") for argument in blockdev(
    {"driver": "file", "node-name": name, "discard": "unmap", "filename": f"{{folder}}/{name}.img"}))
PMR = ("-object", f"memory-backend-file,id=pmr,size={PMR_BYTES},mem-path={{folder}}/pmr,share=on")


def controller(*namespaces, **options):
    """A controller nv0 with these namespaces, each the options of its own."""
    words = "".join(f",{name.replace('_', '-')}={value}" if name not in ("cmb_size_mb",)
                    else f",{name}={value}" for name, value in options.items())
    arguments = ["-device", f"nvme,id=nv0,serial=SCRATCH0001{words}"]
    for number, namespace in enumerate(namespaces):
        arguments += ["-device", f"nvme-ns,drive=n{number},bus=nv0,{namespace}"]
    return tuple(arguments)


def row(name, devices, **fields):
    fields = {"host": ControlHost, "patterns": (NO_LEAKS,), "floor": 16,
              "options": "mode=test filter=nvmecontrol unmap", "allowed": (WRONG_DOORBELL,),
              **fields}
    return Machine(name, devices=devices, **fields)


def control(name, devices, **fields):
    return row(f"nvme-control-{name}", devices, **fields)


TWO = ("nsid=1", "nsid=7,logical_block_size=4096,physical_block_size=4096")
PLAIN = (*IMAGES, *controller(*TWO))
IN_CONTROLLER = (*IMAGES, *PMR, *controller(*TWO, cmb_size_mb=2, pmrdev="pmr"))
IN_MEMORY = r"NVMe: 2048 KiB of memory in the controller, at 0x[0-9a-f]+, hold submission queues"
PERSISTENT = r"NVMe: SCRATCH0001: 4096 KiB of persistent memory at 0x[0-9a-f]+"
REPORT = r"NVMe: queue 1 \([0-9]+ entries.*\): [0-9]+ commands, [0-9]+ completions in"

EVENT = "NVMe: SCRATCH0001 reports an event: "
RELIABILITY = (EVENT + r"the medium is no longer reliable \(0x020001\)",
               "NVMe: SCRATCH0001 warns: it is no longer reliable")
TEMPERATURE = (EVENT + r"the temperature passed its threshold \(0x020101\)",
               "NVMe: SCRATCH0001: 50 degrees Celsius,")
DOORBELL = (EVENT + r"somebody wrote to the doorbell of a queue that does not exist \(0x010000\)",)
NAMESPACES = (EVENT + r"namespaces have changed \(0x040002\)",)

# A namespace that waits to be attached.
ATTACHABLE = (*IMAGES, "-device", "nvme-subsys,id=sub0", "-device",
              "nvme,id=nv0,serial=SCRATCH0001,subsys=sub0", "-device",
              "nvme-ns,drive=n0,bus=nv0,nsid=1", "-device",
              "nvme-ns,drive=n1,bus=nv0,nsid=3,logical_block_size=4096,"
              "physical_block_size=4096,shared=on,detached=on")


def event(number, name, patterns=(), allowed=()):
    return row(f"f{number:02}-{name}", PLAIN, floor=1, allowed=allowed,
               options=f"mode=test filter=F{number}:", patterns=(NO_LEAKS, *patterns))


ROWS = (
    event(7, "smart-warning", RELIABILITY),
    event(8, "temperature", TEMPERATURE),
    event(9, "wrong-doorbell", DOORBELL, allowed=(WRONG_DOORBELL,)),
    event(15, "format"),
    control("attach", ATTACHABLE, options="mode=test filter=attached attach", floor=1,
            patterns=(NO_LEAKS, *NAMESPACES)),
    control("plain", PLAIN, patterns=(NO_LEAKS, REPORT)),
    control("memory", IN_CONTROLLER, host=PersistentHost,
            patterns=(NO_LEAKS, REPORT, IN_MEMORY, PERSISTENT)),
    control("memory-verifier", IN_CONTROLLER, host=PersistentHost,
            options="mode=test filter=nvmecontrol unmap verifier=1",
            patterns=(NO_LEAKS, IN_MEMORY, PERSISTENT)),
    control("bounce", PLAIN, options="mode=test filter=nvmecontrol unmap dma=bounce verifier=1"),
)
