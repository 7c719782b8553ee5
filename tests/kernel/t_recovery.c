// What becomes of requests when an NVMe controller is too slow, reset behind its driver's back, or pulled out: the guest's half of
// tests/qemu/scenarios/recovery.py. Each test has machines of its own, whose `filter=` picks it by the
// number at its start; on all others it is skipped, because nobody there answers.
#include "kernel/inc/io.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/disks.h"
#include "tests/kernel/tests.h"

#include <ntddnvme.h>

#define NVME_CLASS 0x01
#define NVME_SUBCLASS 0x08
#define TIMEOUT_MILLISECONDS 500
#define READ_COUNT 8

static KT_DISK Disks[2];
static KT_BUFFER Buffer;
static KT_TRANSFER Transfers[READ_COUNT];

static const IO_PCI_FUNCTION *FindController(VOID)
{
    const IO_PCI_FUNCTION *Function = IoNextPciFunction(NULL);
    while (Function != NULL &&
           (Function->BaseClass != NVME_CLASS || Function->SubClass != NVME_SUBCLASS)) {
        Function = IoNextPciFunction(Function);
    }
    return Function;
}

static NTSTATUS Control(ULONG Code, const VOID *Input, ULONG InputBytes, PVOID Output,
                        ULONG OutputBytes)
{
    ULONG_PTR Information;
    return IoControlSynchronously(Disks[0].Device, Code, Input, InputBytes, Output, OutputBytes,
                                  &Information);
}

static BOOLEAN SetTimeout(ULONG Milliseconds)
{
    const NVME_TIMEOUT Timeout = {Milliseconds};
    return KT_EQUAL(Control(IOCTL_NVME_SET_TIMEOUT, &Timeout, sizeof(Timeout), NULL, 0),
                    STATUS_SUCCESS);
}

static NVME_RECOVERY_COUNTERS Recovery(VOID)
{
    NVME_RECOVERY_COUNTERS Counters = {0};
    KT_EQUAL(Control(IOCTL_NVME_QUERY_RECOVERY, NULL, 0, &Counters, sizeof(Counters)),
             STATUS_SUCCESS);
    return Counters;
}

static BOOLEAN Open(ULONG DiskCount)
{
    for (ULONG Index = 0; Index < DiskCount; Index += 1) {
        if (!KT_CHECK(KtOpenDisk(Index, &Disks[Index]))) {
            return FALSE;
        }
    }
    return KT_CHECK(KtAllocateBuffer(&Buffer, READ_COUNT * PAGE_SIZE)) &&
           SetTimeout(TIMEOUT_MILLISECONDS);
}

// One page, to its own page of the buffer.
static BOOLEAN StartRead(ULONG Index, const KT_DISK *Disk)
{
    RtlZeroMemory(&Transfers[Index], sizeof(Transfers[Index]));
    return KT_CHECK(KtStartTransfer(&Transfers[Index], Disk, IRP_MJ_READ,
                                    Buffer.Va + Index * PAGE_SIZE, (ULONG64)Index * PAGE_SIZE,
                                    PAGE_SIZE));
}

static VOID StartReads(const KT_DISK *Disk)
{
    for (ULONG Index = 0; Index < READ_COUNT; Index += 1) {
        KT_REQUIRE(StartRead(Index, Disk));
    }
}

static VOID WaitForReads(NTSTATUS Expected)
{
    for (ULONG Index = 0; Index < READ_COUNT; Index += 1) {
        KT_EQUAL(KtWaitForTransfer(&Transfers[Index]), Expected);
    }
}

static VOID CheckDiskWorks(const KT_DISK *Disk)
{
    KT_EQUAL(KtTransferDisk(Disk, IRP_MJ_READ, Buffer.Va, 0, PAGE_SIZE), STATUS_SUCCESS);
}

//
// F4b: namespace 1 takes four seconds for a read, namespace 2 one.
//

static VOID ACommandThatIsTooSlowEndsAndOthersAreDoneAgain(VOID)
{
    if (!KtAskHost("mark")) {
        return;
    }
    KT_REQUIRE(Open(2));
    KT_REQUIRE(SetTimeout(1000) && StartRead(0, &Disks[0]));
    KtSleep(1700);
    KT_REQUIRE(StartRead(1, &Disks[1])); // under way when the controller is reset
    KT_EQUAL(KtWaitForTransfer(&Transfers[0]), STATUS_IO_TIMEOUT);
    KT_EQUAL(KtWaitForTransfer(&Transfers[1]), STATUS_SUCCESS);
    KT_EQUAL(Recovery().Aborts, 1);
    KT_EQUAL(Recovery().Resets, 1);
    KT_EQUAL(Recovery().FunctionResets, 0);
    KtFreeBuffer(&Buffer);
}

