// Random writes, reads, flushes, trims and writes of zeros on all disks that the host marked, many at a
// time, from places in memory that are in no order, as long as the boot option `seconds` says. Every
// read is compared with the model (integrity.h); at the end the host gets the model, and compares the
// images byte for byte.
//
// Invariants of the workload:
//   I1  A block that a request in flight writes is in no other request: what a read may find is known.
//   I2  A request that fails has done any part of what it should, block by block, and nothing else.
//   I3  Nothing fails but a request with a block that the host has made fail.
#include "kernel/inc/io.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/integrity.h"

#include <ntddnvme.h>
#include <ntddstor.h>

#define DISK_LIMIT 8
#define SLOT_LIMIT 48
#define SLOT_MINIMUM 4
#define LONGEST_BYTES (1280 * 1024) // more than twice what a command of QEMU's controller moves
#define DEFAULT_SECONDS 5
#define HANG_MILLISECONDS 60000
#define ATTEMPTS 8 // to find blocks that nobody uses
#define HOT_BLOCKS 512
#define LEAST_REQUESTS 500

typedef enum _IT_OPERATION {
    ItRead,
    ItWrite,
    ItFlush,
    ItTrim,
    ItZero,
    ItOperationCount,
} IT_OPERATION;

// A request in flight, or room for one.
typedef struct _IT_SLOT {
    LIST_ENTRY Link; // of those that are done
    PIT_DISK Disk;   // NULL: free
    IT_OPERATION Operation;
    ULONG First;
    ULONG Count; // of blocks
    ULONG Generation;
    KT_BUFFER Memory;
    PUCHAR Va; // of the data, in it
    PIRP Irp;
    IO_STATUS_BLOCK Result;
} IT_SLOT, *PIT_SLOT;

static struct {
    IT_DISK Disks[DISK_LIMIT];
    ULONG DiskCount;
    IT_SLOT Slots[SLOT_LIMIT];
    ULONG SlotCount;
    ULONG InFlight;
    ULONG Depth; // how many may be
    LIST_ENTRY Done;
    KSPIN_LOCK DoneLock;
    KSEMAPHORE DoneCount;
    ULONG64 Random;
    BOOLEAN HasFaults;          // the host makes some blocks fail
    BOOLEAN HasResets;          // somebody resets the controller
    volatile BOOLEAN IsHolding; // and wants no new request now
    ULONG64 Requests[ItOperationCount];
    ULONG64 Failures[ItOperationCount];
    ULONG64 Bytes[ItOperationCount];
} It;

// ------------------------------------------------------------------------------------------------
// Chance.

// Below Limit, which is not 0 (xorshift).
static ULONG Random(ULONG Limit)
{
    It.Random ^= It.Random << 13;
    It.Random ^= It.Random >> 7;
    It.Random ^= It.Random << 17;
    return (ULONG)(It.Random >> 32) % Limit;
}

// Small ones are more frequent, and every power of two is as frequent as another.
static ULONG RandomCount(ULONG Limit)
{
    ULONG Bound = 1;
    while (Bound < Limit && Random(3) != 0) {
        Bound *= 2;
    }
    return 1 + Random(Bound < Limit ? Bound : Limit);
}

// ------------------------------------------------------------------------------------------------
// What may be in flight together (I1).

static BOOLEAN Conflicts(const IT_SLOT *One, const IT_SLOT *Other)
{
    return One->Disk == Other->Disk && One->First < Other->First + Other->Count &&
           Other->First < One->First + One->Count &&
           !(One->Operation == ItRead && Other->Operation == ItRead);
}

static BOOLEAN ConflictsWithAny(const IT_SLOT *New)
{
    for (ULONG Index = 0; Index < It.SlotCount; Index += 1) {
        const IT_SLOT *const Slot = &It.Slots[Index];
        if (Slot != New && Slot->Disk != NULL && Conflicts(New, Slot)) {
            return TRUE;
        }
    }
    return FALSE;
}

// The blocks of a new request; FALSE: those that were drawn are busy.
static BOOLEAN DrawBlocks(PIT_SLOT Slot)
{
    const IT_DISK *const Disk = Slot->Disk;
    const ULONG Range = Random(4) == 0 ? HOT_BLOCKS : Disk->BlockCount;
    for (ULONG Attempt = 0; Attempt < ATTEMPTS; Attempt += 1) {
        Slot->First = Random(Range);
        const ULONG Longest = LONGEST_BYTES / Disk->Disk.BlockBytes;
        const ULONG Left = Disk->BlockCount - Slot->First;
        Slot->Count = RandomCount(Left < Longest ? Left : Longest);
        if (!ConflictsWithAny(Slot)) {
            return TRUE;
        }
    }
    return FALSE;
}

