// Controllers that hang, are slow, lose interrupts, fail, are reset behind the driver's back, or go: the
// guest's half of tests/qemu/scenarios/trouble.py. As in t_scenario.c, the number at the start of a
// test's sentence is that of the catalogue, and each test has a machine of its own.
#include "kernel/inc/io.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/disks.h"

#include <ntddnvme.h>

#define NVME_CLASS 0x01
#define NVME_SUBCLASS 0x08
#define REQUESTS 4
#define USUAL_TIMEOUT_MILLISECONDS 30000

// What a test works with; the requests may be under way together.
static struct {
    const IO_PCI_FUNCTION *Controller;
    KT_DISK Disk;
    KT_BUFFER Buffer;
    KT_TRANSFER Transfers[REQUESTS];
} Tr;

static BOOLEAN Open(VOID)
{
    RtlZeroMemory(&Tr, sizeof(Tr));
    Tr.Controller = IoNextPciFunction(NULL);
    while (Tr.Controller != NULL &&
           (Tr.Controller->BaseClass != NVME_CLASS || Tr.Controller->SubClass != NVME_SUBCLASS)) {
        Tr.Controller = IoNextPciFunction(Tr.Controller);
    }
    return KT_CHECK(Tr.Controller != NULL) && KT_CHECK(KtOpenScratchDisk(&Tr.Disk)) &&
           KT_CHECK(KtAllocateBuffer(&Tr.Buffer, REQUESTS * PAGE_SIZE));
}

static VOID Close(VOID)
{
    KtFreeBuffer(&Tr.Buffer);
}

static VOID StartReads(ULONG Count)
{
    for (ULONG Index = 0; Index < Count; Index += 1) {
        KT_CHECK(KtStartTransfer(&Tr.Transfers[Index], &Tr.Disk, IRP_MJ_READ,
                                 Tr.Buffer.Va + Index * PAGE_SIZE, Index * 16ull * PAGE_SIZE,
                                 PAGE_SIZE));
    }
}

// Each succeeds, or has the other status.
static VOID WaitForReads(ULONG Count, NTSTATUS Other)
{
    for (ULONG Index = 0; Index < Count; Index += 1) {
        const NTSTATUS Status = KtWaitForTransfer(&Tr.Transfers[Index]);
        KT_EQUAL(Status, Status == Other ? Other : STATUS_SUCCESS);
    }
}

static VOID Read(ULONG Count)
{
    StartReads(Count);
    WaitForReads(Count, STATUS_SUCCESS);
}

static VOID SetTimeout(ULONG Milliseconds)
{
    const NVME_TIMEOUT Timeout = {Milliseconds};
    ULONG_PTR Information;
    KT_EQUAL(IoControlSynchronously(Tr.Disk.Device, IOCTL_NVME_SET_TIMEOUT, &Timeout,
                                    sizeof(Timeout), NULL, 0, &Information),
             STATUS_SUCCESS);
}

static NVME_RECOVERY_COUNTERS RecoveryCounters(VOID)
{
    NVME_RECOVERY_COUNTERS Counters = {0};
    ULONG_PTR Information;
    KT_EQUAL(IoControlSynchronously(Tr.Disk.Device, IOCTL_NVME_QUERY_RECOVERY, NULL, 0, &Counters,
                                    sizeof(Counters), &Information),
             STATUS_SUCCESS);
    return Counters;
}

static ULONG64 MissedInterrupts(VOID)
{
    static union {
        NVME_COUNTERS Counters;
        UCHAR Bytes[PAGE_SIZE];
    } Answer;
    ULONG_PTR Information;
    ULONG64 Sum = 0;
    RtlZeroMemory(&Answer, sizeof(Answer));
    KT_EQUAL(IoControlSynchronously(Tr.Disk.Device, IOCTL_NVME_QUERY_COUNTERS, NULL, 0, &Answer,
                                    sizeof(Answer), &Information),
             STATUS_SUCCESS);
    for (ULONG Index = 0; Index < Answer.Counters.ReturnedQueueCount; Index += 1) {
        Sum += Answer.Counters.Queues[Index].Counters.MissedInterrupts;
    }
    return Sum;
}

