// Requests: built ones with all ways of buffers, cancelling, StartIo, parts, files, work items.
#include "kernel/inc/io.h"
#include "kernel/inc/ob.h"
#include "tests/kernel/tests.h"

#define NAME(Variable, Literal) UNICODE_STRING Variable = RTL_CONSTANT_STRING(Literal)

// ------------------------------------------------------------------------------------------------
// A device that notes what it gets, and adds one to each byte that goes through it.

#define PART 64

static struct {
    ULONG Count[IRP_MJ_MAXIMUM_FUNCTION + 1];
    ULONG Flags;       // of the last IRP
    BOOLEAN HadMdl;    // it had one
    BOOLEAN HadBuffer; // a system buffer
    PVOID UserBuffer;
    PVOID Type3;
    UCHAR FirstByte;
    ULONG64 ByteOffset;
    PIRP Pending; // kept by the device
    BOOLEAN Pend;
    NTSTATUS Status;
    ULONG Started[4]; // keys, in the order in which StartIo got them
    ULONG StartedCount;
} Seen;

static PDEVICE_OBJECT Device;

static VOID AddOne(PUCHAR To, const UCHAR *From, ULONG ByteCount)
{
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        To[Index] = (UCHAR)(From[Index] + 1);
    }
}

static NTSTATUS Finish(PIRP Irp, NTSTATUS Status, ULONG_PTR Information)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = Information;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

static VOID Note(PIRP Irp)
{
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    Seen.Count[Stack->MajorFunction] += 1;
    Seen.Flags = Irp->Flags;
    Seen.HadMdl = Irp->MdlAddress != NULL;
    Seen.HadBuffer = Irp->AssociatedIrp.SystemBuffer != NULL;
    Seen.UserBuffer = Irp->UserBuffer;
}

static NTSTATUS NTAPI OnSimple(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    Note(Irp);
    return Finish(Irp, Seen.Status, 0);
}

static VOID NTAPI OnCancel(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    IoReleaseCancelSpinLock(Irp->CancelIrql);
    Seen.Pending = NULL;
    Finish(Irp, STATUS_CANCELLED, 0);
}

static NTSTATUS NTAPI OnTransfer(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    Note(Irp);
    Seen.ByteOffset = (ULONG64)Stack->Parameters.Read.ByteOffset.QuadPart;
    if (Seen.Pend) {
        IoMarkIrpPending(Irp);
        Seen.Pending = Irp;
        (VOID) IoSetCancelRoutine(Irp, OnCancel);
        return STATUS_PENDING;
    }
    PUCHAR Buffer = (DeviceObject->Flags & DO_BUFFERED_IO) != 0 ? Irp->AssociatedIrp.SystemBuffer
                    : Irp->MdlAddress != NULL
                        ? MmGetSystemAddressForMdlSafe(Irp->MdlAddress, NormalPagePriority)
                        : Irp->UserBuffer;
    if (Stack->MajorFunction == IRP_MJ_READ) {
        RtlFillMemory(Buffer, Stack->Parameters.Read.Length, 0x5A);
    }
    return Finish(Irp, STATUS_SUCCESS, Stack->Parameters.Read.Length);
}

static NTSTATUS NTAPI OnControl(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    const ULONG Bytes = Stack->Parameters.DeviceIoControl.OutputBufferLength;
    UNREFERENCED_PARAMETER(DeviceObject);
    Note(Irp);
    Seen.Type3 = Stack->Parameters.DeviceIoControl.Type3InputBuffer;
    PUCHAR In = Irp->AssociatedIrp.SystemBuffer;
    PUCHAR Out = In;
    if (METHOD_FROM_CTL_CODE(Stack->Parameters.DeviceIoControl.IoControlCode) == METHOD_NEITHER) {
        In = Seen.Type3;
        Out = Irp->UserBuffer;
    } else if (Irp->MdlAddress != NULL) {
        Out = MmGetSystemAddressForMdlSafe(Irp->MdlAddress, NormalPagePriority);
    }
    if (METHOD_FROM_CTL_CODE(Stack->Parameters.DeviceIoControl.IoControlCode) == METHOD_IN_DIRECT) {
        Seen.FirstByte = Out[0]; // the second buffer is input, too, and locked for reading
    } else {
        AddOne(Out, In, Bytes);
    }
    return Finish(Irp, STATUS_SUCCESS, Bytes);
}

static VOID NTAPI OnStartIo(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    Seen.Started[Seen.StartedCount++ % ARRAYSIZE(Seen.Started)] =
        (ULONG)(ULONG_PTR)Irp->Tail.Overlay.DriverContext[3];
    UNREFERENCED_PARAMETER(DeviceObject);
}

