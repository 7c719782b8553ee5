// The NVMe driver in the real kernel, on the disks that are there. What takes a controller that
// misbehaves, the host tests have.
//
// The disks' tests run on every disk that was started. Only a disk whose serial number begins with
// SCRATCH is written to, and gets its content back.
#include "kernel/inc/io.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/tests.h"

#include <ntddstor.h>

// ------------------------------------------------------------------------------------------------
// Start and stop.

#define REGISTER_CC 0x14
#define REGISTER_CSTS 0x1C
#define CC_ENABLE 0x1u
#define CSTS_READY 0x1u

// The first NVMe controller; NULL: there is none.
static const IO_PCI_FUNCTION *Controller(VOID)
{
    const PDEVICE_OBJECT Device = IoFindDevice(FILE_DEVICE_CONTROLLER, 0);
    const IO_PCI_FUNCTION *Function = NULL;
    if (Device == NULL) {
        return NULL;
    }
    do {
        Function = IoNextPciFunction(Function);
    } while (Function != NULL && Function->Pdo->AttachedDevice != Device);
    KT_CHECK(Function != NULL);
    return Function;
}

static NTSTATUS NTAPI SignalDone(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

// Sends an IRP that is ready to be sent, waits, and frees it.
static NTSTATUS SendAndFree(PDEVICE_OBJECT Device, PIRP Irp)
{
    KEVENT Done;
    KeInitializeEvent(&Done, NotificationEvent, FALSE);
    IoSetCompletionRoutine(Irp, SignalDone, &Done, TRUE, TRUE, TRUE);
    (VOID) IoCallDriver(Device, Irp);
    KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL);
    const NTSTATUS Status = Irp->IoStatus.Status;
    IoFreeIrp(Irp);
    return Status;
}

typedef union _RESOURCES {
    CM_RESOURCE_LIST List;
    UCHAR Room[sizeof(CM_RESOURCE_LIST) +
               PCI_TYPE0_ADDRESSES * sizeof(CM_PARTIAL_RESOURCE_DESCRIPTOR)];
} RESOURCES;

// The function's memory: its registers, and whatever else there is.
static VOID DescribeResources(const IO_PCI_FUNCTION *Function, PCM_RESOURCE_LIST Resources)
{
    RtlZeroMemory(Resources, sizeof(RESOURCES));
    Resources->Count = 1;
    const PCM_PARTIAL_RESOURCE_LIST List = &Resources->List[0].PartialResourceList;
    for (ULONG Index = 0; Index < PCI_TYPE0_ADDRESSES; Index += 1) {
        const IO_PCI_BAR *Bar = &Function->Bars[Index];
        if (Bar->ByteCount != 0 && Bar->Base != 0 && !Bar->IsPort) {
            const PCM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor =
                &List->PartialDescriptors[List->Count];
            Descriptor->Type = CmResourceTypeMemory;
            Descriptor->u.Memory.Start = KtPhysical(Bar->Base);
            Descriptor->u.Memory.Length = (ULONG)Bar->ByteCount;
            List->Count += 1;
        }
    }
}

// The request; of its allocations, the one after SkipCount good ones fails (MAXULONG: none).
// *HasFailed: there was one.
static NTSTATUS SendPnp(const IO_PCI_FUNCTION *Function, UCHAR MinorFunction, ULONG SkipCount,
                        PBOOLEAN HasFailed)
{
    RESOURCES Resources;
    DescribeResources(Function, &Resources.List);
    const PDEVICE_OBJECT Device = Function->Pdo->AttachedDevice;
    const PIRP Irp = IoAllocateIrp(Device->StackSize, FALSE);
    if (!KT_CHECK(Irp != NULL)) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MajorFunction = IRP_MJ_PNP;
    Stack->MinorFunction = MinorFunction;
    if (MinorFunction == IRP_MN_START_DEVICE) {
        Stack->Parameters.StartDevice.AllocatedResources = &Resources.List;
        Stack->Parameters.StartDevice.AllocatedResourcesTranslated = &Resources.List;
    }
    Irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
    MmStartFailures(MM_FAIL_ALL, SkipCount, SkipCount == MAXULONG ? 0 : 1);
    const NTSTATUS Status = SendAndFree(Device, Irp);
    *HasFailed = MmStopFailures() != 0;
    return Status;
}