//
// F3: the medium does not answer, until after the driver has tried to abort the command. (A reset before
// that would make QEMU wait for ever.)
//

static VOID ALateAnswerIsAnAnswer(VOID)
{
    if (!KtAskHost("mark")) {
        return;
    }
    KT_REQUIRE(Open());
    SetTimeout(1000);
    if (KtAskHost("hmp qemu-io n0 \"break read_aio A\"") &&
        KtAskHost("later 1600 hmp qemu-io n0 \"resume A\"")) {
        StartReads(1);
        WaitForReads(1, STATUS_SUCCESS);
        const NVME_RECOVERY_COUNTERS Counters = RecoveryCounters();
        KT_EQUAL(Counters.Aborts, 1);
        KT_EQUAL(Counters.AbortedCommands, 0); // QEMU says that it did not
        KT_EQUAL(Counters.Resets, 0);
        KT_EQUAL(Counters.LostCommands, 0);
    }
    SetTimeout(USUAL_TIMEOUT_MILLISECONDS);
    Read(REQUESTS);
    Close();
}

//
// F4: every answer takes 1.5 seconds. QEMU gives those that are missing while it is reset, which is sometimes
// seen.
//

static VOID ASlowDeviceIsResetAndThenWaitedFor(VOID)
{
    if (!KtAskHost("mark")) {
        return;
    }
    KT_REQUIRE(Open());
    SetTimeout(300);
    StartReads(REQUESTS);
    WaitForReads(REQUESTS, STATUS_IO_TIMEOUT);
    const NVME_RECOVERY_COUNTERS Counters = RecoveryCounters();
    KT_EQUAL(Counters.Aborts, REQUESTS);
    KT_EQUAL(Counters.Resets, 1);
    SetTimeout(USUAL_TIMEOUT_MILLISECONDS);
    Read(REQUESTS);
    Close();
}

//
// F10: the controller stops with a fatal status, because somebody has told it nonsense.
//

#define REGISTER_CONFIGURATION 0x14
#define REGISTER_STATUS 0x1C
#define ENABLE 0x1u
#define PAGE_SIZE_MASK 0x780u // log2 of the page size - 12: 15 is more than any controller has
#define FATAL 0x2u

static VOID AFatalStatusIsRecoveredFrom(VOID)
{
    if (!KtAskHost("mark")) {
        return;
    }
    KT_REQUIRE(Open());
    const PUCHAR Registers = MmMapIoSpaceEx(KtPhysical(Tr.Controller->Bars[0].Base), PAGE_SIZE,
                                            PAGE_READWRITE | PAGE_NOCACHE);
    KT_REQUIRE(Registers != NULL);
    const PULONG Configuration = (PULONG)(Registers + REGISTER_CONFIGURATION);
    const ULONG Value = READ_REGISTER_ULONG(Configuration);
    WRITE_REGISTER_ULONG(Configuration, Value & ~ENABLE);
    WRITE_REGISTER_ULONG(Configuration, Value | PAGE_SIZE_MASK);
    KT_CHECK((READ_REGISTER_ULONG((PULONG)(Registers + REGISTER_STATUS)) & FATAL) != 0);
    MmUnmapIoSpace(Registers, PAGE_SIZE);
    Read(REQUESTS);
    const NVME_RECOVERY_COUNTERS Counters = RecoveryCounters();
    KT_EQUAL(Counters.FatalErrors, 1);
    KT_EQUAL(Counters.Resets, 1);
    Close();
}

//
// F12: the function is reset while requests are under way. It forgets its registers, where they are, and its
// messages.
//