// ------------------------------------------------------------------------------------------------
// The way there.

static NTSTATUS NTAPI RequestIsDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    const PIT_SLOT Slot = Context;
    Slot->Result = Irp->IoStatus;
    ExInterlockedInsertTailList(&It.Done, &Slot->Link, &It.DoneLock);
    KeReleaseSemaphore(&It.DoneCount, IO_NO_INCREMENT, 1, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static ULONG ByteCountOf(const IT_SLOT *Slot)
{
    return Slot->Count * Slot->Disk->Disk.BlockBytes;
}

// With an MDL of our own, or one that the I/O manager makes and locks.
static PIRP BuildTransfer(PIT_SLOT Slot, UCHAR MajorFunction)
{
    LARGE_INTEGER Offset = {.QuadPart = (LONG64)Slot->First * Slot->Disk->Disk.BlockBytes};
    const PDEVICE_OBJECT Device = Slot->Disk->Disk.Device;
    if (Random(2) == 0) {
        return IoBuildAsynchronousFsdRequest(MajorFunction, Device, Slot->Va, ByteCountOf(Slot),
                                             &Offset, NULL);
    }
    const PIRP Irp = IoAllocateIrp(Device->StackSize, FALSE);
    const PMDL Mdl = KtDescribe(Slot->Va, ByteCountOf(Slot));
    if (Irp == NULL || Mdl == NULL) {
        if (Irp != NULL) {
            IoFreeIrp(Irp);
        }
        if (Mdl != NULL) {
            IoFreeMdl(Mdl);
        }
        return NULL;
    }
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Irp->MdlAddress = Mdl;
    Stack->MajorFunction = MajorFunction;
    Stack->Parameters.Write.Length = ByteCountOf(Slot); // Parameters.Read has the same layout
    Stack->Parameters.Write.ByteOffset = Offset;
    return Irp;
}

static PIRP BuildRead(PIT_SLOT Slot)
{
    RtlFillMemory(Slot->Va, ByteCountOf(Slot), 0xA5);
    return BuildTransfer(Slot, IRP_MJ_READ);
}

static PIRP BuildWrite(PIT_SLOT Slot)
{
    for (ULONG Index = 0; Index < Slot->Count; Index += 1) {
        ItFillBlock(Slot->Disk, Slot->First + Index, Slot->Generation,
                    Slot->Va + (SIZE_T)Index * Slot->Disk->Disk.BlockBytes);
    }
    return BuildTransfer(Slot, IRP_MJ_WRITE);
}

static PIRP BuildFlush(PIT_SLOT Slot)
{
    const PIRP Irp = IoAllocateIrp(Slot->Disk->Disk.Device->StackSize, FALSE);
    if (Irp != NULL) {
        IoGetNextIrpStackLocation(Irp)->MajorFunction = IRP_MJ_FLUSH_BUFFERS;
    }
    return Irp;
}

// What a device control needs is all in its system buffer, which is zero at first.
static PIRP BuildControl(const IT_SLOT *Slot, ULONG Code, ULONG ByteCount)
{
    const PIRP Irp = IoAllocateIrp(Slot->Disk->Disk.Device->StackSize, FALSE);
    if (Irp == NULL) {
        return NULL;
    }
    Irp->AssociatedIrp.SystemBuffer = ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, KT_TAG);
    if (Irp->AssociatedIrp.SystemBuffer == NULL) {
        IoFreeIrp(Irp);
        return NULL;
    }
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MajorFunction = IRP_MJ_DEVICE_CONTROL;
    Stack->Parameters.DeviceIoControl.IoControlCode = Code;
    Stack->Parameters.DeviceIoControl.InputBufferLength = ByteCount;
    Stack->Parameters.DeviceIoControl.OutputBufferLength = ByteCount;
    return Irp;
}

typedef struct _TRIM {
    DEVICE_MANAGE_DATA_SET_ATTRIBUTES Attributes;
    DEVICE_DATA_SET_RANGE Ranges[2]; // side by side
} TRIM;

