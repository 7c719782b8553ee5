"""The catalogue: the ways to break or hinder the devices from outside, or to watch them. An entry
is proved by the rows whose names begin with its number (`f01-` for F1). docs/scenarios.md is made
of it (`make docs`).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    number: int
    title: str
    how: str  # what the host does, or the guest itself
    expected: str  # of the guest
    why_not: str = ""  # instead of rows: what QEMU 7.2 can't do
    rows: tuple = ()  # of machines.py, besides those whose names begin with the number


CATALOGUE = (
    Entry(1, "media error at one block", "`blkdebug`: every read of a sector fails",
          "reads with that block fail with `STATUS_DEVICE_DATA_ERROR`; all others succeed"),
    Entry(2, "an error that happens once", "`blkdebug`: one write, later one flush, fails",
          "the request fails with `STATUS_DEVICE_DATA_ERROR`; the same again succeeds"),
    Entry(3, "a command that hangs", "`qemu-io`: `break` before a read, `resume` much later",
          "the driver tries to abort the command, and takes the late answer. (QEMU waits for ever when "
          "it is reset meanwhile; so a late answer after a reset can't be had)"),
    Entry(4, "a slow device", "`null-co` with a latency",
          "after an abort and a reset requests end with `STATUS_IO_TIMEOUT`, or with what comes "
          "meanwhile; with more time they succeed"),
    Entry(5, "a device that becomes slow", "`throttle-group`, its limits changed while it works",
          "requests wait and succeed, none is aborted; they are quick again without the limit"),
    Entry(6, "order and durability", "`blklogwrites`, its log read by the host",
          "after a flush the log has a FLUSH mark behind the data. QEMU drops FUA: no mark"),
    Entry(7, "SMART warning", "`qom-set smart_critical_warning`", "an asynchronous event, counted"),
    Entry(8, "temperature event", "a threshold below the temperature",
          "an asynchronous event, counted"),
    Entry(9, "event of a wrong doorbell", "the doorbell of an absent queue",
          "an asynchronous event, counted"),
    Entry(10, "controller fatal status", "nonsense in its configuration register",
          "the controller is reset, outstanding requests are done again"),
    Entry(11, "DMA that is not allowed", "`intel-iommu` with an empty root table",
          "the remapping unit names the controller and the address; the request ends with "
          "`STATUS_IO_TIMEOUT`, the controller is reset, and works when translation is off"),
    Entry(12, "function-level reset", "the guest itself, with requests under way",
          "the controller is set up again, and they are done again"),
    Entry(13, "removal by ACPI", "`device_del`, ejected through ACPI's ports",
          "outstanding requests end, by success or with `STATUS_DEVICE_DOES_NOT_EXIST`, as do later "
          "ones; all memory comes back"),
    Entry(14, "removal by the slot", "q35, `pcie-root-port`, power off", "as by ACPI"),
    Entry(15, "another format under the driver", "Format NVM",
          "the namespace has its new block size"),
    Entry(16, "a lost interrupt", "a masked entry of the MSI-X table",
          "the watchdog finds the completion and counts a missed interrupt"),
    Entry(17, "frames from the host", "a datagram netdev and a Python peer",
          "frames arrive as they were sent, both ways"),
    Entry(18, "proof by capture", "`filter-dump`", "the guest's counters agree with the capture"),
    Entry(19, "loss, delay, duplicates, other order", "the Python peer",
          "no crash, no leak, the counters agree"),
    Entry(20, "cable pulled", "`set_link`", "link events, both ways; then traffic again"),
    Entry(21, "self-test without a host", "loopback in the PHY", "the frame comes back",
          rows=("q35-max", "q35-max-e1000-verifier")),
    Entry(22, "mistakes that QEMU forgives",
          "`guest_errors` and `pci_nvme_ub_*`, of every row of all tables",
          "a row with a mistake that it did not allow fails"),
    Entry(23, "snapshot and restore", "`savevm`", "",
          why_not="QEMU 7.2 can't migrate its NVMe controller, so it saves no snapshot of a "
                  "machine with one"),
)