//
// F12b: the function is reset, on request, and behind the driver's back.
//

#define CAPABILITY_POINTER 0x34
#define CAPABILITY_EXPRESS 0x10
#define EXPRESS_DEVICE_CONTROL 8
#define EXPRESS_RESET 0x8000

static ULONG SlotOf(const IO_PCI_FUNCTION *Function)
{
    const PCI_SLOT_NUMBER Slot = {
        .u.bits = {.DeviceNumber = Function->Device, .FunctionNumber = Function->Function}};
    return Slot.u.AsULONG;
}

static USHORT ReadConfig(const IO_PCI_FUNCTION *Function, ULONG Offset)
{
    USHORT Value = 0;
    HalGetBusDataByOffset(PCIConfiguration, Function->Bus, SlotOf(Function), &Value, Offset,
                          sizeof(Value));
    return Value;
}

static VOID WriteConfig(const IO_PCI_FUNCTION *Function, ULONG Offset, USHORT Value)
{
    HalSetBusDataByOffset(PCIConfiguration, Function->Bus, SlotOf(Function), &Value, Offset,
                          sizeof(Value));
}

static ULONG FindExpress(const IO_PCI_FUNCTION *Function)
{
    ULONG Offset = ReadConfig(Function, CAPABILITY_POINTER) & 0xFC;
    while (Offset != 0 && (ReadConfig(Function, Offset) & 0xFF) != CAPABILITY_EXPRESS) {
        Offset = ReadConfig(Function, Offset) >> 8;
    }
    return Offset;
}

static VOID AFunctionLevelResetLosesNothing(VOID)
{
    const NVME_RESET Kind = {.Kind = NvmeFunctionReset};
    if (!KtAskHost("mark")) {
        return;
    }
    KT_REQUIRE(Open(1) && SetTimeout(5000));
    StartReads(&Disks[0]);
    KT_EQUAL(Control(IOCTL_NVME_RESET, &Kind, sizeof(Kind), NULL, 0), STATUS_SUCCESS);
    WaitForReads(STATUS_SUCCESS);
    KT_EQUAL(Recovery().FunctionResets, 1);
    StartReads(&Disks[0]);
    const IO_PCI_FUNCTION *Function = FindController();
    const ULONG Express = FindExpress(Function);
    KT_REQUIRE(Express != 0);
    WriteConfig(Function, Express + EXPRESS_DEVICE_CONTROL,
                ReadConfig(Function, Express + EXPRESS_DEVICE_CONTROL) | EXPRESS_RESET);
    WaitForReads(STATUS_SUCCESS);
    KT_EQUAL(Recovery().FunctionResets, 2);
    KT_EQUAL(Recovery().Resets, 2);
    CheckDiskWorks(&Disks[0]);
    KtFreeBuffer(&Buffer);
}

//
// F13, F14: the controller is pulled out while it works, and another one is plugged in.
//

#define EJECT_PORTS 0xAE00 // of PIIX4: slots with something new, slots to be emptied, eject
#define EJECT_DOWN (EJECT_PORTS + 4)
#define EJECT_NOW (EJECT_PORTS + 8)
#define WAIT_ROUNDS 300 // of 10 milliseconds

static BOOLEAN WaitUntil(BOOLEAN (*Condition)(VOID))
{
    for (ULONG Round = 0; Round < WAIT_ROUNDS; Round += 1) {
        if (Condition()) {
            return TRUE;
        }
        KtSleep(10);
    }
    return FALSE;
}

static BOOLEAN IsEjectWanted(VOID)
{
    return READ_PORT_ULONG((PULONG)EJECT_DOWN) != 0;
}

static BOOLEAN IsDriverGone(VOID)
{
    return IoFindDevice(FILE_DEVICE_CONTROLLER, 0) == NULL &&
           IoFindDevice(FILE_DEVICE_DISK, 0) == NULL;
}

static VOID EjectByAcpi(VOID)
{
    KT_REQUIRE(WaitUntil(IsEjectWanted));
    WRITE_PORT_ULONG((PULONG)EJECT_NOW, READ_PORT_ULONG((PULONG)EJECT_DOWN));
}

// QEMU may still answer commands while it takes the controller away: these have their data.
static VOID CheckEverythingEnds(const IO_PCI_FUNCTION *Function)
{
    for (ULONG Index = 0; Index < READ_COUNT; Index += 1) {
        const NTSTATUS Status = KtWaitForTransfer(&Transfers[Index]);
        KT_CHECK(Status == STATUS_DEVICE_DOES_NOT_EXIST || Status == STATUS_SUCCESS);
    }
    KT_CHECK(WaitUntil(IsDriverGone));
    KT_EQUAL(IoStartPdo(Function->Pdo), STATUS_NO_SUCH_DEVICE);
}