static KT_DRIVER Driver =
    KT_DRIVER_INITIALIZER(.DriverStartIo = OnStartIo, .MajorFunction[IRP_MJ_CREATE] = OnSimple,
                          .MajorFunction[IRP_MJ_CLEANUP] = OnSimple,
                          .MajorFunction[IRP_MJ_CLOSE] = OnSimple,
                          .MajorFunction[IRP_MJ_FLUSH_BUFFERS] = OnSimple,
                          .MajorFunction[IRP_MJ_READ] = OnTransfer,
                          .MajorFunction[IRP_MJ_WRITE] = OnTransfer,
                          .MajorFunction[IRP_MJ_DEVICE_CONTROL] = OnControl);

static BOOLEAN MakeDevice(ULONG Flags, BOOLEAN Exclusive)
{
    NAME(Name, u"\\Device\\KtIrp");
    RtlZeroMemory(&Seen, sizeof(Seen));
    if (!KT_EQUAL(
            IoCreateDevice(&Driver.Object, 0, &Name, FILE_DEVICE_UNKNOWN, 0, Exclusive, &Device),
            STATUS_SUCCESS)) {
        return FALSE;
    }
    Device->Flags |= Flags;
    Device->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    return TRUE;
}

// ------------------------------------------------------------------------------------------------
// Control codes.

static VOID SendControl(ULONG Method, PUCHAR Input, PUCHAR Output)
{
    KEVENT Event;
    IO_STATUS_BLOCK StatusBlock = {{STATUS_UNSUCCESSFUL}, 0};
    KeInitializeEvent(&Event, NotificationEvent, FALSE);
    PIRP Irp = IoBuildDeviceIoControlRequest(
        CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, Method, FILE_ANY_ACCESS), Device, Input, PART, Output,
        PART, FALSE, &Event, &StatusBlock);
    KT_REQUIRE(Irp != NULL);
    KT_EQUAL(IoCallDriver(Device, Irp), STATUS_SUCCESS);
    KT_EQUAL(KeReadStateEvent(&Event), 1);
    KT_EQUAL(StatusBlock.Status, STATUS_SUCCESS);
    KT_EQUAL(StatusBlock.Information, PART);
}

static VOID AllMethodsReachTheDriver(VOID)
{
    static UCHAR Input[PART];
    static UCHAR Output[PART];
    KT_REQUIRE(MakeDevice(0, FALSE));
    for (ULONG Method = METHOD_BUFFERED; Method <= METHOD_NEITHER; Method += 1) {
        KtSetContext("method %u", Method);
        RtlFillMemory(Input, PART, 0x10 + Method);
        RtlFillMemory(Output, PART, 0x77);
        SendControl(Method, Input, Output);
        KT_EQUAL(Output[0], Method == METHOD_IN_DIRECT ? 0x77 : 0x11 + Method);
        KT_EQUAL(Output[PART - 1], Output[0]);
        KT_EQUAL(Seen.FirstByte, Method >= METHOD_IN_DIRECT ? 0x77 : 0);
        KT_EQUAL(Seen.HadMdl, Method == METHOD_IN_DIRECT || Method == METHOD_OUT_DIRECT);
        KT_EQUAL(Seen.HadBuffer, Method != METHOD_NEITHER);
        KT_EQUAL(Seen.Type3, Method == METHOD_NEITHER ? Input : NULL);
    }
    IoDeleteDevice(Device);
}

static VOID BuildingFailsWithoutMemory(VOID)
{
    static UCHAR Buffer[PART];
    IO_STATUS_BLOCK StatusBlock;
    KT_REQUIRE(MakeDevice(0, FALSE));
    for (ULONG Skip = 0; Skip < 2; Skip += 1) {
        MmStartFailures(MM_FAIL_POOL, Skip, 1);
        PIRP Irp = IoBuildDeviceIoControlRequest(
            CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS), Device, Buffer,
            PART, Buffer, PART, FALSE, NULL, &StatusBlock);
        KT_EQUAL(MmStopFailures(), 1);
        KT_EQUAL(Irp, NULL);
    }
    IoDeleteDevice(Device);
}

static VOID ReadsFollowTheDevicesFlags(VOID)
{
    static const ULONG Flags[] = {DO_BUFFERED_IO, DO_DIRECT_IO, 0};
    static UCHAR Buffer[PART];
    for (ULONG Row = 0; Row < ARRAYSIZE(Flags); Row += 1) {
        KEVENT Event;
        IO_STATUS_BLOCK StatusBlock;
        LARGE_INTEGER Offset = {.QuadPart = 0x123456789};
        KtSetContext("row %u", Row);
        KT_REQUIRE(MakeDevice(Flags[Row], FALSE));
        KeInitializeEvent(&Event, NotificationEvent, FALSE);
        RtlZeroMemory(Buffer, PART);
        PIRP Irp = IoBuildSynchronousFsdRequest(IRP_MJ_READ, Device, Buffer, PART, &Offset, &Event,
                                                &StatusBlock);
        KT_REQUIRE(Irp != NULL);
        KT_EQUAL(IoCallDriver(Device, Irp), STATUS_SUCCESS);
        KT_EQUAL(Buffer[PART - 1], 0x5A);
        KT_EQUAL(Seen.ByteOffset, 0x123456789);
        KT_EQUAL(Seen.HadMdl, Flags[Row] == DO_DIRECT_IO);
        KT_EQUAL(Seen.HadBuffer, Flags[Row] == DO_BUFFERED_IO);
        IoDeleteDevice(Device);
    }
}

