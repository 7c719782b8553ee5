// What the host does to disks while they are used, and what the guest must make of it: the guest's half
// of tests/qemu/scenarios. Each test has a machine of its own, whose `filter=` picks it by the number
// at its start; on all others it is skipped.
#include "kernel/inc/io.h"
#include "tests/kernel/tests.h"

#define NVME_CLASS 0x01
#define NVME_SUBCLASS 0x08
#define DOORBELLS 0x1000
#define DOORBELL_STRIDE 4
#define ABSENT_QUEUE 60

static const IO_PCI_FUNCTION *FindNvmeController(VOID)
{
    const IO_PCI_FUNCTION *Function = IoNextPciFunction(NULL);
    while (Function != NULL &&
           (Function->BaseClass != NVME_CLASS || Function->SubClass != NVME_SUBCLASS)) {
        Function = IoNextPciFunction(Function);
    }
    return Function;
}

static VOID RingDoorbell(const IO_PCI_FUNCTION *Controller, ULONG QueueId, ULONG Tail)
{
    const PUCHAR Doorbells = MmMapIoSpaceEx(KtPhysical(Controller->Bars[0].Base + DOORBELLS),
                                            PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    KT_REQUIRE(Doorbells != NULL);
    WRITE_REGISTER_ULONG((PULONG)(Doorbells + 2 * QueueId * DOORBELL_STRIDE), Tail);
    MmUnmapIoSpace(Doorbells, PAGE_SIZE);
}

static VOID MistakesAreLogged(VOID)
{
    const IO_PCI_FUNCTION *Controller = FindNvmeController();
    if (Controller == NULL) {
        KT_SKIP("no NVMe controller");
    }
    if (!KtAskHost("mark")) {
        return;
    }
    RingDoorbell(Controller, ABSENT_QUEUE, 1);
    KT_REQUIRE(KtAskHost("count ^pci_nvme_ub_db_wr_invalid_sq "));
    KT_CHECK(KtHostNumber() >= 1);
}

// The runner itself: what it does later, and what QEMU tells of.
static VOID TheHostActsLaterAndWaits(VOID)
{
    if (!KtAskHost("later 50 qmp system_powerdown")) {
        return;
    }
    KT_REQUIRE(KtAskHost("event 5 POWERDOWN"));
    KT_REQUIRE(KtAskHost("hmp info status"));
    KT_CHECK(RtlEqualMemory(KtHostResult(), "VM status: running", 18));
}

static const KT_TEST Tests[] = {
    {"F22: the host acts later, and waits for what the emulator tells of",
     TheHostActsLaterAndWaits},
    {"F22: the doorbell of a queue that does not exist is a mistake that the host sees",
     MistakesAreLogged},
};

const KT_SUITE KtScenarioSuite = {"scenario", KtNeedsDevices, Tests, ARRAYSIZE(Tests)};
