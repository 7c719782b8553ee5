"""Disks that fail, wait, and tell in which order they were written."""

from dataclasses import replace

from host import Host
from machines import NO_LEAKS, Machine

# A doorbell that no queue has: QEMU traces it and logs it as a guest error.
WRONG_DOORBELL = r"pci_nvme_ub_db_wr_invalid_sq\b"


def blockdev(text):
    """Braces are doubled: run.py formats the arguments."""
    return "-blockdev", text.replace("{", "{{").replace("}", "}}").replace("$disk", "{disk}")


def disk_of(node):
    return "-device", f"nvme,id=nv0,drive={node},serial=SCRATCH0001"


SNAPSHOT = ("-drive", "file={disk},if=none,id=n0,format=raw,snapshot=on", *disk_of("n0"))

# The oracle that all rows rely on: the same mistake, allowed and not.
MISTAKE = Machine("f22-mistake-allowed", devices=SNAPSHOT, host=Host,
                  options="mode=test filter=F22:", traces=("pci_nvme_mmio_doorbell*",),
                  allowed=(WRONG_DOORBELL,), patterns=(NO_LEAKS,))
UNALLOWED = replace(MISTAKE, name="f22-mistake-fails-the-row", allowed=(),
                    complaints=(f"^QEMU says: {WRONG_DOORBELL}",))

ROWS = (MISTAKE, UNALLOWED)
