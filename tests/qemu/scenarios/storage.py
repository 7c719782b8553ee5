"""Disks that fail, wait, and tell in which order they were written."""

import json
import struct
from dataclasses import replace

from host import Host, HostError
from machines import NO_LEAKS, Machine

# A doorbell that no queue has: QEMU traces it and logs it as a guest error.
WRONG_DOORBELL = r"pci_nvme_ub_db_wr_invalid_sq\b"


def blockdev(node):
    """Braces are doubled, because run.py formats the arguments; {disk} and {folder} are not."""
    text = json.dumps(node).replace("{", "{{").replace("}", "}}")
    for name in ("disk", "folder"):
        text = text.replace("{{" + name + "}}", "{" + name + "}")
    return "-blockdev", text


DISK_BYTES = 64 << 20


class DiskHost(Host):
    """With an empty image of its own, which BLANK makes the node n0."""

    def prepare(self):
        with open(self.folder / "n0.img", "wb") as image:
            image.truncate(DISK_BYTES)


BLANK = blockdev({"driver": "file", "node-name": "n0", "filename": "{folder}/n0.img"})


def nvme(drive, **options):
    words = "".join(f",{name.replace('_', '-')}={value}" for name, value in options.items())
    return "-device", f"nvme,id=nv0,drive={drive},serial=SCRATCH0001{words}"


def failing(*errors):
    """A disk of which some requests fail with EIO."""
    rules = [{"event": "none", "errno": 5, **error} for error in errors]
    return (*BLANK, *blockdev({"driver": "blkdebug", "node-name": "faulty", "image": "n0",
                                  "inject-error": rules}), *nvme("faulty"))


def scenario(name, number, **fields):
    fields = {"host": DiskHost, "patterns": (NO_LEAKS,), "options": f"mode=test filter=F{number}:",
              **fields}
    return Machine(f"f{number:02}-{name}", **fields)


BAD_SECTOR = 2048  # and 4096: as tests/kernel/t_scenario.c has them
FAILING_READS = failing({"iotype": "read", "sector": BAD_SECTOR, "once": False})
FAILING_ONCE = failing({"iotype": "write", "sector": 4096, "once": True},
                       {"iotype": "flush", "once": True})


class Throttle(DiskHost):
    """Changes the limits of a throttle group."""

    def do_limit(self, per_second):
        self.monitor.execute("qom-set", {"path": "/objects/tg0", "property": "limits",
                                         "value": {"iops-total": int(per_second)}})


def throttled(**options):
    return ("-object", "throttle-group,id=tg0", *BLANK,
            *blockdev({"driver": "throttle", "node-name": "slow", "throttle-group": "tg0",
                       "file": "n0"}), *nvme("slow", **options))


class WriteLog(DiskHost):
    """Reads the log of blklogwrites: a superblock and, for each entry, a header of one sector and
    its data."""

    MAGIC = 0x6A736677736872
    SUPERBLOCK = struct.Struct("<QQQI")
    ENTRY = struct.Struct("<QQQQ")
    FLUSH, DISCARD = 1, 4

    def prepare(self):
        super().prepare()
        (self.folder / "log").touch()
        self.first = 0

    def entries(self):
        data = (self.folder / "log").read_bytes()
        magic, _, count, sector_bytes = self.SUPERBLOCK.unpack_from(data)
        if magic != self.MAGIC:
            raise HostError("the log of the writes has no superblock")
        place, found = sector_bytes, []
        while len(found) < count:
            sector, sectors, flags, _ = self.ENTRY.unpack_from(data, place)
            found.append((sector, sectors, flags))
            place += sector_bytes * (1 + (0 if flags & self.DISCARD else sectors))
        return found

    def do_forget(self, _):
        """The log ends with a flush, or the superblock does not count what comes after it."""
        self.first = len(self.entries()) if (self.folder / "log").stat().st_size else 0

    def do_written(self, _):
        words = []
        for sector, sectors, flags in self.entries()[self.first:]:
            words += [f"w{sector}+{sectors}"] if sectors else []
            words += ["f"] if flags & self.FLUSH else []
        return " ".join(words)


LOGGED = (*BLANK,
          *blockdev({"driver": "blklogwrites", "node-name": "logged", "file": "n0",
                     "log": {"driver": "file", "filename": "{folder}/log"}}), *nvme("logged"))

# The oracle that all rows rely on: the same mistake, allowed and not.
MISTAKE = scenario("mistake-allowed", 22, devices=(*BLANK, *nvme("n0")),
                   allowed=(WRONG_DOORBELL,))

ROWS = (
    scenario("unreadable-block", 1, devices=FAILING_READS),
    scenario("unreadable-block-bounce", 1, devices=FAILING_READS,
             options="mode=test filter=F1: dma=bounce verifier=1"),
    scenario("error-once", 2, devices=FAILING_ONCE),
    scenario("slow-disk", 5, devices=throttled(), host=Throttle,
             traces=("pci_nvme_mmio_stopped", "pci_nvme_abort")),
    scenario("order-of-writes", 6, devices=LOGGED, host=WriteLog),
    scenario("no-memory", 11, devices=("-device", "intel-iommu", *BLANK, *nvme("n0")),
             allowed=("^Invalid (read|write) at addr 0x.*, reason: rejected$",)),
    MISTAKE,
    replace(MISTAKE, name="f22-mistake-fails-the-row", allowed=(),
            complaints=(f"^QEMU says: {WRONG_DOORBELL}",)),
)