static ULONG ReadRegister(const IO_PCI_FUNCTION *Function, ULONG Offset)
{
    const PUCHAR Registers =
        MmMapIoSpaceEx(KtPhysical(Function->Bars[0].Base), PAGE_SIZE, PAGE_READONLY | PAGE_NOCACHE);
    if (!KT_CHECK(Registers != NULL)) {
        return MAXULONG;
    }
    const ULONG Value = READ_REGISTER_ULONG((PULONG)(Registers + Offset));
    MmUnmapIoSpace(Registers, PAGE_SIZE);
    return Value;
}

// A driver that was started once more holds what it held before. Its small blocks may lie in other pages
// of the pool, so pages are not counted.
static VOID CheckSameUse(const MM_MEMORY_USE *Before)
{
    MM_MEMORY_USE After;
    MmQueryMemoryUse(&After);
    KT_EQUAL(After.PoolBlocks, Before->PoolBlocks);
    KT_EQUAL(After.DriverPages, Before->DriverPages);
    KT_EQUAL(After.DriverBlocks, Before->DriverBlocks);
    KT_EQUAL(After.Mappings, Before->Mappings);
    KT_EQUAL(After.SystemPtes, Before->SystemPtes);
    KT_EQUAL(After.MdlPages, Before->MdlPages);
    KtKeepWhatIsHeld();
}

static VOID StopDisablesAndReleasesEverything(VOID)
{
    const IO_PCI_FUNCTION *Function = Controller();
    MM_MEMORY_USE Started;
    MM_MEMORY_USE Stopped;
    BOOLEAN HasFailed;
    if (Function == NULL) {
        KT_SKIP("no disk");
    }
    KT_EQUAL(ReadRegister(Function, REGISTER_CC) & CC_ENABLE, CC_ENABLE);
    MmQueryMemoryUse(&Started);
    KT_EQUAL(SendPnp(Function, IRP_MN_STOP_DEVICE, MAXULONG, &HasFailed), STATUS_SUCCESS);
    MmQueryMemoryUse(&Stopped);
    KT_EQUAL(ReadRegister(Function, REGISTER_CC) & CC_ENABLE, 0);
    KT_EQUAL(ReadRegister(Function, REGISTER_CSTS) & CSTS_READY, 0);
    KT_CHECK(Stopped.DriverPages < Started.DriverPages);
    KT_CHECK(Stopped.Mappings < Started.Mappings);
    KT_CHECK(Stopped.PoolBlocks < Started.PoolBlocks);
    for (ULONG Round = 0; Round < 2; Round += 1) { // the second one over a started device
        KT_EQUAL(SendPnp(Function, IRP_MN_START_DEVICE, MAXULONG, &HasFailed), STATUS_SUCCESS);
        KT_EQUAL(ReadRegister(Function, REGISTER_CSTS) & CSTS_READY, CSTS_READY);
    }
    CheckSameUse(&Started);
}

static VOID StartSurvivesEveryFailedAllocation(VOID)
{
    const IO_PCI_FUNCTION *Function = Controller();
    MM_MEMORY_USE Started;
    MM_MEMORY_USE Stopped;
    BOOLEAN HasFailed = TRUE;
    BOOLEAN Ignored;
    if (Function == NULL) {
        KT_SKIP("no disk");
    }
    MmQueryMemoryUse(&Started);
    KT_EQUAL(SendPnp(Function, IRP_MN_STOP_DEVICE, MAXULONG, &Ignored), STATUS_SUCCESS);
    MmQueryMemoryUse(&Stopped);
    NTSTATUS Status = STATUS_UNSUCCESSFUL;
    // A processor has a queue of its own.
    const ULONG Most = 1000 * KeQueryActiveProcessorCount(NULL);
    for (ULONG Skip = 0; HasFailed && Skip < Most; Skip += 1) {
        KtSetContext("allocation %u", Skip);
        Status = SendPnp(Function, IRP_MN_START_DEVICE, Skip, &HasFailed);
        if (!NT_SUCCESS(Status)) {
            KT_EQUAL(Status, STATUS_INSUFFICIENT_RESOURCES);
            KT_EQUAL(SendPnp(Function, IRP_MN_STOP_DEVICE, MAXULONG, &Ignored), STATUS_SUCCESS);
            KT_EQUAL(KtCountLeaks(&Stopped), 0);
        }
    }
    KT_EQUAL(Status, STATUS_SUCCESS);
    KT_CHECK(!HasFailed);
    CheckSameUse(&Started);
}