// ------------------------------------------------------------------------------------------------
// Cancelling and StartIo.

static VOID CancelledRequestIsCompletedOnce(VOID)
{
    static UCHAR Buffer[PART];
    KEVENT Event;
    IO_STATUS_BLOCK StatusBlock = {{STATUS_PENDING}, 1};
    KT_REQUIRE(MakeDevice(0, FALSE));
    KeInitializeEvent(&Event, NotificationEvent, FALSE);
    Seen.Pend = TRUE;
    PIRP Irp =
        IoBuildSynchronousFsdRequest(IRP_MJ_READ, Device, Buffer, PART, NULL, &Event, &StatusBlock);
    KT_REQUIRE(Irp != NULL);
    KT_EQUAL(IoCallDriver(Device, Irp), STATUS_PENDING);
    KT_EQUAL(KeReadStateEvent(&Event), 0);
    KT_CHECK(IoCancelIrp(Irp));
    KT_EQUAL(KeReadStateEvent(&Event), 1);
    KT_EQUAL(StatusBlock.Status, STATUS_CANCELLED);
    KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
    IoDeleteDevice(Device);
}

static VOID WithoutCancelRoutineNothingIsCancelled(VOID)
{
    PIRP Irp = IoAllocateIrp(1, FALSE);
    KT_REQUIRE(Irp != NULL);
    KT_CHECK(!IoCancelIrp(Irp));
    KT_CHECK(Irp->Cancel);
    IoReuseIrp(Irp, STATUS_NOT_SUPPORTED);
    KT_CHECK(!Irp->Cancel);
    KT_EQUAL(Irp->IoStatus.Status, STATUS_NOT_SUPPORTED);
    KT_EQUAL(Irp->CurrentLocation, 2);
    IoFreeIrp(Irp);
}

static VOID StartIoGetsOneAfterTheOther(VOID)
{
    static const ULONG Keys[] = {7, 30, 10, 20};
    PIRP Irps[ARRAYSIZE(Keys)];
    KIRQL OldIrql;
    KT_REQUIRE(MakeDevice(0, FALSE));
    for (ULONG Index = 0; Index < ARRAYSIZE(Keys); Index += 1) {
        ULONG Key = Keys[Index];
        Irps[Index] = IoAllocateIrp(1, FALSE);
        KT_REQUIRE(Irps[Index] != NULL);
        Irps[Index]->Tail.Overlay.DriverContext[3] = (PVOID)(ULONG_PTR)Key;
        IoStartPacket(Device, Irps[Index], &Key, NULL);
        KT_EQUAL(Seen.StartedCount, 1); // the others wait
    }
    OldIrql = KeRaiseIrqlToDpcLevel();
    for (ULONG Index = 0; Index < ARRAYSIZE(Keys); Index += 1) {
        IoStartNextPacketByKey(Device, FALSE, 15);
    }
    KeLowerIrql(OldIrql);
    KT_EQUAL(Seen.StartedCount, ARRAYSIZE(Keys));
    KT_EQUAL(Device->CurrentIrp, NULL);
    for (ULONG Index = 0; Index < ARRAYSIZE(Keys); Index += 1) {
        IoFreeIrp(Irps[Index]);
    }
    IoDeleteDevice(Device);
}

// Starts the next packet at once, as drivers of devices that are never busy do.
static ULONG StartIoDepth;
static ULONG DeepestStartIo;

static VOID NTAPI OnStartIoAtOnce(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(Irp);
    StartIoDepth += 1;
    DeepestStartIo = StartIoDepth > DeepestStartIo ? StartIoDepth : DeepestStartIo;
    Seen.StartedCount += 1;
    IoStartNextPacket(DeviceObject, FALSE);
    StartIoDepth -= 1;
}

static KT_DRIVER EagerDriver = KT_DRIVER_INITIALIZER(.DriverStartIo = OnStartIoAtOnce);

