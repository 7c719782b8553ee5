// What the host does to disks while they are used, and what the guest must make of it: the guest's half
// of tests/qemu/scenarios. Each test has a machine of its own, whose `filter=` picks it by the number
// at its start; on all others it is skipped.
#include "kernel/inc/io.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/disks.h"
#include "tests/kernel/tests.h"

#include <ntddnvme.h>

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

//
// F1: reads of one sector fail for good.
//

#define BAD_SECTOR 2048 // as tests/qemu/scenarios/storage.py has it

static VOID CheckReadAround(const KT_DISK *Disk, PVOID Va, ULONG64 FirstBlock, ULONG BlockCount,
                            NTSTATUS Expected)
{
    KtSetContext("%u blocks at %llu", BlockCount, FirstBlock);
    KT_EQUAL(KtTransferDisk(Disk, IRP_MJ_READ, Va, FirstBlock * Disk->BlockBytes,
                            BlockCount * Disk->BlockBytes),
             Expected);
}

static VOID OneBadBlockFailsAlone(VOID)
{
    KT_DISK Disk;
    KT_BUFFER Buffer;
    if (!KtAskHost("mark")) {
        return;
    }
    KT_REQUIRE(KtOpenScratchDisk(&Disk) && Disk.BlockBytes == 512);
    const ULONG CommandBlocks = Disk.CommandBytes / Disk.BlockBytes;
    KT_REQUIRE(KtAllocateBuffer(&Buffer, 3 * Disk.CommandBytes));
    for (ULONG Round = 0; Round < 3; Round += 1) {
        CheckReadAround(&Disk, Buffer.Va, BAD_SECTOR, 1, STATUS_DEVICE_DATA_ERROR);
        CheckReadAround(&Disk, Buffer.Va, BAD_SECTOR - 1, 1, STATUS_SUCCESS);
        CheckReadAround(&Disk, Buffer.Va, BAD_SECTOR + 1, 64, STATUS_SUCCESS);
        CheckReadAround(&Disk, Buffer.Va, BAD_SECTOR - 8, 16, STATUS_DEVICE_DATA_ERROR);
        // Of a request that is split, one command fails.
        CheckReadAround(&Disk, Buffer.Va, BAD_SECTOR - CommandBlocks / 2, 3 * CommandBlocks,
                        STATUS_DEVICE_DATA_ERROR);
        CheckReadAround(&Disk, Buffer.Va, BAD_SECTOR + 1, 3 * CommandBlocks, STATUS_SUCCESS);
    }
    KtFreeBuffer(&Buffer);
}

//
// F2: one write and one flush fail, once each.
//

#define WRITE_SECTOR 4096 // as tests/qemu/scenarios/storage.py has it

static VOID AnErrorThatHappensOnceIsReportedOnce(VOID)
{
    KT_DISK Disk;
    KT_BUFFER Buffer;
    if (!KtAskHost("mark")) {
        return;
    }
    KT_REQUIRE(KtOpenScratchDisk(&Disk) && Disk.BlockBytes == 512);
    KT_REQUIRE(KtAllocateBuffer(&Buffer, 2 * PAGE_SIZE));
    const ULONG64 Offset = WRITE_SECTOR * 512;
    RtlFillMemory(Buffer.Va, PAGE_SIZE, 0x5A);
    KT_EQUAL(KtTransferDisk(&Disk, IRP_MJ_WRITE, Buffer.Va, Offset, PAGE_SIZE),
             STATUS_DEVICE_DATA_ERROR);
    KT_EQUAL(KtTransferDisk(&Disk, IRP_MJ_WRITE, Buffer.Va, Offset, PAGE_SIZE), STATUS_SUCCESS);
    KT_EQUAL(KtFlushDisk(&Disk), STATUS_DEVICE_DATA_ERROR);
    KT_EQUAL(KtFlushDisk(&Disk), STATUS_SUCCESS);
    KT_EQUAL(KtTransferDisk(&Disk, IRP_MJ_READ, Buffer.Va + PAGE_SIZE, Offset, PAGE_SIZE),
             STATUS_SUCCESS);
    KT_CHECK(RtlEqualMemory(Buffer.Va, Buffer.Va + PAGE_SIZE, PAGE_SIZE));
    KtFreeBuffer(&Buffer);
}

