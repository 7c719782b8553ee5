// The NVMe driver in the real kernel: on disks that are there, and on "controllers" that are a few
// pages of RAM, whose status therefore never changes by itself. What takes a controller that acts,
// the host tests have.
//
// The disks' tests run on every disk that was started. Only a disk whose serial number begins with
// SCRATCH is written to, and gets its content back.
#include "kernel/inc/io.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/tests.h"

#include <ntddstor.h>

DRIVER_INITIALIZE NvmeDriverEntry;

// ------------------------------------------------------------------------------------------------
// Controllers of RAM.

#define WINDOW_BYTES 0x2000
#define REGISTER_CAP 0x00
#define REGISTER_VS 0x08
#define REGISTER_INTMS 0x0C
#define REGISTER_CC 0x14
#define REGISTER_CSTS 0x1C
#define REGISTER_AQA 0x24
#define REGISTER_ASQ 0x28

#define CAP_GOOD (1ull << 37 | 1ull << 24 | 63) // NVM commands, 500 ms, 64 entries
#define VERSION_1_4 0x10400u
#define CC_ENABLE 0x1u

typedef struct _WINDOW {
    PMDL Mdl;
    PUCHAR Va;
} WINDOW;

static BOOLEAN CreateWindow(WINDOW *Window)
{
    Window->Mdl = MmAllocatePagesForMdlEx(
        KtPhysical(0), KtPhysical(MAXULONG64), KtPhysical(0), WINDOW_BYTES, MmNonCached,
        MM_ALLOCATE_FULLY_REQUIRED | MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);
    if (Window->Mdl == NULL) {
        return FALSE;
    }
    Window->Va = MmMapLockedPagesSpecifyCache(Window->Mdl, KernelMode, MmNonCached, NULL, FALSE,
                                              NormalPagePriority | MdlMappingNoExecute);
    if (Window->Va == NULL) {
        KtFreePages(Window->Mdl);
        return FALSE;
    }
    return TRUE;
}

static VOID DeleteWindow(WINDOW *Window)
{
    MmUnmapLockedPages(Window->Va, Window->Mdl);
    KtFreePages(Window->Mdl);
}

static VOID WriteWindow(const WINDOW *Window, ULONG64 Cap, ULONG Version, ULONG Csts)
{
    RtlZeroMemory(Window->Va, WINDOW_BYTES);
    WRITE_REGISTER_ULONG64((PULONG64)(Window->Va + REGISTER_CAP), Cap);
    WRITE_REGISTER_ULONG((PULONG)(Window->Va + REGISTER_VS), Version);
    WRITE_REGISTER_ULONG((PULONG)(Window->Va + REGISTER_CSTS), Csts);
}

static ULONG ReadWindow(const WINDOW *Window, ULONG Register)
{
    return READ_REGISTER_ULONG((PULONG)(Window->Va + Register));
}