// The first packet is held back by a device that says that it is busy until all are in its queue.
static ULONG StartAll(BOOLEAN IsDeferred)
{
    PIRP Irps[4];
    PDEVICE_OBJECT Eager;
    StartIoDepth = 0;
    DeepestStartIo = 0;
    Seen.StartedCount = 0;
    if (!KT_EQUAL(
            IoCreateDevice(&EagerDriver.Object, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &Eager),
            STATUS_SUCCESS)) {
        return 0;
    }
    IoSetStartIoAttributes(Eager, IsDeferred, FALSE);
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    KDEVICE_QUEUE_ENTRY Busy;
    KT_CHECK(!KeInsertDeviceQueue(&Eager->DeviceQueue, &Busy));
    for (ULONG Index = 0; Index < ARRAYSIZE(Irps); Index += 1) {
        Irps[Index] = IoAllocateIrp(1, FALSE);
        if (KT_CHECK(Irps[Index] != NULL)) {
            IoStartPacket(Eager, Irps[Index], NULL, NULL);
        }
    }
    KT_EQUAL(Seen.StartedCount, 0);
    IoStartNextPacket(Eager, FALSE);
    KeLowerIrql(OldIrql);
    KT_EQUAL(Seen.StartedCount, ARRAYSIZE(Irps));
    for (ULONG Index = 0; Index < ARRAYSIZE(Irps); Index += 1) {
        IoFreeIrp(Irps[Index]);
    }
    IoDeleteDevice(Eager);
    return DeepestStartIo;
}

static VOID DeferredStartIoDoesNotNest(VOID)
{
    KT_EQUAL(StartAll(FALSE), 4);
    KT_EQUAL(StartAll(TRUE), 1);
}

// ------------------------------------------------------------------------------------------------
// Timers of devices, shutdown, shares.

static VOID NTAPI CountTick(PDEVICE_OBJECT DeviceObject, PVOID Context)
{
    KT_EQUAL(DeviceObject, Device);
    KT_EQUAL(KeGetCurrentIrql(), DISPATCH_LEVEL);
    *(volatile ULONG *)Context += 1;
}

static VOID DeviceTimerTicksOnceASecond(VOID)
{
    volatile ULONG Ticks = 0;
    LARGE_INTEGER Time = {.QuadPart = -12000000}; // 1.2 s
    KT_REQUIRE(MakeDevice(0, FALSE));
    KT_EQUAL(IoInitializeTimer(Device, CountTick, (PVOID)(ULONG_PTR)&Ticks), STATUS_SUCCESS);
    IoStartTimer(Device);
    KeDelayExecutionThread(KernelMode, FALSE, &Time);
    IoStopTimer(Device);
    const ULONG Stopped = Ticks;
    KT_CHECK(Stopped >= 1);
    KeDelayExecutionThread(KernelMode, FALSE, &Time);
    KT_EQUAL(Ticks, Stopped);
    IoDeleteDevice(Device);
}

static VOID NTAPI CountTickAndStop(PDEVICE_OBJECT DeviceObject, PVOID Context)
{
    *(volatile ULONG *)Context += 1;
    IoStopTimer(DeviceObject);
}

static VOID ATimerThatStopsItselfStopsNoOther(VOID)
{
    volatile ULONG Ticks[3] = {0, 0, 0};
    PDEVICE_OBJECT Devices[3];
    LARGE_INTEGER Time = {.QuadPart = -12000000}; // 1.2 s
    for (ULONG Index = 0; Index < ARRAYSIZE(Devices); Index += 1) {
        KT_REQUIRE(NT_SUCCESS(IoCreateDevice(&Driver.Object, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE,
                                             &Devices[Index])));
        KT_EQUAL(
            IoInitializeTimer(Devices[Index], CountTickAndStop, (PVOID)(ULONG_PTR)&Ticks[Index]),
            STATUS_SUCCESS);
        IoStartTimer(Devices[Index]);
    }
    KeDelayExecutionThread(KernelMode, FALSE, &Time);
    for (ULONG Index = 0; Index < ARRAYSIZE(Devices); Index += 1) {
        KT_EQUAL(Ticks[Index], 1);
        IoDeleteDevice(Devices[Index]);
    }
}

static VOID NTAPI SeeNoTopLevelIrp(PVOID Context)
{
    *(PIRP *)Context = IoGetTopLevelIrp();
}

static VOID AThreadHasItsOwnTopLevelIrp(VOID)
{
    PIRP Others = (PIRP)1;
    KT_EQUAL(IoGetTopLevelIrp(), NULL);
    IoSetTopLevelIrp((PIRP)2);
    KtJoin(KtStartThread(SeeNoTopLevelIrp, &Others, KeQueryPriorityThread(KeGetCurrentThread())));
    KT_EQUAL(Others, NULL);
    KT_EQUAL(IoGetTopLevelIrp(), (PIRP)2);
    IoSetTopLevelIrp(NULL);
}

static ULONG ShutdownCount;

static NTSTATUS NTAPI OnShutdown(PDEVICE_OBJECT DeviceObject, PIRP Irp)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    KT_EQUAL(IoGetCurrentIrpStackLocation(Irp)->MajorFunction, IRP_MJ_SHUTDOWN);
    ShutdownCount += 1;
    return Finish(Irp, STATUS_SUCCESS, 0);
}