//
// F5: the disk becomes slow, and quick again.
//

#define SLOW_REQUESTS 24
#define SLOW_PER_SECOND 20

static KT_TRANSFER SlowTransfers[SLOW_REQUESTS];

// Reads so many blocks at once; returns the milliseconds of the host.
static ULONG64 ReadAtOnce(const KT_DISK *Disk, const KT_BUFFER *Buffer)
{
    const ULONG64 Start = KtAskHost("clock") ? KtHostNumber() : 0;
    ULONG StartedCount = 0;
    while (StartedCount < SLOW_REQUESTS &&
           KT_CHECK(KtStartTransfer(&SlowTransfers[StartedCount], Disk, IRP_MJ_READ,
                                    Buffer->Va + StartedCount * PAGE_SIZE,
                                    StartedCount * 16 * PAGE_SIZE, PAGE_SIZE))) {
        StartedCount += 1;
    }
    for (ULONG Index = 0; Index < StartedCount; Index += 1) {
        KT_EQUAL(KtWaitForTransfer(&SlowTransfers[Index]), STATUS_SUCCESS);
    }
    return KtAskHost("clock") ? KtHostNumber() - Start : 0;
}

static VOID CheckSpeeds(const KT_DISK *Disk, const KT_BUFFER *Buffer)
{
    const ULONG64 Before = ReadAtOnce(Disk, Buffer);
    KT_REQUIRE(KtAskHost("limit %u", SLOW_PER_SECOND));
    const ULONG64 Limited = ReadAtOnce(Disk, Buffer);
    KT_REQUIRE(KtAskHost("limit 0"));
    const ULONG64 After = ReadAtOnce(Disk, Buffer);
    DbgPrint("    # %u reads at once took %llu ms, limited %llu ms, then %llu ms\n", SLOW_REQUESTS,
             Before, Limited, After);
    KT_CHECK(Limited >= 1000ull * (SLOW_REQUESTS / 2) / SLOW_PER_SECOND); // some go at once
    KT_CHECK(After < Limited);
}

static VOID ASlowDiskIsWaitedFor(VOID)
{
    KT_DISK Disk;
    KT_BUFFER Buffer;
    if (!KtAskHost("mark")) {
        return;
    }
    KT_REQUIRE(KtOpenScratchDisk(&Disk));
    KT_REQUIRE(KtAllocateBuffer(&Buffer, SLOW_REQUESTS * PAGE_SIZE));
    CheckSpeeds(&Disk, &Buffer);
    KT_REQUIRE(KtAskHost("count ^pci_nvme_(mmio_stopped|abort) "));
    KT_EQUAL(KtHostNumber(), 0);
    KtFreeBuffer(&Buffer);
}

//
// F6: in which order data reach the medium, as the log of blklogwrites has it. A write is `w` with block
// and count, a flush mark is `f`.
//

static VOID WriteBlock(const KT_DISK *Disk, PVOID Va, ULONG64 Block)
{
    KT_EQUAL(KtTransferDisk(Disk, IRP_MJ_WRITE, Va, Block * Disk->BlockBytes, Disk->BlockBytes),
             STATUS_SUCCESS);
}

// QEMU reports the same for a write that must be on the medium: it drops the flag, and sends no flush.
static VOID WriteBlockThrough(const KT_DISK *Disk, PVOID Va, ULONG64 Block)
{
    KT_TRANSFER Transfer = {.StackFlags = SL_WRITE_THROUGH};
    KT_REQUIRE(KtStartTransfer(&Transfer, Disk, IRP_MJ_WRITE, Va, Block * Disk->BlockBytes,
                               Disk->BlockBytes));
    KT_EQUAL(KtWaitForTransfer(&Transfer), STATUS_SUCCESS);
}