static VOID AFunctionLevelResetLosesNothing(VOID)
{
    const NVME_RESET Reset = {NvmeFunctionReset};
    ULONG_PTR Information;
    if (!KtAskHost("mark")) {
        return;
    }
    KT_REQUIRE(Open());
    StartReads(REQUESTS);
    KT_EQUAL(IoControlSynchronously(Tr.Disk.Device, IOCTL_NVME_RESET, &Reset, sizeof(Reset), NULL,
                                    0, &Information),
             STATUS_SUCCESS);
    WaitForReads(REQUESTS, STATUS_SUCCESS);
    KT_REQUIRE(KtAskHost("count ^pci_nvme_mmio_doorbell_"));
    KT_CHECK(KtHostNumber() > 0);
    const NVME_RECOVERY_COUNTERS Counters = RecoveryCounters();
    KT_EQUAL(Counters.FunctionResets, 1);
    KT_EQUAL(Counters.Resets, 1);
    Read(REQUESTS);
    Close();
}

//
// F16: the messages of all queues are masked, so that completions are not announced.
//

#define CAPABILITIES_POINTER 0x34
#define MSIX_ID 0x11

static ULONG SlotOf(const IO_PCI_FUNCTION *Function)
{
    return Function->Device | (ULONG)Function->Function << 5;
}

static ULONG ReadConfig(const IO_PCI_FUNCTION *Function, ULONG Offset, ULONG ByteCount)
{
    ULONG Value = 0;
    KT_EQUAL(HalGetBusDataByOffset(PCIConfiguration, Function->Bus, SlotOf(Function), &Value,
                                   Offset, ByteCount),
             ByteCount);
    return Value;
}

static VOID WriteConfig(const IO_PCI_FUNCTION *Function, ULONG Offset, ULONG Value, ULONG ByteCount)
{
    KT_EQUAL(HalSetBusDataByOffset(PCIConfiguration, Function->Bus, SlotOf(Function), &Value,
                                   Offset, ByteCount),
             ByteCount);
}

// 0: there is none.
static ULONG FindCapability(const IO_PCI_FUNCTION *Function, UCHAR Id)
{
    ULONG Offset = ReadConfig(Function, CAPABILITIES_POINTER, sizeof(UCHAR));
    while (Offset != 0 && ReadConfig(Function, Offset, sizeof(UCHAR)) != Id) {
        Offset = ReadConfig(Function, Offset + 1, sizeof(UCHAR));
    }
    return Offset;
}

#define MSIX_TABLE 0x04 // in its capability: offset, and the BAR in bits 2:0
#define MSIX_ENTRY_BYTES 16
#define MSIX_ENTRY_CONTROL 12
#define MSIX_MASKED 0x1u
#define ENTRIES 4
#define MISSED_READS 6

static VOID SetMasks(PUCHAR Table, ULONG Mask)
{
    for (ULONG Entry = 0; Entry < ENTRIES; Entry += 1) {
        const PULONG Control = (PULONG)(Table + Entry * MSIX_ENTRY_BYTES + MSIX_ENTRY_CONTROL);
        WRITE_REGISTER_ULONG(Control, (READ_REGISTER_ULONG(Control) & ~MSIX_MASKED) | Mask);
    }
}