static VOID CheckAnotherOneWorks(const IO_PCI_FUNCTION *Function)
{
    KT_EQUAL(IoStartPdo(Function->Pdo), STATUS_SUCCESS);
    if (KT_CHECK(KtOpenDisk(0, &Disks[0]))) {
        CheckDiskWorks(&Disks[0]);
    }
    KtFreeBuffer(&Buffer);
    KtKeepWhatIsHeld(); // the driver has other memory now
}

static VOID APulledControllerEndsItsRequests(VOID)
{
    const IO_PCI_FUNCTION *Function = FindController();
    if (!KtAskHost("mark")) {
        return;
    }
    KT_REQUIRE(Open(1));
    StartReads(&Disks[0]);
    KT_REQUIRE(KtAskHost("qmp device_del {\"id\":\"nv0\"}"));
    EjectByAcpi();
    CheckEverythingEnds(Function);
    if (KtAskHost("plug")) {
        CheckAnotherOneWorks(Function);
    }
    // That one is idle when it goes: nobody waits for it.
    KT_REQUIRE(KtAskHost("qmp device_del {\"id\":\"nv1\"}"));
    EjectByAcpi();
    KT_CHECK(WaitUntil(IsDriverGone));
    KT_CHECK(KtAskHost("event 10 DEVICE_DELETED"));
    KtKeepWhatIsHeld(); // less than before
}

// The root port above the controller: its slot is switched off, as somebody would who was told by the
// attention button.
#define EXPRESS_SLOT_CONTROL 0x18
#define EXPRESS_SLOT_STATUS 0x1A
#define SLOT_ATTENTION_PRESSED 0x0001
#define SLOT_INDICATOR_MASK 0x0300
#define SLOT_INDICATOR_ON 0x0100
#define SLOT_INDICATOR_OFF 0x0300
#define SLOT_POWER_OFF 0x0400

static const IO_PCI_FUNCTION *SlotPort;
static ULONG SlotExpress;

static BOOLEAN IsButtonPressed(VOID)
{
    return (ReadConfig(SlotPort, SlotExpress + EXPRESS_SLOT_STATUS) & SLOT_ATTENTION_PRESSED) != 0;
}

static VOID SwitchSlot(USHORT Clear, USHORT Set)
{
    const USHORT Value = ReadConfig(SlotPort, SlotExpress + EXPRESS_SLOT_CONTROL);
    WriteConfig(SlotPort, SlotExpress + EXPRESS_SLOT_CONTROL, (USHORT)((Value & ~Clear) | Set));
}

static VOID ASlotThatIsSwitchedOffEndsTheRequests(VOID)
{
    const IO_PCI_FUNCTION *Function = FindController();
    if (!KtAskHost("mark")) {
        return;
    }
    KT_REQUIRE(Open(1) && Function->Bridge != NULL);
    SlotPort = Function->Bridge;
    SlotExpress = FindExpress(SlotPort);
    SwitchSlot(SLOT_INDICATOR_MASK | SLOT_POWER_OFF, SLOT_INDICATOR_ON);
    KT_REQUIRE(KtAskHost("qmp device_del {\"id\":\"nv0\"}"));
    KT_REQUIRE(WaitUntil(IsButtonPressed));
    WriteConfig(SlotPort, SlotExpress + EXPRESS_SLOT_STATUS, SLOT_ATTENTION_PRESSED);
    SwitchSlot(SLOT_INDICATOR_MASK, SLOT_INDICATOR_OFF | SLOT_POWER_OFF);
    StartReads(&Disks[0]); // to nobody: QEMU does not survive it if they are under way before
    CheckEverythingEnds(Function);
    KT_REQUIRE(KtAskHost("plug"));
    SwitchSlot(SLOT_INDICATOR_MASK | SLOT_POWER_OFF, SLOT_INDICATOR_ON);
    CheckAnotherOneWorks(Function);
}

static const KT_TEST Tests[] = {
    {"F4b: a command that is too slow ends by a reset; one that is not is done again",
     ACommandThatIsTooSlowEndsAndOthersAreDoneAgain},
    {"F12b: a function-level reset loses nothing, whoever makes it",
     AFunctionLevelResetLosesNothing},
    {"F13b: a controller that is pulled out ends its requests, and another one works in its place",
     APulledControllerEndsItsRequests},
    {"F14b: a slot that is switched off ends the requests, and another controller works in it",
     ASlotThatIsSwitchedOffEndsTheRequests},
};

const KT_SUITE KtRecoverySuite = {"recovery", KtNeedsDevices, Tests, ARRAYSIZE(Tests)};