static KT_DRIVER ShutdownDriver =
    KT_DRIVER_INITIALIZER(.MajorFunction[IRP_MJ_SHUTDOWN] = OnShutdown);

static VOID ShutdownReachesWhoAskedForIt(VOID)
{
    PDEVICE_OBJECT Listener;
    ShutdownCount = 0;
    KT_REQUIRE(NT_SUCCESS(
        IoCreateDevice(&ShutdownDriver.Object, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &Listener)));
    Listener->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    KT_EQUAL(IoRegisterShutdownNotification(Listener), STATUS_SUCCESS);
    KT_CHECK((Listener->Flags & DO_SHUTDOWN_REGISTERED) != 0);
    IoUnregisterShutdownNotification(Listener);
    IoShutdownDrivers();
    KT_EQUAL(ShutdownCount, 0);
    KT_EQUAL(IoRegisterShutdownNotification(Listener), STATUS_SUCCESS);
    KT_EQUAL(IoRegisterLastChanceShutdownNotification(Listener), STATUS_SUCCESS);
    IoShutdownDrivers();
    KT_EQUAL(ShutdownCount, 2);
    IoShutdownDrivers(); // each is told once
    KT_EQUAL(ShutdownCount, 2);
    IoDeleteDevice(Listener);
}

static VOID SharesAreCountedAndKept(VOID)
{
    static FILE_OBJECT Files[3];
    SHARE_ACCESS Share;
    RtlZeroMemory(Files, sizeof(Files));
    IoSetShareAccess(FILE_READ_DATA, FILE_SHARE_READ, &Files[0], &Share);
    KT_EQUAL(Share.OpenCount, 1);
    KT_EQUAL(IoCheckShareAccess(FILE_WRITE_DATA, FILE_SHARE_READ, &Files[1], &Share, TRUE),
             STATUS_SHARING_VIOLATION); // the first one shares reading only
    KT_EQUAL(IoCheckShareAccess(FILE_READ_DATA, 0, &Files[1], &Share, TRUE),
             STATUS_SHARING_VIOLATION); // and reads, which this one would not share
    KT_EQUAL(Share.OpenCount, 1);
    KT_EQUAL(IoCheckShareAccess(FILE_READ_DATA, FILE_SHARE_READ, &Files[1], &Share, FALSE),
             STATUS_SUCCESS);
    KT_EQUAL(Share.OpenCount, 1); // it was only asked
    IoUpdateShareAccess(&Files[1], &Share);
    KT_EQUAL(Share.OpenCount, 2);
    KT_EQUAL(Share.Readers, 2);
    IoRemoveShareAccess(&Files[0], &Share);
    IoRemoveShareAccess(&Files[1], &Share);
    KT_EQUAL(Share.OpenCount, 0);
    KT_EQUAL(Share.SharedRead, 0);
    KT_EQUAL(IoCheckShareAccess(FILE_WRITE_DATA, 0, &Files[2], &Share, TRUE), STATUS_SUCCESS);
}

// ------------------------------------------------------------------------------------------------
// Parts, completion routines.

static NTSTATUS NTAPI CountCompletion(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    *(PULONG)Context += 1;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static VOID LastPartCompletesTheWhole(VOID)
{
    ULONG Count = 0;
    PIRP Parts[3];
    KT_REQUIRE(MakeDevice(0, FALSE));
    PIRP Master = IoAllocateIrp(2, FALSE);
    KT_REQUIRE(Master != NULL);
    IoSetNextIrpStackLocation(Master); // as a driver that got it
    IoSetCompletionRoutine(Master, CountCompletion, &Count, TRUE, TRUE, TRUE);
    IoSetNextIrpStackLocation(Master);
    Master->AssociatedIrp.IrpCount = ARRAYSIZE(Parts);
    for (ULONG Index = 0; Index < ARRAYSIZE(Parts); Index += 1) {
        Parts[Index] = IoMakeAssociatedIrp(Master, 1);
        KT_REQUIRE(Parts[Index] != NULL);
        IoGetNextIrpStackLocation(Parts[Index])->MajorFunction = IRP_MJ_FLUSH_BUFFERS;
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Parts); Index += 1) {
        KT_EQUAL(Count, 0);
        IoCallDriver(Device, Parts[Index]);
    }
    KT_EQUAL(Count, 1);
    IoFreeIrp(Master);
    IoDeleteDevice(Device);
}