static const KT_TEST StartTests[] = {
    {"STOP leaves the controller disabled and nothing behind; START brings it back [11.1.2]",
     StopDisablesAndReleasesEverything},
    {"START of a disk survives the failure of each of its allocations [11.1.2]",
     StartSurvivesEveryFailedAllocation},
};
const KT_SUITE KtNvmeSuite = {"nvme", KtNeedsDevices, StartTests, ARRAYSIZE(StartTests)};

// ------------------------------------------------------------------------------------------------
// Disks.

typedef struct _DISK {
    PDEVICE_OBJECT Device;
    ULONG64 ByteCount;
    ULONG BlockBytes;
    ULONG CommandBytes; // of one command, at most
    BOOLEAN IsScratch;
} DISK;

#define SCRATCH_SERIAL "SCRATCH"

static NTSTATUS Control(const DISK *Disk, ULONG Code, const VOID *Input, ULONG InputBytes,
                        PVOID Output, ULONG OutputBytes)
{
    ULONG_PTR Information;
    const NTSTATUS Status = IoControlSynchronously(Disk->Device, Code, Input, InputBytes, Output,
                                                   OutputBytes, &Information);
    KT_CHECK(!NT_SUCCESS(Status) || Information <= OutputBytes);
    return Status;
}

static NTSTATUS QueryProperty(const DISK *Disk, STORAGE_PROPERTY_ID Id, PVOID Output,
                              ULONG OutputBytes)
{
    const STORAGE_PROPERTY_QUERY Query = {.PropertyId = Id, .QueryType = PropertyStandardQuery};
    return Control(Disk, IOCTL_STORAGE_QUERY_PROPERTY, &Query, sizeof(Query), Output, OutputBytes);
}

static BOOLEAN OpenDisk(ULONG Index, DISK *Disk)
{
    GET_LENGTH_INFORMATION Length = {0};
    DISK_GEOMETRY Geometry = {0};
    STORAGE_ADAPTER_DESCRIPTOR Adapter = {0};
    union {
        STORAGE_DEVICE_DESCRIPTOR Descriptor;
        CHAR Bytes[256];
    } Product = {0};

    RtlZeroMemory(Disk, sizeof(*Disk));
    Disk->Device = IoFindDevice(FILE_DEVICE_DISK, Index);
    if (Disk->Device == NULL) {
        return FALSE;
    }
    KtSetContext("disk %u", Index);
    KT_EQUAL(Control(Disk, IOCTL_DISK_GET_LENGTH_INFO, NULL, 0, &Length, sizeof(Length)), 0);
    KT_EQUAL(Control(Disk, IOCTL_DISK_GET_DRIVE_GEOMETRY, NULL, 0, &Geometry, sizeof(Geometry)), 0);
    KT_EQUAL(QueryProperty(Disk, StorageAdapterProperty, &Adapter, sizeof(Adapter)), 0);
    KT_EQUAL(QueryProperty(Disk, StorageDeviceProperty, &Product, sizeof(Product)), 0);
    Disk->ByteCount = (ULONG64)Length.Length.QuadPart;
    Disk->BlockBytes = Geometry.BytesPerSector;
    Disk->CommandBytes = Adapter.MaximumTransferLength;
    Disk->IsScratch = RtlEqualMemory(Product.Bytes + Product.Descriptor.SerialNumberOffset,
                                     SCRATCH_SERIAL, sizeof(SCRATCH_SERIAL) - 1);
    return KT_CHECK(Disk->BlockBytes != 0 && Disk->ByteCount != 0 && Disk->CommandBytes != 0);
}

typedef VOID DISK_ROUTINE(const DISK *Disk);
typedef enum _DISK_CHOICE { AnyDisk, ScratchDisk } DISK_CHOICE;

