"""Controllers that are too slow, reset behind the driver's back, and pulled out: the guest's half is
tests/kernel/t_recovery.c."""

from scenarios.storage import DiskHost, blockdev, nvme, scenario

SLOT = 5  # of the root bus


def slow(name, seconds):
    """Zeros, a while after they were asked for."""
    return blockdev({"driver": "null-co", "node-name": name, "size": 64 << 20,
                     "read-zeroes": True, "latency-ns": int(seconds * 1e9)})


TWO_SPEEDS = (*slow("s1", 4), *slow("s2", 1), "-device", "nvme,id=nv0,serial=SCRATCH0001",
              "-device", "nvme-ns,drive=s1,bus=nv0,nsid=1",
              "-device", "nvme-ns,drive=s2,bus=nv0,nsid=2")

SLUGGISH = (*slow("n0", 0.3), *nvme("n0"))

# What a driver reads and writes until it notices that the registers are gone.
AFTERWARDS = (r"Invalid (read|write) at addr 0x[0-9A-F]+, size 4, region '\(null\)', "
              r"reason: rejected",)

class Plugging(DiskHost):
    """Plugs another controller in, where the first one was. That keeps its medium: QEMU never ends
    a controller that was pulled out with commands under way."""

    PLACE = {"addr": hex(SLOT)}

    def do_plug(self, _):
        self.monitor.execute("device_add", {"driver": "nvme", "id": "nv1", "drive": "n1",
                                            "serial": "SCRATCH0002", **self.PLACE})


class PluggingIntoPort(Plugging):
    PLACE = {"bus": "root1"}


PULLED = (*slow("n0", 2), *slow("n1", 0), *nvme("n0", addr=hex(SLOT)))
# Without ACPI's share in it, the slot belongs to the guest.
IN_SLOT = ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
           *slow("n0", 0.3), *slow("n1", 0),
           "-device", "pcie-root-port,id=root1,chassis=1,slot=1", *nvme("n0", bus="root1"))

VERIFIED = "dma=bounce verifier=1"

ROWS = (
    scenario("two-speeds", 4, devices=TWO_SPEEDS, options="mode=test filter=F4b:"),
    scenario("two-speeds-bounce", 4, devices=TWO_SPEEDS,
             options=f"mode=test filter=F4b: {VERIFIED}"),
    scenario("behind-the-back", 12, devices=SLUGGISH, allowed=AFTERWARDS,
             options="mode=test filter=F12b:"),
    scenario("behind-the-back-intx-bounce", 12, devices=SLUGGISH, allowed=AFTERWARDS,
             options=f"mode=test filter=F12b: intx {VERIFIED}"),
    scenario("pulled", 13, machine="pc", devices=PULLED, host=Plugging, allowed=AFTERWARDS,
             options="mode=test filter=F13b:"),
    scenario("pulled-bounce", 13, machine="pc", devices=PULLED, host=Plugging, allowed=AFTERWARDS,
             options=f"mode=test filter=F13b: {VERIFIED}"),
    scenario("switched-off", 14, devices=IN_SLOT, host=PluggingIntoPort, allowed=AFTERWARDS,
             options="mode=test filter=F14b:"),
)