static VOID ExtendedCompletionRoutineKeepsItsDevice(VOID)
{
    ULONG Count = 0;
    KT_REQUIRE(MakeDevice(0, FALSE));
    PIRP Irp = IoAllocateIrp(1, FALSE);
    KT_REQUIRE(Irp != NULL);
    const LONG64 Before = OB_HEADER_OF(Device)->PointerCount;
    IoGetNextIrpStackLocation(Irp)->MajorFunction = IRP_MJ_FLUSH_BUFFERS;
    KT_EQUAL(IoSetCompletionRoutineEx(Device, Irp, CountCompletion, &Count, TRUE, FALSE, FALSE),
             STATUS_SUCCESS);
    KT_EQUAL(OB_HEADER_OF(Device)->PointerCount, Before + 1);
    IoCallDriver(Device, Irp);
    KT_EQUAL(Count, 1);
    KT_EQUAL(OB_HEADER_OF(Device)->PointerCount, Before);
    IoFreeIrp(Irp);
    IoDeleteDevice(Device);
}

static VOID FreeIrpsAreKeptForTheNextRequest(VOID)
{
    if (MmVerifierLevel != 0) {
        KT_SKIP("with the verifier each IRP is a block of its own");
    }
    IoSetIrpCacheDepth(2);
    PIRP First = IoAllocateIrp(2, FALSE);
    KT_REQUIRE(First != NULL);
    IoFreeIrp(First);
    PIRP Second = IoAllocateIrp(3, FALSE);
    KT_EQUAL(Second, First);
    KT_EQUAL(Second->Size, IoSizeOfIrp(3));
    KT_EQUAL(IoGetNextIrpStackLocation(Second)->MajorFunction, 0);
    IoFreeIrp(Second);
    IoSetIrpCacheDepth(0);
}

// ------------------------------------------------------------------------------------------------
// Files.

static NTSTATUS Open(PHANDLE Handle, ULONG Options, PIO_STATUS_BLOCK StatusBlock)
{
    NAME(Name, u"\\??\\KtFile\\part\\one");
    OBJECT_ATTRIBUTES Attributes;
    InitializeObjectAttributes(&Attributes, &Name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL,
                               NULL);
    return ZwCreateFile(Handle, GENERIC_READ | GENERIC_WRITE, &Attributes, StatusBlock, NULL,
                        FILE_ATTRIBUTE_NORMAL, 0, FILE_OPEN, Options, NULL, 0);
}

static BOOLEAN MakeFileDevice(ULONG Flags, BOOLEAN Exclusive)
{
    NAME(Link, u"\\DosDevices\\KtFile");
    NAME(Target, u"\\Device\\KtIrp");
    return MakeDevice(Flags, Exclusive) &&
           KT_EQUAL(IoCreateSymbolicLink(&Link, &Target), STATUS_SUCCESS);
}

static VOID DeleteFileDevice(VOID)
{
    NAME(Link, u"\\DosDevices\\KtFile");
    KT_EQUAL(IoDeleteSymbolicLink(&Link), STATUS_SUCCESS);
    IoDeleteDevice(Device);
}

static VOID OpenAndCloseReachTheDriver(VOID)
{
    IO_STATUS_BLOCK StatusBlock;
    HANDLE Handle;
    PVOID File;
    KT_REQUIRE(MakeFileDevice(DO_BUFFERED_IO, FALSE));
    KT_EQUAL(Open(&Handle, FILE_SYNCHRONOUS_IO_NONALERT, &StatusBlock), STATUS_SUCCESS);
    KT_EQUAL(Seen.Count[IRP_MJ_CREATE], 1);
    KT_EQUAL(Device->ReferenceCount, 1);
    KT_EQUAL(ObReferenceObjectByHandle(Handle, 0, *IoFileObjectType, KernelMode, &File, NULL),
             STATUS_SUCCESS);
    NAME(Rest, u"\\part\\one");
    KT_CHECK(ObNamesEqual(&((PFILE_OBJECT)File)->FileName, &Rest));
    KT_EQUAL(IoGetRelatedDeviceObject(File), Device);
    KT_EQUAL(ZwClose(Handle), STATUS_SUCCESS);
    KT_EQUAL(Seen.Count[IRP_MJ_CLEANUP], 1);
    KT_EQUAL(Seen.Count[IRP_MJ_CLOSE], 0);
    ObDereferenceObject(File);
    KT_EQUAL(Seen.Count[IRP_MJ_CLOSE], 1);
    KT_EQUAL(Device->ReferenceCount, 0);
    DeleteFileDevice();
}

static VOID RefusedOpenIsNeverClosed(VOID)
{
    IO_STATUS_BLOCK StatusBlock;
    HANDLE Handle;
    KT_REQUIRE(MakeFileDevice(0, FALSE));
    Seen.Status = STATUS_DEVICE_NOT_READY;
    KT_EQUAL(Open(&Handle, 0, &StatusBlock), STATUS_DEVICE_NOT_READY);
    KT_EQUAL(Seen.Count[IRP_MJ_CLEANUP] + Seen.Count[IRP_MJ_CLOSE], 0);
    KT_EQUAL(Device->ReferenceCount, 0);
    DeleteFileDevice();
    KT_EQUAL(Open(&Handle, 0, &StatusBlock), STATUS_OBJECT_PATH_NOT_FOUND);
}