static BOOLEAN HostSays(PCSTR Text)
{
    const SIZE_T Length = RtlStringLength(Text);
    return RtlStringLength(KtHostResult()) == Length &&
           RtlEqualMemory(KtHostResult(), Text, Length);
}

static VOID AFlushComesAfterTheData(VOID)
{
    KT_DISK Disk;
    KT_BUFFER Buffer;
    if (!KtAskHost("forget")) {
        return;
    }
    KT_REQUIRE(KtOpenScratchDisk(&Disk));
    KT_REQUIRE(KtAllocateBuffer(&Buffer, PAGE_SIZE));
    WriteBlock(&Disk, Buffer.Va, 100);
    WriteBlock(&Disk, Buffer.Va, 7);
    KT_EQUAL(KtFlushDisk(&Disk), STATUS_SUCCESS);
    WriteBlockThrough(&Disk, Buffer.Va, 300);
    WriteBlock(&Disk, Buffer.Va, 301);
    KT_EQUAL(KtFlushDisk(&Disk), STATUS_SUCCESS);
    KtFreeBuffer(&Buffer);
    KT_REQUIRE(KtAskHost("written"));
    DbgPrint("    # %s\n", KtHostResult());
    KT_CHECK(HostSays("w100+1 w7+1 f w300+1 w301+1 f"));
}

//
// F11: a remapping unit between the devices and memory lets nothing through: what a device wants shows as
// a fault, with the device's name and the address.
//

#define REMAPPING_BASE 0xFED90000 // where QEMU's q35 has it
#define REMAPPING_CAPABILITY 0x08
#define REMAPPING_COMMAND 0x18
#define REMAPPING_STATUS 0x1C
#define REMAPPING_ROOT_TABLE 0x20
#define REMAPPING_FAULT_STATUS 0x34
#define REMAPPING_VERSION_1 0x10
#define TRANSLATION_ENABLE 0x80000000u
#define SET_ROOT_TABLE 0x40000000u
#define PRIMARY_FAULT_PENDING 0x2u
#define FAULT_RECORD_PRESENT 0x80000000u // of its last dword; bits 7:0 are the reason
#define ROOT_ENTRY_NOT_PRESENT 0x1u
#define FAULT_MILLISECONDS 2000
#define SHORT_TIMEOUT_MILLISECONDS 500

static PUCHAR Remapping;

static VOID CommandRemapping(ULONG Command, ULONG ExpectedStatus)
{
    WRITE_REGISTER_ULONG((PULONG)(Remapping + REMAPPING_COMMAND), Command);
    KT_EQUAL(READ_REGISTER_ULONG((PULONG)(Remapping + REMAPPING_STATUS)) & ExpectedStatus,
             ExpectedStatus);
}

// Whether a fault was recorded in time.
static BOOLEAN WaitForFault(VOID)
{
    for (ULONG Round = 0; Round < FAULT_MILLISECONDS; Round += 1) {
        const PULONG Status = (PULONG)(Remapping + REMAPPING_FAULT_STATUS);
        if ((READ_REGISTER_ULONG(Status) & PRIMARY_FAULT_PENDING) != 0) {
            return TRUE;
        }
        KtSleep(1);
    }
    return FALSE;
}

static VOID CheckFault(const IO_PCI_FUNCTION *Controller)
{
    const ULONG64 Capability = READ_REGISTER_ULONG64((PULONG64)(Remapping + REMAPPING_CAPABILITY));
    const PULONG Record = (PULONG)(Remapping + (Capability >> 24 & 0x3FF) * 16);
    const ULONG Source = READ_REGISTER_ULONG(Record + 2) & 0xFFFF;
    const ULONG Reason = READ_REGISTER_ULONG(Record + 3);
    DbgPrint("    # fault at 0x%llx by %04x, reason %u\n",
             (ULONG64)READ_REGISTER_ULONG(Record + 1) << 32 | READ_REGISTER_ULONG(Record), Source,
             Reason & 0xFF);
    KT_CHECK((Reason & FAULT_RECORD_PRESENT) != 0);
    KT_EQUAL(Reason & 0xFF, ROOT_ENTRY_NOT_PRESENT);
    KT_EQUAL(Source, (ULONG)Controller->Bus << 8 | Controller->Device << 3 | Controller->Function);
}