static VOID OnEach(DISK_CHOICE Choice, DISK_ROUTINE *Routine)
{
    DISK Disk;
    BOOLEAN IsFound = FALSE;
    for (ULONG Index = 0; OpenDisk(Index, &Disk); Index += 1) {
        if (Choice == AnyDisk || Disk.IsScratch) {
            IsFound = TRUE;
            Routine(&Disk);
        }
    }
    if (!IsFound) {
        KT_SKIP("no such disk");
    }
}

static NTSTATUS Transfer(const DISK *Disk, UCHAR MajorFunction, PMDL Mdl, ULONG64 Offset,
                         ULONG ByteCount)
{
    ULONG_PTR Information;
    const NTSTATUS Status =
        IoTransferSynchronously(Disk->Device, MajorFunction, Mdl, Offset, ByteCount, &Information);
    KT_EQUAL(Information, NT_SUCCESS(Status) ? ByteCount : 0);
    return Status;
}

static NTSTATUS Read(const DISK *Disk, PMDL Mdl, ULONG64 Offset, ULONG ByteCount)
{
    return Transfer(Disk, IRP_MJ_READ, Mdl, Offset, ByteCount);
}

// Frames in no order, mapped: what the controller puts in a wrong frame is in a wrong place.
typedef struct _BUFFER {
    PMDL Mdl;
    PUCHAR Va;
} BUFFER;

static VOID ShuffleFrames(PMDL Mdl)
{
    const PPFN_NUMBER Frames = MmGetMdlPfnArray(Mdl);
    const ULONG Count = (ULONG)BYTES_TO_PAGES(MmGetMdlByteCount(Mdl));
    for (ULONG Index = 0; Index < Count / 2; Index += 2) {
        const PFN_NUMBER Frame = Frames[Index];
        Frames[Index] = Frames[Count - 1 - Index];
        Frames[Count - 1 - Index] = Frame;
    }
}

static BOOLEAN AllocateBuffer(BUFFER *Buffer, ULONG ByteCount)
{
    Buffer->Mdl = KtAllocatePages((ULONG)BYTES_TO_PAGES(ByteCount));
    if (Buffer->Mdl == NULL) {
        return FALSE;
    }
    ShuffleFrames(Buffer->Mdl);
    Buffer->Va = MmGetSystemAddressForMdlSafe(Buffer->Mdl, NormalPagePriority);
    if (Buffer->Va == NULL) {
        KtFreePages(Buffer->Mdl);
        return FALSE;
    }
    return TRUE;
}

static VOID FreeBuffer(BUFFER *Buffer)
{
    MmUnmapLockedPages(Buffer->Va, Buffer->Mdl);
    KtFreePages(Buffer->Mdl);
}

// An MDL of its own for a part of a buffer.
static PMDL DescribePart(const BUFFER *Buffer, ULONG Offset, ULONG ByteCount)
{
    const PMDL Mdl = IoAllocateMdl(Buffer->Va + Offset, ByteCount, FALSE, FALSE, NULL);
    if (Mdl != NULL) {
        MmBuildMdlForNonPagedPool(Mdl);
    }
    return Mdl;
}

static NTSTATUS ReadPart(const DISK *Disk, const BUFFER *Buffer, ULONG BufferOffset,
                         ULONG64 DiskOffset, ULONG ByteCount)
{
    const PMDL Mdl = DescribePart(Buffer, BufferOffset, ByteCount);
    if (Mdl == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const NTSTATUS Status = Read(Disk, Mdl, DiskOffset, ByteCount);
    IoFreeMdl(Mdl);
    return Status;
}

static BOOLEAN IsFilled(const UCHAR *Bytes, ULONG ByteCount, UCHAR Fill)
{
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        if (Bytes[Index] != Fill) {
            return FALSE;
        }
    }
    return TRUE;
}

// The reference for all other reads: block by block, each to the start of a page.
static NTSTATUS ReadBlockwise(const DISK *Disk, const BUFFER *Buffer, ULONG64 DiskOffset,
                              ULONG ByteCount)
{
    BUFFER Block;
    NTSTATUS Status = AllocateBuffer(&Block, Disk->BlockBytes) ? STATUS_SUCCESS : STATUS_NO_MEMORY;
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    for (ULONG Done = 0; NT_SUCCESS(Status) && Done < ByteCount; Done += Disk->BlockBytes) {
        Status = Read(Disk, Block.Mdl, DiskOffset + Done, Disk->BlockBytes);
        RtlCopyMemory(Buffer->Va + Done, Block.Va, Disk->BlockBytes);
    }
    FreeBuffer(&Block);
    return Status;
}