static VOID ExclusiveDeviceOpensOnce(VOID)
{
    IO_STATUS_BLOCK StatusBlock;
    HANDLE First;
    HANDLE Second;
    KT_REQUIRE(MakeFileDevice(0, TRUE));
    KT_EQUAL(Open(&First, 0, &StatusBlock), STATUS_SUCCESS);
    KT_EQUAL(Open(&Second, 0, &StatusBlock), STATUS_ACCESS_DENIED);
    KT_EQUAL(ZwClose(First), STATUS_SUCCESS);
    KT_EQUAL(Open(&Second, 0, &StatusBlock), STATUS_SUCCESS);
    KT_EQUAL(ZwClose(Second), STATUS_SUCCESS);
    DeleteFileDevice();
}

static VOID SynchronousFileHasAPointer(VOID)
{
    static UCHAR Buffer[PART];
    IO_STATUS_BLOCK StatusBlock;
    HANDLE Handle;
    KT_REQUIRE(MakeFileDevice(DO_DIRECT_IO, FALSE));
    KT_EQUAL(Open(&Handle, FILE_SYNCHRONOUS_IO_NONALERT, &StatusBlock), STATUS_SUCCESS);
    KT_EQUAL(ZwWriteFile(Handle, NULL, NULL, NULL, &StatusBlock, Buffer, PART, NULL, NULL),
             STATUS_SUCCESS);
    KT_EQUAL(Seen.ByteOffset, 0);
    KT_EQUAL(ZwReadFile(Handle, NULL, NULL, NULL, &StatusBlock, Buffer, PART, NULL, NULL),
             STATUS_SUCCESS);
    KT_EQUAL(Seen.ByteOffset, PART);
    KT_EQUAL(Buffer[0], 0x5A);
    KT_EQUAL(StatusBlock.Information, PART);
    KT_EQUAL(ZwFlushBuffersFile(Handle, &StatusBlock), STATUS_SUCCESS);
    KT_EQUAL(Seen.Count[IRP_MJ_FLUSH_BUFFERS], 1);
    KT_EQUAL(ZwDeviceIoControlFile(Handle, NULL, NULL, NULL, &StatusBlock,
                                   CTL_CODE(FILE_DEVICE_UNKNOWN, 1, METHOD_BUFFERED, 0), Buffer,
                                   PART, Buffer, PART),
             STATUS_SUCCESS);
    KT_EQUAL(Buffer[0], 0x5B);
    KT_EQUAL(ZwClose(Handle), STATUS_SUCCESS);
    DeleteFileDevice();
}

static VOID PendingRequestSignalsItsEvent(VOID)
{
    static UCHAR Buffer[PART];
    static IO_STATUS_BLOCK StatusBlock;
    LARGE_INTEGER Zero = {.QuadPart = 0};
    HANDLE Handle;
    HANDLE Event;
    KT_REQUIRE(MakeFileDevice(0, FALSE));
    KT_EQUAL(ZwCreateEvent(&Event, EVENT_ALL_ACCESS, NULL, NotificationEvent, TRUE),
             STATUS_SUCCESS);
    KT_EQUAL(Open(&Handle, 0, &StatusBlock), STATUS_SUCCESS);
    Seen.Pend = TRUE;
    KT_EQUAL(ZwReadFile(Handle, Event, NULL, NULL, &StatusBlock, Buffer, PART, &Zero, NULL),
             STATUS_PENDING);
    KT_EQUAL(ZwWaitForSingleObject(Event, FALSE, &Zero), STATUS_TIMEOUT);
    KT_CHECK(IoCancelIrp(Seen.Pending));
    KT_EQUAL(ZwWaitForSingleObject(Event, FALSE, NULL), STATUS_SUCCESS);
    KT_EQUAL(StatusBlock.Status, STATUS_CANCELLED);
    KT_EQUAL(ZwReadFile(Handle, NULL, NULL, NULL, &StatusBlock, Buffer, PART, NULL, NULL),
             STATUS_INVALID_PARAMETER); // no offset, and no pointer
    KT_EQUAL(ZwClose(Event), STATUS_SUCCESS);
    KT_EQUAL(ZwClose(Handle), STATUS_SUCCESS);
    DeleteFileDevice();
}

static VOID DevicePointerKeepsTheDeviceOpen(VOID)
{
    PFILE_OBJECT File;
    PDEVICE_OBJECT Top;
    NAME(Name, u"\\Device\\KtIrp");
    KT_REQUIRE(MakeFileDevice(0, FALSE));
    KT_EQUAL(IoGetDeviceObjectPointer(&Name, FILE_READ_DATA, &File, &Top), STATUS_SUCCESS);
    KT_EQUAL(Top, Device);
    KT_EQUAL(Seen.Count[IRP_MJ_CLEANUP], 1);
    KT_EQUAL(Device->ReferenceCount, 1);
    ObDereferenceObject(File);
    KT_EQUAL(Seen.Count[IRP_MJ_CLOSE], 1);
    DeleteFileDevice();
}