// A controller that can't read its doorbells does nothing, and does not know: time tells.
static BOOLEAN SetTimeout(const KT_DISK *Disk)
{
    const NVME_TIMEOUT Timeout = {SHORT_TIMEOUT_MILLISECONDS};
    ULONG_PTR Information;
    return KT_EQUAL(IoControlSynchronously(Disk->Device, IOCTL_NVME_SET_TIMEOUT, &Timeout,
                                           sizeof(Timeout), NULL, 0, &Information),
                    STATUS_SUCCESS);
}

static VOID ReadThroughNothing(const IO_PCI_FUNCTION *Controller, const KT_BUFFER *Buffer)
{
    KT_DISK Disk;
    KT_TRANSFER Transfer = {.StackFlags = 0};
    KT_REQUIRE(KtOpenScratchDisk(&Disk) && SetTimeout(&Disk));
    CommandRemapping(TRANSLATION_ENABLE, TRANSLATION_ENABLE);
    const BOOLEAN IsStarted =
        KtStartTransfer(&Transfer, &Disk, IRP_MJ_READ, Buffer->Va, 0, PAGE_SIZE);
    KT_CHECK(IsStarted && WaitForFault());
    WRITE_REGISTER_ULONG((PULONG)(Remapping + REMAPPING_COMMAND), 0);
    CheckFault(Controller);
    KT_REQUIRE(IsStarted);
    KT_EQUAL(KtWaitForTransfer(&Transfer), STATUS_IO_TIMEOUT);
    KT_EQUAL(KtTransferDisk(&Disk, IRP_MJ_READ, Buffer->Va, 0, PAGE_SIZE), STATUS_SUCCESS);
}

static VOID AControllerWithoutMemoryIsReset(VOID)
{
    const IO_PCI_FUNCTION *Controller = FindNvmeController();
    KT_BUFFER Buffer;
    if (!KtAskHost("mark")) {
        return;
    }
    KT_REQUIRE(Controller != NULL && KtAllocateBuffer(&Buffer, 2 * PAGE_SIZE));
    Remapping =
        MmMapIoSpaceEx(KtPhysical(REMAPPING_BASE), PAGE_SIZE, PAGE_READWRITE | PAGE_NOCACHE);
    KT_REQUIRE(Remapping != NULL);
    if (KT_EQUAL(READ_REGISTER_ULONG((PULONG)Remapping), REMAPPING_VERSION_1)) {
        // The second page is the root table: all zeros, so no device has a table of its own.
        RtlZeroMemory(Buffer.Va + PAGE_SIZE, PAGE_SIZE);
        WRITE_REGISTER_ULONG64((PULONG64)(Remapping + REMAPPING_ROOT_TABLE),
                               KtPhysicalOf(Buffer.Va + PAGE_SIZE));
        CommandRemapping(SET_ROOT_TABLE, SET_ROOT_TABLE);
        ReadThroughNothing(Controller, &Buffer);
    }
    MmUnmapIoSpace(Remapping, PAGE_SIZE);
    KtFreeBuffer(&Buffer);
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
    {"F1: a block that cannot be read fails alone, as often as it is read", OneBadBlockFailsAlone},
    {"F2: an error that happens once is reported once", AnErrorThatHappensOnceIsReportedOnce},
    {"F5: a disk that becomes slow is waited for", ASlowDiskIsWaitedFor},
    {"F6: a flush reaches the medium, after the data before it", AFlushComesAfterTheData},
    {"F11: a request to a controller that cannot reach memory times out, and the controller is "
     "reset",
     AControllerWithoutMemoryIsReset},
    {"F22: the host acts later, and waits for what the emulator tells of",
     TheHostActsLaterAndWaits},
    {"F22: the doorbell of a queue that does not exist is a mistake that the host sees",
     MistakesAreLogged},
};

const KT_SUITE KtScenarioSuite = {"scenario", KtNeedsDevices, Tests, ARRAYSIZE(Tests)};