static PIRP BuildTrim(PIT_SLOT Slot)
{
    const PIRP Irp = BuildControl(Slot, IOCTL_STORAGE_MANAGE_DATA_SET_ATTRIBUTES, sizeof(TRIM));
    if (Irp == NULL) {
        return NULL;
    }
    const ULONG64 BlockBytes = Slot->Disk->Disk.BlockBytes;
    const ULONG FirstCount = (Slot->Count + 1) / 2;
    TRIM *const Trim = Irp->AssociatedIrp.SystemBuffer;
    Trim->Attributes = (DEVICE_MANAGE_DATA_SET_ATTRIBUTES){
        .Size = sizeof(Trim->Attributes),
        .Action = DeviceDsmAction_Trim,
        .DataSetRangesOffset = FIELD_OFFSET(TRIM, Ranges),
        .DataSetRangesLength = (Slot->Count == 1 ? 1 : 2) * (ULONG)sizeof(Trim->Ranges[0])};
    Trim->Ranges[0] =
        (DEVICE_DATA_SET_RANGE){(LONGLONG)(Slot->First * BlockBytes), FirstCount * BlockBytes};
    Trim->Ranges[1] = (DEVICE_DATA_SET_RANGE){(LONGLONG)((Slot->First + FirstCount) * BlockBytes),
                                              (Slot->Count - FirstCount) * BlockBytes};
    return Irp;
}

#define NVME_WRITE_ZEROES 0x08

typedef struct _ZERO {
    STORAGE_PROTOCOL_COMMAND Protocol;
    ULONG Rest[STORAGE_PROTOCOL_COMMAND_LENGTH_NVME / sizeof(ULONG)];
} ZERO;

static PIRP BuildZero(PIT_SLOT Slot)
{
    const PIRP Irp = BuildControl(Slot, IOCTL_STORAGE_PROTOCOL_COMMAND, sizeof(ZERO));
    if (Irp == NULL) {
        return NULL;
    }
    const PSTORAGE_PROTOCOL_COMMAND Protocol = Irp->AssociatedIrp.SystemBuffer;
    Protocol->Version = STORAGE_PROTOCOL_STRUCTURE_VERSION;
    Protocol->Length = sizeof(*Protocol);
    Protocol->ProtocolType = ProtocolTypeNvme;
    Protocol->CommandLength = STORAGE_PROTOCOL_COMMAND_LENGTH_NVME;
    Protocol->CommandSpecific = STORAGE_PROTOCOL_SPECIFIC_NVME_NVM_COMMAND;
    const PULONG Words = (PULONG)Protocol->Command;
    Words[0] = NVME_WRITE_ZEROES;
    Words[1] = Slot->Disk->NamespaceId;
    Words[10] = Slot->First;
    Words[12] = Slot->Count - 1;
    return Irp;
}

static const struct {
    PCSTR Name;
    ULONG Share; // of 100
    PIRP (*Build)(PIT_SLOT Slot);
    BOOLEAN Changes; // what blocks hold
} Operations[] = {
    [ItRead] = {"reads", 42, BuildRead, FALSE},
    [ItWrite] = {"writes", 44, BuildWrite, TRUE},
    [ItFlush] = {"flushes", 4, BuildFlush, FALSE},
    [ItTrim] = {"trims", 5, BuildTrim, TRUE},
    [ItZero] = {"writes of zeros", 5, BuildZero, TRUE},
};
C_ASSERT(ARRAYSIZE(Operations) == ItOperationCount);

// A reset makes QEMU 7.2 crash when it is at a flush or a trim: it forgets the queue, and then ends them.
static BOOLEAN IsAllowed(IT_OPERATION Operation)
{
    return !It.HasResets || (Operation != ItFlush && Operation != ItTrim);
}

static IT_OPERATION RandomOperation(VOID)
{
    ULONG Draw = Random(100);
    ULONG Operation = 0;
    while (Draw >= Operations[Operation].Share) {
        Draw -= Operations[Operation].Share;
        Operation += 1;
    }
    return IsAllowed((IT_OPERATION)Operation) ? (IT_OPERATION)Operation : ItZero;
}