// ------------------------------------------------------------------------------------------------
// Work items.

typedef struct _WORK {
    KEVENT Done;
    KIRQL Irql;
    PVOID Thread;
    PVOID Object;
} WORK;

static VOID NTAPI DoWork(PDEVICE_OBJECT DeviceObject, PVOID Context)
{
    WORK *Work = Context;
    Work->Irql = KeGetCurrentIrql();
    Work->Thread = KeGetCurrentThread();
    Work->Object = DeviceObject;
    KeSetEvent(&Work->Done, IO_NO_INCREMENT, FALSE);
}

static VOID WorkItemsRunInASystemThread(VOID)
{
    static WORK Work;
    LARGE_INTEGER Limit = {.QuadPart = -50000000};
    KT_REQUIRE(MakeDevice(0, FALSE));
    for (ULONG Type = CriticalWorkQueue; Type < MaximumWorkQueue; Type += 1) {
        KtSetContext("queue %u", Type);
        KeInitializeEvent(&Work.Done, NotificationEvent, FALSE);
        PIO_WORKITEM Item = IoAllocateWorkItem(Device);
        KT_REQUIRE(Item != NULL);
        const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
        IoQueueWorkItem(Item, DoWork, (WORK_QUEUE_TYPE)Type, &Work);
        KeLowerIrql(OldIrql);
        KT_EQUAL(KeWaitForSingleObject(&Work.Done, Executive, KernelMode, FALSE, &Limit),
                 STATUS_SUCCESS);
        KT_EQUAL(Work.Irql, PASSIVE_LEVEL);
        KT_CHECK(Work.Thread != KeGetCurrentThread());
        KT_EQUAL(Work.Object, Device);
        IoFreeWorkItem(Item);
    }
    // The worker lets the device go after the routine: wait until it has.
    for (ULONG Round = 0; OB_HEADER_OF(Device)->PointerCount != 1 && Round < 1000; Round += 1) {
        LARGE_INTEGER Tick = {.QuadPart = -10000};
        KeDelayExecutionThread(KernelMode, FALSE, &Tick);
    }
    KT_EQUAL(OB_HEADER_OF(Device)->PointerCount, 1);
    IoDeleteDevice(Device);
}

static const KT_TEST Tests[] = {
    {"a control code's buffers come by its method, all four [6.17.2, 23.1.1]",
     AllMethodsReachTheDriver},
    {"building a request fails without memory, and leaves nothing [23.1.3]",
     BuildingFailsWithoutMemory},
    {"a read's buffer comes as the device's flags say [23.1.2]", ReadsFollowTheDevicesFlags},
    {"a request that is cancelled is completed once [23.2.1]", CancelledRequestIsCompletedOnce},
    {"without cancel routine a request is only marked [23.2.1]",
     WithoutCancelRoutineNothingIsCancelled},
    {"StartIo gets one request after the other [23.2.2]", StartIoGetsOneAfterTheOther},
    {"a deferred StartIo does not nest", DeferredStartIoDoesNotNest},
    {"a device's timer ticks once a second", DeviceTimerTicksOnceASecond},
    {"a timer that stops itself stops no other", ATimerThatStopsItselfStopsNoOther},
    {"a thread has its own top level IRP", AThreadHasItsOwnTopLevelIrp},
    {"a shutdown reaches who asked for it, once", ShutdownReachesWhoAskedForIt},
    {"shares are counted, and kept", SharesAreCountedAndKept},
    {"the last part that is completed completes the whole [23.2.3]", LastPartCompletesTheWhole},
    {"an extended completion routine keeps its device [23.2.4]",
     ExtendedCompletionRoutineKeepsItsDevice},
    {"free IRPs are kept for the next request", FreeIrpsAreKeptForTheNextRequest},
    {"opening and closing a file reaches the driver [23.3.1]", OpenAndCloseReachTheDriver},
    {"a file whose opening was refused is never closed [23.3.1]", RefusedOpenIsNeverClosed},
    {"an exclusive device opens once [23.3.2]", ExclusiveDeviceOpensOnce},
    {"a synchronous file has a pointer [23.3.3]", SynchronousFileHasAPointer},
    {"a pending request signals its event [23.2.7]", PendingRequestSignalsItsEvent},
    {"a device object pointer keeps the device open [23.3.4]", DevicePointerKeepsTheDeviceOpen},
    {"work items run in a system thread, at PASSIVE_LEVEL [23.2.8]", WorkItemsRunInASystemThread},
};

const KT_SUITE KtIrpSuite = {"irp", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