static VOID LostInterruptsAreNoticed(VOID)
{
    if (!KtAskHost("mark")) {
        return;
    }
    KT_REQUIRE(Open());
    const ULONG Capability = FindCapability(Tr.Controller, MSIX_ID);
    KT_REQUIRE(Capability != 0);
    const ULONG Place = ReadConfig(Tr.Controller, Capability + MSIX_TABLE, sizeof(ULONG));
    const ULONG64 Base = Tr.Controller->Bars[Place & 7].Base + (Place & ~7u);
    const PUCHAR Table = MmMapIoSpaceEx(KtPhysical(Base), PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    KT_REQUIRE(Table != NULL);
    const ULONG64 Before = MissedInterrupts();
    SetMasks(Table, MSIX_MASKED);
    for (ULONG Round = 0; Round < MISSED_READS; Round += 1) {
        Read(1);
    }
    SetMasks(Table, 0);
    KT_CHECK(MissedInterrupts() >= Before + MISSED_READS);
    MmUnmapIoSpace(Table, PAGE_SIZE);
    Read(REQUESTS);
    KT_EQUAL(RecoveryCounters().Resets, 0);
    Close();
}

//
// F13, F14: the controller is removed while requests are under way.
//

#define EJECT_PORT 0xAE08
#define PCI_EXPRESS_ID 0x10
#define SLOT_CONTROL 0x18 // in that capability
#define POWER_OFF 0x0400u // and the power indicator, too
#define INDICATOR_OFF 0x0300u

// Through the ports of ACPI that eject a slot: what the firmware's methods would do.
static VOID EjectSlot(VOID)
{
    if (KtAskHost("hmp device_del nv0")) {
        KeArchWritePort32(EJECT_PORT, 1u << Tr.Controller->Device);
        KT_CHECK(KtAskHost("event 10 DEVICE_DELETED"));
    }
}

// Through the slot's registers in the port above it.
static VOID SwitchSlotOff(VOID)
{
    KT_REQUIRE(Tr.Controller->Bridge != NULL);
    const ULONG Express = FindCapability(Tr.Controller->Bridge, PCI_EXPRESS_ID);
    KT_REQUIRE(Express != 0);
    const ULONG Control = ReadConfig(Tr.Controller->Bridge, Express + SLOT_CONTROL, sizeof(USHORT));
    WriteConfig(Tr.Controller->Bridge, Express + SLOT_CONTROL, Control | POWER_OFF | INDICATOR_OFF,
                sizeof(USHORT));
}

static VOID RemoveUnderLoad(VOID (*Remove)(VOID))
{
    if (!KtAskHost("limit 1")) { // a second: all but the first are under way for long
        return;
    }
    KT_REQUIRE(Open());
    ObReferenceObject(Tr.Disk.Device); // it goes, and the test still has it
    StartReads(REQUESTS);
    Remove();
    WaitForReads(REQUESTS, STATUS_DEVICE_DOES_NOT_EXIST);
    StartReads(1);
    const NTSTATUS Status = KtWaitForTransfer(&Tr.Transfers[0]);
    KT_CHECK(Status == STATUS_DEVICE_DOES_NOT_EXIST || // gone, and when PnP has removed it:
             Status == STATUS_DEVICE_NOT_READY);
    ObDereferenceObject(Tr.Disk.Device);
    Close();
    KtKeepWhatIsHeld(); // less than before; the list of leaks at the end tells whether all came back
}

static VOID AnEjectedControllerEndsItsRequests(VOID)
{
    RemoveUnderLoad(EjectSlot);
}

static VOID AControllerWithoutPowerEndsItsRequests(VOID)
{
    RemoveUnderLoad(SwitchSlotOff);
}

static const KT_TEST Tests[] = {
    {"F3: an answer that comes after the driver has tried to abort the command counts",
     ALateAnswerIsAnAnswer},
    {"F4: commands that take too long end by a reset; with more time they succeed",
     ASlowDeviceIsResetAndThenWaitedFor},
    {"F10: a controller with a fatal status is reset, and does what it is told after that",
     AFatalStatusIsRecoveredFrom},
    {"F12: a function-level reset loses no request that is under way",
     AFunctionLevelResetLosesNothing},
    {"F13: a controller that is ejected ends its requests, and takes no more",
     AnEjectedControllerEndsItsRequests},
    {"F14: a controller whose slot is switched off ends its requests, and takes no more",
     AControllerWithoutPowerEndsItsRequests},
    {"F16: completions without an interrupt are found, and nothing is reset",
     LostInterruptsAreNoticed},
};

const KT_SUITE KtTroubleSuite = {"trouble", KtNeedsDevices, Tests, ARRAYSIZE(Tests)};
