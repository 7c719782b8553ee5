"""NVMe controllers that hang, are slow, lose interrupts, fail, or are reset. tests/kernel/t_trouble.c is
the guest's half."""

from host import Host
from scenarios.storage import (BLANK, DISK_BYTES, WRONG_DOORBELL, Throttle, blockdev, nvme,
                               scenario, throttled)

# A request can be held back where the format asks the node below it.
HELD = (*blockdev({"driver": "raw", "node-name": "n0", "file": {
            "driver": "blkdebug", "image": {"driver": "file", "filename": "{folder}/n0.img"}}}),
        *nvme("n0"))
LATE = (*blockdev({"driver": "null-co", "node-name": "n0", "size": DISK_BYTES,
                   "latency-ns": 1_500_000_000}), *nvme("n0"))
PLAIN = (*BLANK, *nvme("n0"))
IN_SLOT = ("-device", "pcie-root-port,id=rp0,chassis=1,slot=1", *throttled(bus="rp0"))
CUT_OFF = ("^Invalid (read|write) at addr 0x.*, reason: rejected$",)

ROWS = (
    scenario("late-answer", 3, devices=HELD),
    scenario("slow-device", 4, devices=LATE, host=Host),
    # The driver rings the doorbells of queues that the guest's test has made the controller forget.
    scenario("fatal-status", 10, devices=PLAIN, allowed=(WRONG_DOORBELL,)),
    # QEMU cuts the function off from memory first, and then ends what is under way.
    scenario("function-reset", 12, devices=PLAIN, traces=("pci_nvme_mmio_doorbell*",),
             allowed=CUT_OFF),
    # A function that is gone may not reach memory, and QEMU ends what is under way.
    scenario("ejected", 13, machine="pc", devices=throttled(), host=Throttle,
             allowed=CUT_OFF),
    scenario("slot-off", 14, devices=IN_SLOT, host=Throttle, allowed=CUT_OFF),
    scenario("lost-interrupts", 16, devices=PLAIN),
)