#define CROSSING_BYTES (12 * PAGE_SIZE)
#define GUARD_BYTE 0xA5

static VOID CheckCrossingRead(const DISK *Disk, const BUFFER *Expected, const BUFFER *Actual,
                              ULONG ByteOffset, ULONG ByteCount)
{
    const ULONG Start = PAGE_SIZE + ByteOffset;
    RtlFillMemory(Actual->Va, CROSSING_BYTES, GUARD_BYTE);
    KT_EQUAL(ReadPart(Disk, Actual, Start, Disk->BlockBytes, ByteCount), STATUS_SUCCESS);
    KT_CHECK(RtlEqualMemory(Actual->Va + Start, Expected->Va, ByteCount));
    KT_CHECK(IsFilled(Actual->Va, Start, GUARD_BYTE));
    KT_CHECK(
        IsFilled(Actual->Va + Start + ByteCount, CROSSING_BYTES - Start - ByteCount, GUARD_BYTE));
}

static VOID CheckCrossingReads(const DISK *Disk)
{
    static const ULONG ByteOffsets[] = {0, 4, 508, 2048, PAGE_SIZE - 4};
    static const ULONG PageCounts[] = {0, 1, 2, 8};
    BUFFER Expected;
    BUFFER Actual;
    KT_REQUIRE(AllocateBuffer(&Expected, CROSSING_BYTES) &&
               AllocateBuffer(&Actual, CROSSING_BYTES));
    const NTSTATUS Status = ReadBlockwise(Disk, &Expected, Disk->BlockBytes, 9 * PAGE_SIZE);
    for (ULONG Row = 0; KT_EQUAL(Status, STATUS_SUCCESS) && Row < ARRAYSIZE(ByteOffsets);
         Row += 1) {
        for (ULONG Column = 0; Column < ARRAYSIZE(PageCounts); Column += 1) {
            CheckCrossingRead(Disk, &Expected, &Actual, ByteOffsets[Row],
                              PageCounts[Column] * PAGE_SIZE + Disk->BlockBytes);
        }
    }
    FreeBuffer(&Actual);
    FreeBuffer(&Expected);
}

static VOID ReadsCrossPagesAtAnyOffset(VOID)
{
    OnEach(AnyDisk, CheckCrossingReads);
}

// As long as one command may be, a block less and more, and several commands at once.
static VOID CheckLongReads(const DISK *Disk)
{
    const ULONG ByteCounts[] = {Disk->CommandBytes - Disk->BlockBytes, Disk->CommandBytes,
                                Disk->CommandBytes + Disk->BlockBytes, 3 * Disk->CommandBytes};
    const ULONG LongestByteCount = 3 * Disk->CommandBytes;
    BUFFER Expected;
    BUFFER Actual;
    KT_REQUIRE(Disk->ByteCount > LongestByteCount);
    KT_REQUIRE(AllocateBuffer(&Expected, LongestByteCount) &&
               AllocateBuffer(&Actual, LongestByteCount));
    const NTSTATUS Status = ReadBlockwise(Disk, &Expected, 0, LongestByteCount);
    for (ULONG Row = 0; KT_EQUAL(Status, STATUS_SUCCESS) && Row < ARRAYSIZE(ByteCounts); Row += 1) {
        RtlFillMemory(Actual.Va, LongestByteCount, GUARD_BYTE);
        KT_EQUAL(Read(Disk, Actual.Mdl, 0, ByteCounts[Row]), STATUS_SUCCESS);
        KT_CHECK(RtlEqualMemory(Actual.Va, Expected.Va, ByteCounts[Row]));
        KT_CHECK(
            IsFilled(Actual.Va + ByteCounts[Row], LongestByteCount - ByteCounts[Row], GUARD_BYTE));
    }
    FreeBuffer(&Actual);
    FreeBuffer(&Expected);
}

static VOID ReadsOfAnyLengthAreSplit(VOID)
{
    OnEach(AnyDisk, CheckLongReads);
}