// A request that is drawn by chance. FALSE: not now.
static BOOLEAN StartRequest(PIT_SLOT Slot)
{
    Slot->Disk = &It.Disks[Random(It.DiskCount)];
    Slot->Operation = RandomOperation();
    Slot->First = Slot->Count = 0;
    Slot->Irp = NULL;
    if (Slot->Operation == ItFlush || DrawBlocks(Slot)) {
        if (!ItHaveRoom(Slot->Disk, Slot->First, Slot->Count)) {
            Slot->Operation = ItRead; // decides
        }
        Slot->Generation = Slot->Disk->Generation += 1;
        // Devices want addresses that 4 divides, and no more.
        Slot->Va = Slot->Memory.Va + sizeof(ULONG) * Random(PAGE_SIZE / sizeof(ULONG));
        Slot->Irp = Operations[Slot->Operation].Build(Slot);
        KT_CHECK(Slot->Irp != NULL);
    }
    if (Slot->Irp == NULL) {
        Slot->Disk = NULL;
        return FALSE;
    }
    if (Slot->Operation == ItWrite && Random(4) == 0) {
        IoGetNextIrpStackLocation(Slot->Irp)->Flags |= SL_WRITE_THROUGH;
    }
    It.InFlight += 1;
    IoSetCompletionRoutine(Slot->Irp, RequestIsDone, Slot, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(Slot->Disk->Disk.Device, Slot->Irp);
    return TRUE;
}

// ------------------------------------------------------------------------------------------------
// The way back.

// Which sectors of 512 bytes the host makes fail, of the disk with this tag: as
// tests/qemu/scenarios/integrity.py has it.
#define FAULTY_TAG 1

static const struct {
    IT_OPERATION Operation;
    ULONG First;
    ULONG Distance;
    ULONG Count;
} Faults[] = {
    {ItRead, 1000, 3000, 4},  // always
    {ItWrite, 2000, 500, 40}, // once
};

static BOOLEAN IsMeantToFail(const IT_SLOT *Slot)
{
    const ULONG Sectors = Slot->Disk->Disk.BlockBytes / 512;
    const ULONG64 First = (ULONG64)Slot->First * Sectors;
    const ULONG64 End = First + (ULONG64)Slot->Count * Sectors;
    for (ULONG Row = 0; Row < ARRAYSIZE(Faults); Row += 1) {
        for (ULONG Index = 0; Index < Faults[Row].Count; Index += 1) {
            const ULONG Sector = Faults[Row].First + Index * Faults[Row].Distance;
            if (Faults[Row].Operation == Slot->Operation && First <= Sector && Sector < End) {
                return It.HasFaults && Slot->Disk->Tag == FAULTY_TAG;
            }
        }
    }
    return FALSE;
}

static VOID CheckFailure(const IT_SLOT *Slot) // I3
{
    It.Failures[Slot->Operation] += 1;
    KT_EQUAL(Slot->Result.Information, 0);
    KT_EQUAL(Slot->Result.Status, IsMeantToFail(Slot) ? STATUS_DEVICE_DATA_ERROR : STATUS_SUCCESS);
}

// After a trim a block holds zeros, or what it held.
static VOID UpdateModel(const IT_SLOT *Slot)
{
    const BOOLEAN HasFailed = !NT_SUCCESS(Slot->Result.Status);
    const ULONG Generation = Slot->Operation == ItWrite ? Slot->Generation : IT_ZERO;
    if (!Operations[Slot->Operation].Changes) {
        return;
    }
    if (HasFailed || Slot->Operation == ItTrim) {
        ItAddToBlocks(Slot->Disk, Slot->First, Slot->Count, Generation); // I2
    } else {
        ItSetBlocks(Slot->Disk, Slot->First, Slot->Count, Generation);
    }
}

static VOID CheckSuccess(const IT_SLOT *Slot)
{
    It.Bytes[Slot->Operation] += ByteCountOf(Slot);
    if (Slot->Operation == ItRead || Slot->Operation == ItWrite) {
        KT_EQUAL(Slot->Result.Information, ByteCountOf(Slot));
    }
    if (Slot->Operation == ItRead) {
        KT_EQUAL(ItCheckBlocks(Slot->Disk, Slot->First, Slot->Count, Slot->Va), 0);
    }
    if (Slot->Operation == ItZero) {
        const STORAGE_PROTOCOL_COMMAND *const Protocol = Slot->Irp->AssociatedIrp.SystemBuffer;
        KT_EQUAL(Protocol->ReturnStatus, STORAGE_PROTOCOL_STATUS_SUCCESS);
    }
}

static VOID FreeIrp(PIRP Irp)
{
    if (Irp->MdlAddress != NULL) {
        if ((Irp->MdlAddress->MdlFlags & MDL_PAGES_LOCKED) != 0) {
            MmUnlockPages(Irp->MdlAddress);
        }
        IoFreeMdl(Irp->MdlAddress);
    }
    if (Irp->AssociatedIrp.SystemBuffer != NULL) {
        ExFreePoolWithTag(Irp->AssociatedIrp.SystemBuffer, KT_TAG);
    }
    IoFreeIrp(Irp);
}

static VOID FinishRequest(PIT_SLOT Slot)
{
    KtSetContext("%s: %u blocks at %u of disk %u", Operations[Slot->Operation].Name, Slot->Count,
                 Slot->First, Slot->Disk->Tag);
    It.Requests[Slot->Operation] += 1;
    if (NT_SUCCESS(Slot->Result.Status)) {
        CheckSuccess(Slot);
    } else {
        CheckFailure(Slot);
    }
    UpdateModel(Slot);
    FreeIrp(Slot->Irp);
    Slot->Disk = NULL;
    It.InFlight -= 1;
}

// FALSE: none came; requests are lost, and their memory with them.
static BOOLEAN FinishOne(VOID)
{
    LARGE_INTEGER Timeout = KtMilliseconds(HANG_MILLISECONDS);
    if (KeWaitForSingleObject(&It.DoneCount, Executive, KernelMode, FALSE, &Timeout) !=
        STATUS_SUCCESS) {
        KtSetContext("%u requests in flight", It.InFlight);
        return KT_CHECK(!"a request ends");
    }
    const PLIST_ENTRY Link = ExInterlockedRemoveHeadList(&It.Done, &It.DoneLock);
    FinishRequest(CONTAINING_RECORD(Link, IT_SLOT, Link));
    return TRUE;
}

// ------------------------------------------------------------------------------------------------
// With the boot option `resets`, a thread resets the controller again and again: by its registers, or with
// `resets=function` as a PCI function.

// A reset by the registers also makes QEMU 7.2 crash when it has not yet seen the newest commands; what it
// has seen may be under way.
#define HOLD_MILLISECONDS 2
#define SHORTEST_PAUSE_MILLISECONDS 20
#define LONGEST_PAUSE_MILLISECONDS 150

static struct {
    PKTHREAD Thread;
    KEVENT Stop;
    NVME_RESET Reset;
    ULONG Count;
} Resetter;

static VOID NTAPI ResetAgainAndAgain(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    ULONG Pause = SHORTEST_PAUSE_MILLISECONDS;
    LARGE_INTEGER Timeout = KtMilliseconds((LONG)Pause);
    while (KeWaitForSingleObject(&Resetter.Stop, Executive, KernelMode, FALSE, &Timeout) ==
           STATUS_TIMEOUT) {
        ULONG_PTR Information;
        It.IsHolding = Resetter.Reset.Kind == NvmeControllerReset;
        KtSleep(HOLD_MILLISECONDS);
        KT_EQUAL(IoControlSynchronously(It.Disks[0].Disk.Device, IOCTL_NVME_RESET, &Resetter.Reset,
                                        sizeof(Resetter.Reset), NULL, 0, &Information),
                 STATUS_SUCCESS);
        It.IsHolding = FALSE;
        Resetter.Count += 1;
        Pause = Pause < LONGEST_PAUSE_MILLISECONDS ? Pause + 7 : SHORTEST_PAUSE_MILLISECONDS;
        Timeout = KtMilliseconds((LONG)Pause);
    }
}

static VOID StartResetter(VOID)
{
    if (It.HasResets) {
        KeInitializeEvent(&Resetter.Stop, NotificationEvent, FALSE);
        Resetter.Thread = KtStartThread(ResetAgainAndAgain, NULL, 0);
        KT_CHECK(Resetter.Thread != NULL);
    }
}

static VOID StopResetter(VOID)
{
    if (Resetter.Thread != NULL) {
        KeSetEvent(&Resetter.Stop, IO_NO_INCREMENT, FALSE);
        KtJoin(Resetter.Thread);
        DbgPrint("    # %u resets\n", Resetter.Count);
        KT_CHECK(Resetter.Count > 0);
    }
}

// ------------------------------------------------------------------------------------------------
// The workload.

static VOID FillSlots(VOID)
{
    for (ULONG Index = 0; Index < It.SlotCount && It.InFlight < It.Depth; Index += 1) {
        if (It.Slots[Index].Disk == NULL) {
            (VOID) StartRequest(&It.Slots[Index]);
        }
    }
}

static BOOLEAN RunFor(ULONG Seconds)
{
    const ULONG64 End = KeQueryInterruptTime() + Seconds * 10000000ull; // of 100 ns
    BOOLEAN IsAlive = TRUE;
    while (IsAlive && KeQueryInterruptTime() < End) {
        if (Random(64) == 0) {
            It.Depth = 1 + Random(It.SlotCount);
        }
        if (!It.IsHolding) {
            FillSlots();
        } else if (It.InFlight == 0) {
            KtSleep(1);
        }
        IsAlive = It.InFlight == 0 || FinishOne();
    }
    while (IsAlive && It.InFlight > 0) {
        IsAlive = FinishOne();
    }
    return IsAlive;
}

static BOOLEAN Prepare(VOID)
{
    RtlZeroMemory(&It, sizeof(It));
    InitializeListHead(&It.Done);
    KeInitializeSpinLock(&It.DoneLock);
    KeInitializeSemaphore(&It.DoneCount, 0, SLOT_LIMIT);
    while (It.DiskCount < DISK_LIMIT && ItOpenDisk(It.DiskCount, &It.Disks[It.DiskCount])) {
        It.DiskCount += 1;
    }
    while (It.SlotCount < SLOT_LIMIT &&
           KtAllocateBuffer(&It.Slots[It.SlotCount].Memory, LONGEST_BYTES + PAGE_SIZE)) {
        It.SlotCount += 1;
    }
    It.Depth = It.SlotCount;
    return KT_CHECK(It.DiskCount > 0) && KT_CHECK(It.SlotCount >= SLOT_MINIMUM);
}

static VOID CleanUp(VOID)
{
    for (ULONG Index = 0; Index < It.SlotCount; Index += 1) {
        KtFreeBuffer(&It.Slots[Index].Memory);
    }
    for (ULONG Index = 0; Index < It.DiskCount; Index += 1) {
        ItCloseDisk(&It.Disks[Index]);
    }
}

static VOID Report(VOID)
{
    ULONG64 Sum = 0;
    KtSetContext("all");
    for (ULONG Operation = 0; Operation < ItOperationCount; Operation += 1) {
        DbgPrint("    # %llu %s, %llu MiB, %llu failed\n", It.Requests[Operation],
                 Operations[Operation].Name, It.Bytes[Operation] / KT_MIB, It.Failures[Operation]);
        KT_CHECK(It.Requests[Operation] > 0 || !IsAllowed((IT_OPERATION)Operation));
        Sum += It.Requests[Operation];
    }
    KT_CHECK(Sum >= LEAST_REQUESTS);
}

// The requests that end before the host is asked are all that count: a flush makes them last.
static VOID RunAndCompare(VOID)
{
    CHAR Kind[sizeof("function")];
    RtlZeroMemory(&Resetter, sizeof(Resetter));
    It.HasResets = KeGetBootOption("resets", Kind, sizeof(Kind));
    Resetter.Reset.Kind = It.HasResets && Kind[0] == 'f' ? NvmeFunctionReset : NvmeControllerReset;
    It.Random = KtNumberOption("seed", __builtin_ia32_rdtsc() | 1);
    DbgPrint("    # seed=%llu, %u disks, up to %u requests of up to %u bytes\n", It.Random,
             It.DiskCount, It.SlotCount, LONGEST_BYTES);
    StartResetter();
    const BOOLEAN IsAlive = RunFor((ULONG)KtNumberOption("seconds", DEFAULT_SECONDS));
    StopResetter();
    Report();
    KT_REQUIRE(IsAlive);
    for (ULONG Index = 0; Index < It.DiskCount; Index += 1) {
        KT_EQUAL(KtFlushDisk(&It.Disks[Index].Disk), STATUS_SUCCESS);
    }
    KT_CHECK(ItTellHost(It.Disks, It.DiskCount));
}

static VOID WhatIsWrittenIsThere(VOID)
{
    if (!KtAskHost("faults")) {
        return;
    }
    const BOOLEAN HasFaults = KtHostNumber() != 0;
    if (Prepare()) {
        It.HasFaults = HasFaults;
        RunAndCompare();
    }
    if (It.InFlight > 0) {
        KtKeepWhatIsHeld(); // the devices may still write to it
    } else {
        CleanUp();
    }
}

static const KT_TEST Tests[] = {
    {"integrity: what random requests wrote is what reads, and then the host, find",
     WhatIsWrittenIsThere},
};

const KT_SUITE KtIntegritySuite = {"integrity", KtNeedsDevices, Tests, ARRAYSIZE(Tests)};