// A bus whose only device starts whenever it is told to.
static NTSTATUS NTAPI BusPnp(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static KT_DRIVER Bus = KT_DRIVER_INITIALIZER(.MajorFunction[IRP_MJ_PNP] = BusPnp);
static DRIVER_EXTENSION DriverExtension;
static KT_DRIVER Driver = KT_DRIVER_INITIALIZER(.DriverExtension = &DriverExtension);

static NTSTATUS NTAPI KeepIrp(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS SendPnp(PDEVICE_OBJECT Device, UCHAR MinorFunction, PCM_RESOURCE_LIST Resources)
{
    const PIRP Irp = IoAllocateIrp(Device->StackSize, FALSE);
    if (Irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MajorFunction = IRP_MJ_PNP;
    Stack->MinorFunction = MinorFunction;
    Stack->Parameters.StartDevice.AllocatedResources = Resources;
    Stack->Parameters.StartDevice.AllocatedResourcesTranslated = Resources;
    Irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
    IoSetCompletionRoutine(Irp, KeepIrp, NULL, TRUE, TRUE, TRUE);
    IoCallDriver(Device, Irp);
    const NTSTATUS Status = Irp->IoStatus.Status;
    IoFreeIrp(Irp);
    return Status;
}

// Adds the driver's device to a fresh device of the bus, starts it with one memory resource and
// removes it again. Returns what the start returned, or why it did not come to a start.
static NTSTATUS StartAndRemove(PHYSICAL_ADDRESS Start, ULONG ByteCount)
{
    CM_RESOURCE_LIST Resources = {.Count = 1};
    const PCM_PARTIAL_RESOURCE_LIST List = &Resources.List[0].PartialResourceList;
    List->Count = 1;
    List->PartialDescriptors[0].Type = CmResourceTypeMemory;
    List->PartialDescriptors[0].u.Memory.Start = Start;
    List->PartialDescriptors[0].u.Memory.Length = ByteCount;

    PDEVICE_OBJECT Pdo;
    NTSTATUS Status = IoCreateDevice(&Bus.Object, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &Pdo);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Pdo->Flags &= ~DO_DEVICE_INITIALIZING;
    KT_EQUAL(NvmeDriverEntry(&Driver.Object, NULL), STATUS_SUCCESS);
    Status = DriverExtension.AddDevice(&Driver.Object, Pdo);
    if (NT_SUCCESS(Status)) {
        const PDEVICE_OBJECT Top = Pdo->AttachedDevice;
        Status = SendPnp(Top, IRP_MN_START_DEVICE, ByteCount != 0 ? &Resources : NULL);
        MmStopFailures();
        KT_EQUAL(SendPnp(Top, IRP_MN_REMOVE_DEVICE, NULL), STATUS_SUCCESS);
    }
    KT_EQUAL(Pdo->AttachedDevice, NULL);
    KT_EQUAL(Driver.Object.DeviceObject, NULL);
    IoDeleteDevice(Pdo);
    return Status;
}

static const struct {
    PCSTR Name;
    ULONG64 Cap;
    ULONG Version;
    ULONG Csts;
    ULONG ByteCount; // of the resource
    NTSTATUS Expected;
    ULONG LeastMilliseconds; // that the driver must have waited
} Controllers[] = {
    {"never ready", CAP_GOOD, VERSION_1_4, 0, WINDOW_BYTES, STATUS_IO_TIMEOUT, 500},
    {"always ready", CAP_GOOD, VERSION_1_4, 1, WINDOW_BYTES, STATUS_IO_TIMEOUT, 500},
    {"fatal error", CAP_GOOD, VERSION_1_4, 2, WINDOW_BYTES, STATUS_DEVICE_HARDWARE_ERROR, 0},
    {"removed, ones", MAXULONG64, MAXULONG, MAXULONG, WINDOW_BYTES, STATUS_DEVICE_NOT_CONNECTED, 0},
    {"removed, zeros", 0, 0, 0, WINDOW_BYTES, STATUS_DEVICE_NOT_CONNECTED, 0},
    {"version 1.0", CAP_GOOD, 0x10000, 0, WINDOW_BYTES, STATUS_NOT_SUPPORTED, 0},
    {"no NVM commands", CAP_GOOD & ~(1ull << 37), VERSION_1_4, 0, WINDOW_BYTES,
     STATUS_NOT_SUPPORTED, 0},
    {"large pages", CAP_GOOD | 1ull << 48, VERSION_1_4, 0, WINDOW_BYTES, STATUS_NOT_SUPPORTED, 0},
    {"doorbells outside", CAP_GOOD | 15ull << 32, VERSION_1_4, 0, WINDOW_BYTES,
     STATUS_NOT_SUPPORTED, 0},
    {"no doorbells", CAP_GOOD, VERSION_1_4, 0, 0x1000, STATUS_DEVICE_CONFIGURATION_ERROR, 0},
    {"no resources", CAP_GOOD, VERSION_1_4, 0, 0, STATUS_DEVICE_CONFIGURATION_ERROR, 0},
};

static ULONG64 MillisecondsSince(LARGE_INTEGER Start)
{
    LARGE_INTEGER Frequency;
    const LARGE_INTEGER Now = KeQueryPerformanceCounter(&Frequency);
    return (ULONG64)(Now.QuadPart - Start.QuadPart) * 1000 / (ULONG64)Frequency.QuadPart;
}

static VOID UnusableControllersAreRefused(VOID)
{
    WINDOW Window;
    KT_REQUIRE(CreateWindow(&Window));
    for (ULONG Row = 0; Row < ARRAYSIZE(Controllers); Row += 1) {
        KtSetContext("%s", Controllers[Row].Name);
        WriteWindow(&Window, Controllers[Row].Cap, Controllers[Row].Version, Controllers[Row].Csts);
        const LARGE_INTEGER Start = KeQueryPerformanceCounter(NULL);
        KT_EQUAL(
            StartAndRemove(KtPhysical(KtPageAddress(Window.Mdl, 0)), Controllers[Row].ByteCount),
            Controllers[Row].Expected);
        KT_CHECK(MillisecondsSince(Start) >= Controllers[Row].LeastMilliseconds);
    }
    DeleteWindow(&Window);
}

static VOID GivenUpControllerIsLeftDisabled(VOID)
{
    WINDOW Window;
    KT_REQUIRE(CreateWindow(&Window));
    WriteWindow(&Window, CAP_GOOD, VERSION_1_4, 0);
    KT_EQUAL(StartAndRemove(KtPhysical(KtPageAddress(Window.Mdl, 0)), WINDOW_BYTES),
             STATUS_IO_TIMEOUT);
    // It was told everything that it must know before it is enabled ...
    KT_EQUAL(ReadWindow(&Window, REGISTER_INTMS), MAXULONG);
    KT_CHECK(ReadWindow(&Window, REGISTER_AQA) != 0);
    KT_CHECK(ReadWindow(&Window, REGISTER_ASQ) != 0);
    KT_EQUAL(ReadWindow(&Window, REGISTER_ASQ) % PAGE_SIZE, 0);
    // ... and is disabled again.
    KT_EQUAL(ReadWindow(&Window, REGISTER_CC) & CC_ENABLE, 0);
    DeleteWindow(&Window);
}

static VOID StartWithoutMemoryFreesEverything(VOID)
{
    WINDOW Window;
    KT_REQUIRE(CreateWindow(&Window));
    WriteWindow(&Window, CAP_GOOD, VERSION_1_4, 2); // fails at the end of the start, at once
    NTSTATUS Status = STATUS_INSUFFICIENT_RESOURCES;
    ULONG Round = 0;
    for (; Status == STATUS_INSUFFICIENT_RESOURCES && Round < 100; Round += 1) {
        KtSetContext("allocation %u", Round);
        MM_MEMORY_USE Before;
        MmQueryMemoryUse(&Before);
        MmStartFailures(MM_FAIL_ALL, Round, 1);
        Status = StartAndRemove(KtPhysical(KtPageAddress(Window.Mdl, 0)), WINDOW_BYTES);
        MmStopFailures();
        KT_EQUAL(KtCountLeaks(&Before), 0);
    }
    KT_EQUAL(Status, STATUS_DEVICE_HARDWARE_ERROR);
    KT_CHECK(Round > 1);
    DeleteWindow(&Window);
}

static const KT_TEST StartTests[] = {
    {"a controller that cannot be used is refused, with a timeout on every wait [11.1.2]",
     UnusableControllersAreRefused},
    {"a controller that is given up is left disabled [11.1.2]", GivenUpControllerIsLeftDisabled},
    {"a start that runs out of memory frees everything [11.1.2]",
     StartWithoutMemoryFreesEverything},
};
const KT_SUITE KtNvmeSuite = {"nvme", KtNeedsNothing, StartTests, ARRAYSIZE(StartTests)};

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

static NTSTATUS NTAPI CopyStatus(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    *(PNTSTATUS)Context = Irp->IoStatus.Status;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS Flush(const DISK *Disk)
{
    NTSTATUS Status = STATUS_PENDING;
    const PIRP Irp = IoAllocateIrp(Disk->Device->StackSize, FALSE);
    if (Irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    IoGetNextIrpStackLocation(Irp)->MajorFunction = IRP_MJ_FLUSH_BUFFERS;
    IoSetCompletionRoutine(Irp, CopyStatus, &Status, TRUE, TRUE, TRUE);
    KT_EQUAL(IoCallDriver(Disk->Device, Irp), STATUS_SUCCESS);
    IoFreeIrp(Irp);
    return Status;
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