static VOID CheckEnd(const DISK *Disk)
{
    const ULONG BlockBytes = Disk->BlockBytes;
    const struct {
        ULONG64 Offset;
        ULONG ByteCount;
        NTSTATUS Expected;
    } Rows[] = {
        {Disk->ByteCount - BlockBytes, BlockBytes, STATUS_SUCCESS},
        {Disk->ByteCount - 2 * BlockBytes, 2 * BlockBytes, STATUS_SUCCESS},
        {Disk->ByteCount, BlockBytes, STATUS_NONEXISTENT_SECTOR},
        {Disk->ByteCount - BlockBytes, 2 * BlockBytes, STATUS_NONEXISTENT_SECTOR},
        {(ULONG64)MAXLONGLONG + 1 - BlockBytes, BlockBytes, STATUS_NONEXISTENT_SECTOR},
        {MAXULONG64 + 1 - BlockBytes, 2 * BlockBytes, STATUS_NONEXISTENT_SECTOR},
    };
    BUFFER Buffer;
    KT_REQUIRE(AllocateBuffer(&Buffer, 2 * BlockBytes));
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        KtSetContext("row %u", Row);
        KT_EQUAL(Read(Disk, Buffer.Mdl, Rows[Row].Offset, Rows[Row].ByteCount), Rows[Row].Expected);
    }
    FreeBuffer(&Buffer);
}

static VOID NothingIsReadPastTheEnd(VOID)
{
    OnEach(AnyDisk, CheckEnd);
}

static VOID CheckSenselessRequests(const DISK *Disk)
{
    const ULONG BlockBytes = Disk->BlockBytes;
    BUFFER Buffer;
    KT_REQUIRE(AllocateBuffer(&Buffer, 4 * PAGE_SIZE));
    KT_EQUAL(Read(Disk, Buffer.Mdl, 0, 0), STATUS_SUCCESS);
    KT_EQUAL(Read(Disk, NULL, 0, BlockBytes), STATUS_INVALID_PARAMETER);
    KT_EQUAL(Read(Disk, Buffer.Mdl, 1, BlockBytes), STATUS_INVALID_PARAMETER);
    KT_EQUAL(Read(Disk, Buffer.Mdl, BlockBytes / 2, BlockBytes), STATUS_INVALID_PARAMETER);
    KT_EQUAL(Read(Disk, Buffer.Mdl, 0, BlockBytes - 1), STATUS_INVALID_PARAMETER);
    KT_EQUAL(Read(Disk, Buffer.Mdl, 0, 4 * PAGE_SIZE + BlockBytes), STATUS_INVALID_PARAMETER);
    KT_EQUAL(ReadPart(Disk, &Buffer, 2, 0, BlockBytes), STATUS_DATATYPE_MISALIGNMENT);
    KT_EQUAL(ReadPart(Disk, &Buffer, 1, 0, BlockBytes), STATUS_DATATYPE_MISALIGNMENT);
    // An MDL whose frames nobody filled in.
    const PMDL Empty = IoAllocateMdl(Buffer.Va, BlockBytes, FALSE, FALSE, NULL);
    KT_EQUAL(Read(Disk, Empty, 0, BlockBytes), STATUS_INVALID_PARAMETER);
    IoFreeMdl(Empty);
    KT_CHECK(IsFilled(Buffer.Va, 4 * PAGE_SIZE, 0));
    FreeBuffer(&Buffer);
}

static VOID SenselessRequestsAreRefused(VOID)
{
    OnEach(AnyDisk, CheckSenselessRequests);
}

static NTSTATUS Flush(const DISK *Disk)
{
    const PIRP Irp = IoAllocateIrp(Disk->Device->StackSize, FALSE);
    if (Irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    IoGetNextIrpStackLocation(Irp)->MajorFunction = IRP_MJ_FLUSH_BUFFERS;
    return SendAndFree(Disk->Device, Irp);
}

#define WRITTEN_PAGES 9

// Writes the last blocks of a scratch disk from an odd place in memory, and reads them back.
static VOID CheckWrites(const DISK *Disk)
{
    const ULONG ByteCount = WRITTEN_PAGES * PAGE_SIZE;
    const ULONG64 Offset = Disk->ByteCount - ByteCount;
    BUFFER Original;
    BUFFER Written;
    BUFFER Result;
    KT_REQUIRE(AllocateBuffer(&Original, ByteCount) && AllocateBuffer(&Result, ByteCount) &&
               AllocateBuffer(&Written, ByteCount + PAGE_SIZE));
    KT_EQUAL(Read(Disk, Original.Mdl, Offset, ByteCount), STATUS_SUCCESS);
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        Written.Va[4 + Index] = (UCHAR)(Original.Va[Index] ^ (Index * 31 + 1) ^ Index >> 8);
    }
    const PMDL Part = DescribePart(&Written, 4, ByteCount);
    KT_EQUAL(Transfer(Disk, IRP_MJ_WRITE, Part, Offset, ByteCount), STATUS_SUCCESS);
    KT_EQUAL(Flush(Disk), STATUS_SUCCESS);
    KT_EQUAL(ReadBlockwise(Disk, &Result, Offset, ByteCount), STATUS_SUCCESS);
    KT_CHECK(RtlEqualMemory(Result.Va, Written.Va + 4, ByteCount));
    KT_EQUAL(Transfer(Disk, IRP_MJ_WRITE, Original.Mdl, Offset, ByteCount), STATUS_SUCCESS);
    KT_EQUAL(ReadBlockwise(Disk, &Result, Offset, ByteCount), STATUS_SUCCESS);
    KT_CHECK(RtlEqualMemory(Result.Va, Original.Va, ByteCount));
    IoFreeMdl(Part);
    FreeBuffer(&Written);
    FreeBuffer(&Result);
    FreeBuffer(&Original);
}

static VOID WrittenBlocksReadBack(VOID)
{
    OnEach(ScratchDisk, CheckWrites);
}

static VOID CheckFlush(const DISK *Disk)
{
    KT_EQUAL(Flush(Disk), STATUS_SUCCESS);
}

static VOID DisksCanBeFlushed(VOID)
{
    OnEach(AnyDisk, CheckFlush);
}

static VOID CheckControls(const DISK *Disk)
{
    UCHAR Output[sizeof(STORAGE_DEVICE_DESCRIPTOR)];
    STORAGE_DESCRIPTOR_HEADER Header = {0};
    KT_CHECK(Disk->BlockBytes == 512 || Disk->BlockBytes == PAGE_SIZE);
    KT_EQUAL(Disk->ByteCount % Disk->BlockBytes, 0);
    KT_EQUAL(Disk->CommandBytes & (Disk->CommandBytes - 1), 0);
    KT_EQUAL(QueryProperty(Disk, StorageDeviceProperty, &Header, sizeof(Header)), STATUS_SUCCESS);
    KT_CHECK(Header.Size >= sizeof(STORAGE_DEVICE_DESCRIPTOR));
    KT_EQUAL(QueryProperty(Disk, StorageDeviceProperty, Output, sizeof(Header) - 1),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(QueryProperty(Disk, (STORAGE_PROPERTY_ID)77, Output, sizeof(Output)),
             STATUS_INVALID_DEVICE_REQUEST);
    KT_EQUAL(Control(Disk, IOCTL_DISK_GET_LENGTH_INFO, NULL, 0, Output, 7),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(Control(Disk, IOCTL_STORAGE_QUERY_PROPERTY, NULL, 0, Output, sizeof(Output)),
             STATUS_INVALID_PARAMETER);
}

static VOID DisksTellWhatTheyAre(VOID)
{
    OnEach(AnyDisk, CheckControls);
}

static const KT_TEST DiskTests[] = {
    {"a disk tells its length, block and name, and refuses other questions [3.4.4]",
     DisksTellWhatTheyAre},
    {"a read may begin at any aligned byte of a page and cross pages [3.1.2]",
     ReadsCrossPagesAtAnyOffset},
    {"a read longer than a command is split [3.1.2]", ReadsOfAnyLengthAreSplit},
    {"nothing is read past the end of a disk [3.4.4]", NothingIsReadPastTheEnd},
    {"a request that makes no sense is refused [3.4.4]", SenselessRequestsAreRefused},
    {"a disk can be flushed [3.4.4]", DisksCanBeFlushed},
    {"written blocks read back [3.1.2]", WrittenBlocksReadBack},
};
const KT_SUITE KtDiskSuite = {"disk", KtNeedsDevices, DiskTests, ARRAYSIZE(DiskTests)};
