// PnP: drivers loaded by name, devices started, stopped, removed and torn out; what is known of them.
// The driver is tests/drivers/stranger, which knows nothing of this kernel.
#include "kernel/inc/io.h"
#include "kernel/inc/ob.h"
#include "tests/drivers/ktbus/ktbus.h"
#include "tests/drivers/stranger/stranger.h"
#include "tests/kernel/tests.h"

#include <resetddk.h>
#include <wdmguid.h>

#define NAME(Variable, Literal) UNICODE_STRING Variable = RTL_CONSTANT_STRING(Literal)

static const GUID StrangerClass = {
    0x5C1C1F3E, 0x93A4, 0x4BB4, {0x9E, 0x0E, 0x2F, 0x6D, 0x9D, 0x0F, 0x8F, 0x11}};

// FALSE: there is no such module, and the test is skipped.
static BOOLEAN LoadStranger(VOID)
{
    const NTSTATUS Status = IoLoadDriver("stranger");
    if (Status == STATUS_OBJECT_NAME_NOT_FOUND) {
        KtSkip("the image has no drivers for tests");
        return FALSE;
    }
    return KT_EQUAL(Status, STATUS_SUCCESS);
}

// The lowest device of its stack.
static PDEVICE_OBJECT StrangerPdo(VOID)
{
    PDEVICE_OBJECT Pdo = IoGetDeviceAttachmentBaseRef(IoFindDriver("stranger")->DeviceObject);
    ObDereferenceObject(Pdo);
    return Pdo;
}

static NTSTATUS OpenStranger(PHANDLE Handle)
{
    NAME(Name, u"\\DosDevices\\Stranger");
    OBJECT_ATTRIBUTES Attributes;
    IO_STATUS_BLOCK StatusBlock;
    InitializeObjectAttributes(&Attributes, &Name, OBJ_CASE_INSENSITIVE, NULL, NULL);
    return ZwOpenFile(Handle, GENERIC_READ | GENERIC_WRITE, &Attributes, &StatusBlock,
                      FILE_SHARE_READ, FILE_SYNCHRONOUS_IO_NONALERT);
}

static VOID DriversComeAndGoByName(VOID)
{
    NAME(Key, u"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\stranger");
    if (!LoadStranger()) {
        return;
    }
    KT_EQUAL(IoLoadDriver("stranger"), STATUS_IMAGE_ALREADY_LOADED);
    KT_EQUAL(ZwUnloadDriver(&Key), STATUS_SUCCESS);
    KT_EQUAL(IoFindDriver("stranger"), NULL);
    KT_EQUAL(ZwUnloadDriver(&Key), STATUS_OBJECT_NAME_NOT_FOUND);
    KT_EQUAL(ZwLoadDriver(&Key), STATUS_SUCCESS);
    KT_EQUAL(IoUnloadDriver("STRANGER"), STATUS_SUCCESS);
    KT_EQUAL(IoLoadDriver("nobody"), STATUS_OBJECT_NAME_NOT_FOUND);
}

static VOID OpenFileVetoesRemoval(VOID)
{
    HANDLE Handle;
    if (!LoadStranger()) {
        return;
    }
    KT_EQUAL(OpenStranger(&Handle), STATUS_SUCCESS);
    KT_CHECK(!NT_SUCCESS(IoRemovePdo(StrangerPdo())));
    KT_CHECK(!NT_SUCCESS(IoUnloadDriver("stranger")));
    KT_CHECK(IoFindDriver("stranger") != NULL);
    KT_EQUAL(ZwClose(Handle), STATUS_SUCCESS);
    KT_EQUAL(OpenStranger(&Handle), STATUS_SUCCESS); // the removal was cancelled
    KT_EQUAL(ZwClose(Handle), STATUS_SUCCESS);
    KT_EQUAL(IoUnloadDriver("stranger"), STATUS_SUCCESS);
}

static VOID SurpriseRemovalWaitsForTheLastFile(VOID)
{
    HANDLE Handle;
    HANDLE Second;
    if (!LoadStranger()) {
        return;
    }
    KT_EQUAL(OpenStranger(&Handle), STATUS_SUCCESS);
    KT_EQUAL(IoSurpriseRemove(StrangerPdo()), STATUS_SUCCESS);
    KT_CHECK(IoFindDriver("stranger")->DeviceObject != NULL);
    KT_CHECK(!NT_SUCCESS(OpenStranger(&Second)));
    KT_EQUAL(ZwClose(Handle), STATUS_SUCCESS);
    KT_EQUAL(IoFindDriver("stranger")->DeviceObject, NULL);
    KT_EQUAL(IoUnloadDriver("stranger"), STATUS_SUCCESS);
}

static VOID RemovedDeviceStartsAgain(VOID)
{
    HANDLE Handle;
    if (!LoadStranger()) {
        return;
    }
    PDEVICE_OBJECT Pdo = StrangerPdo();
    KT_EQUAL(IoRemovePdo(Pdo), STATUS_SUCCESS);
    KT_CHECK(!NT_SUCCESS(OpenStranger(&Handle)));
    KT_EQUAL(IoStartPdo(Pdo), STATUS_SUCCESS);
    KT_EQUAL(OpenStranger(&Handle), STATUS_SUCCESS);
    KT_EQUAL(ZwClose(Handle), STATUS_SUCCESS);
    KT_EQUAL(IoUnloadDriver("stranger"), STATUS_SUCCESS);
}

static VOID StoppedDeviceIsStartedAgain(VOID)
{
    if (!LoadStranger()) {
        return;
    }
    PDEVICE_OBJECT Pdo = StrangerPdo();
    KT_EQUAL(IoRestartPdo(Pdo), STATUS_INVALID_DEVICE_STATE);
    KT_EQUAL(IoStopPdo(Pdo), STATUS_SUCCESS);
    KT_EQUAL(IoStopPdo(Pdo), STATUS_INVALID_DEVICE_STATE);
    KT_EQUAL(IoRestartPdo(Pdo), STATUS_SUCCESS);
    KT_EQUAL(IoUnloadDriver("stranger"), STATUS_SUCCESS);
}

static VOID InterfacesAreFoundByTheirClass(VOID)
{
    static const WCHAR Begin[] = u"\\??\\ROOT#STRANGER#0000#{5c1c1f3e-";
    PWSTR List;
    if (!LoadStranger()) {
        return;
    }
    KT_EQUAL(IoGetDeviceInterfaces(&StrangerClass, NULL, 0, &List), STATUS_SUCCESS);
    KT_CHECK(RtlEqualMemory(List, Begin, sizeof(Begin) - sizeof(WCHAR)));
    ExFreePool(List);
    KT_EQUAL(IoUnloadDriver("stranger"), STATUS_SUCCESS);
    KT_EQUAL(IoGetDeviceInterfaces(&StrangerClass, NULL, 0, &List), STATUS_SUCCESS);
    KT_EQUAL(List[0], 0);
    ExFreePool(List);
}

static VOID CancelledRemovalOfAStoppedDeviceLeavesItStopped(VOID)
{
    HANDLE Handle;
    if (!LoadStranger()) {
        return;
    }
    PDEVICE_OBJECT Pdo = StrangerPdo();
    KT_EQUAL(OpenStranger(&Handle), STATUS_SUCCESS);
    KT_EQUAL(IoStopPdo(Pdo), STATUS_SUCCESS);
    KT_EQUAL(IoRemovePdo(Pdo), STATUS_DEVICE_BUSY);
    KT_EQUAL(IoStopPdo(Pdo), STATUS_INVALID_DEVICE_STATE); // it is stopped
    KT_EQUAL(IoRestartPdo(Pdo), STATUS_SUCCESS);
    KT_EQUAL(ZwClose(Handle), STATUS_SUCCESS);
    KT_EQUAL(IoUnloadDriver("stranger"), STATUS_SUCCESS);
}

// ------------------------------------------------------------------------------------------------
// Notifications.

static ULONG Arrivals;
static ULONG Removals;
static ULONG QueryRemoves;
static ULONG CancelledRemoves;
static NTSTATUS QueryRemoveAnswer;

static NTSTATUS NTAPI CountInterfaces(PVOID NotificationStructure, PVOID Context)
{
    const DEVICE_INTERFACE_CHANGE_NOTIFICATION *Change = NotificationStructure;
    KT_EQUAL(Context, &Arrivals);
    KT_CHECK(RtlEqualMemory(&Change->InterfaceClassGuid, &StrangerClass, sizeof(GUID)));
    KT_CHECK(Change->SymbolicLinkName->Length != 0);
    Arrivals +=
        RtlEqualMemory(&Change->Event, &GUID_DEVICE_INTERFACE_ARRIVAL, sizeof(GUID)) ? 1 : 0;
    Removals +=
        RtlEqualMemory(&Change->Event, &GUID_DEVICE_INTERFACE_REMOVAL, sizeof(GUID)) ? 1 : 0;
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI CountTarget(PVOID NotificationStructure, PVOID Context)
{
    const TARGET_DEVICE_REMOVAL_NOTIFICATION *Change = NotificationStructure;
    KT_EQUAL(Change->FileObject, Context);
    if (RtlEqualMemory(&Change->Event, &GUID_TARGET_DEVICE_QUERY_REMOVE, sizeof(GUID))) {
        QueryRemoves += 1;
        return QueryRemoveAnswer;
    }
    CancelledRemoves +=
        RtlEqualMemory(&Change->Event, &GUID_TARGET_DEVICE_REMOVE_CANCELLED, sizeof(GUID)) ? 1 : 0;
    return STATUS_SUCCESS;
}

// What a system thread counts soon.
static BOOLEAN CountBecomes(const volatile ULONG *Count, ULONG Wanted)
{
    LARGE_INTEGER Tick = {.QuadPart = -10000};
    for (ULONG Round = 0; *Count != Wanted && Round < 3000; Round += 1) {
        KeDelayExecutionThread(KernelMode, FALSE, &Tick);
    }
    return *Count == Wanted;
}

static VOID InterfacesAreToldOf(VOID)
{
    PVOID Entry;
    if (!LoadStranger()) {
        return;
    }
    const PDRIVER_OBJECT Driver = StrangerPdo()->DriverObject;
    Arrivals = 0;
    Removals = 0;
    KT_EQUAL(IoRegisterPlugPlayNotification(EventCategoryDeviceInterfaceChange,
                                            PNPNOTIFY_DEVICE_INTERFACE_INCLUDE_EXISTING_INTERFACES,
                                            (PVOID)(ULONG_PTR)&StrangerClass, Driver,
                                            CountInterfaces, &Arrivals, &Entry),
             STATUS_SUCCESS);
    KT_CHECK(CountBecomes(&Arrivals, 1));
    KT_EQUAL(IoUnloadDriver("stranger"), STATUS_SUCCESS);
    KT_CHECK(CountBecomes(&Removals, 1));
    KT_EQUAL(IoLoadDriver("stranger"), STATUS_SUCCESS);
    KT_CHECK(CountBecomes(&Arrivals, 2));
    KT_EQUAL(IoUnregisterPlugPlayNotification(Entry), STATUS_SUCCESS);
    KT_EQUAL(IoUnloadDriver("stranger"), STATUS_SUCCESS);
    KT_EQUAL(Removals, 1);
}

static VOID ListenerVetoesRemoval(VOID)
{
    HANDLE Handle;
    PVOID File;
    PVOID Entry;
    if (!LoadStranger()) {
        return;
    }
    const PDEVICE_OBJECT Pdo = StrangerPdo();
    KT_EQUAL(OpenStranger(&Handle), STATUS_SUCCESS);
    KT_EQUAL(ObReferenceObjectByHandle(Handle, 0, *IoFileObjectType, KernelMode, &File, NULL),
             STATUS_SUCCESS);
    KT_EQUAL(IoRegisterPlugPlayNotification(EventCategoryTargetDeviceChange, 0, File,
                                            Pdo->DriverObject, CountTarget, File, &Entry),
             STATUS_SUCCESS);
    QueryRemoves = 0;
    CancelledRemoves = 0;
    QueryRemoveAnswer = STATUS_DEVICE_NOT_READY;
    KT_EQUAL(IoRemovePdo(Pdo), STATUS_DEVICE_NOT_READY);
    KT_EQUAL(QueryRemoves, 1);
    KT_EQUAL(CancelledRemoves, 1);
    KT_EQUAL(IoUnregisterPlugPlayNotification(Entry), STATUS_SUCCESS);
    ObDereferenceObject(File);
    KT_EQUAL(ZwClose(Handle), STATUS_SUCCESS);
    KT_EQUAL(IoUnloadDriver("stranger"), STATUS_SUCCESS);
    KT_EQUAL(QueryRemoves, 1);
}

// ------------------------------------------------------------------------------------------------
// A thread that ends with a request under way.

static IO_STATUS_BLOCK EndedResult;
static volatile NTSTATUS EndedCall;

static VOID NTAPI SendAndEnd(PVOID Context)
{
    const PDEVICE_OBJECT Device = Context;
    ULONG Milliseconds = 60000;
    const PIRP Irp =
        IoBuildDeviceIoControlRequest(IOCTL_STRANGER_WAIT, Device, &Milliseconds,
                                      sizeof(Milliseconds), NULL, 0, FALSE, NULL, &EndedResult);
    if (Irp != NULL) {
        EndedCall = IoCallDriver(Device, Irp);
    }
}

static VOID ThreadThatEndsCancelsItsRequests(VOID)
{
    HANDLE Handle;
    if (!LoadStranger()) {
        return;
    }
    EndedResult.Status = STATUS_PENDING;
    EndedCall = STATUS_UNSUCCESSFUL;
    KT_REQUIRE(NT_SUCCESS(PsCreateSystemThread(&Handle, SYNCHRONIZE, NULL, NULL, NULL, SendAndEnd,
                                               IoFindDriver("stranger")->DeviceObject)));
    KT_EQUAL(ZwWaitForSingleObject(Handle, FALSE, NULL), STATUS_SUCCESS);
    KT_EQUAL(EndedCall, STATUS_PENDING);
    KT_EQUAL(EndedResult.Status, STATUS_CANCELLED);
    KT_EQUAL(ZwClose(Handle), STATUS_SUCCESS);
    KT_EQUAL(IoUnloadDriver("stranger"), STATUS_SUCCESS);
}

// ------------------------------------------------------------------------------------------------
// A bus driver and its children: tests/drivers/ktbus and ktchild.

static BOOLEAN IsThere(PCUNICODE_STRING Name)
{
    PVOID Object;
    if (!NT_SUCCESS(ObLookupName(NULL, Name, ObFollowLinks, &Object, NULL, NULL))) {
        return FALSE;
    }
    ObDereferenceObject(Object);
    return TRUE;
}

// What a system thread does soon.
static BOOLEAN Becomes(PCUNICODE_STRING Name, BOOLEAN Wanted)
{
    LARGE_INTEGER Tick = {.QuadPart = -10000};
    for (ULONG Round = 0; IsThere(Name) != Wanted && Round < 3000; Round += 1) {
        KeDelayExecutionThread(KernelMode, FALSE, &Tick);
    }
    return IsThere(Name) == Wanted;
}

static NTSTATUS ControlBus(ULONG IoControlCode, PVOID Input, ULONG InputBytes, PVOID Output,
                           ULONG OutputBytes)
{
    NAME(Name, u"\\Device\\KtBus");
    OBJECT_ATTRIBUTES Attributes;
    IO_STATUS_BLOCK StatusBlock;
    HANDLE Handle;
    InitializeObjectAttributes(&Attributes, &Name, 0, NULL, NULL);
    NTSTATUS Status = ZwOpenFile(&Handle, GENERIC_WRITE, &Attributes, &StatusBlock, 0,
                                 FILE_SYNCHRONOUS_IO_NONALERT);
    if (NT_SUCCESS(Status)) {
        Status = ZwDeviceIoControlFile(Handle, NULL, NULL, NULL, &StatusBlock, IoControlCode, Input,
                                       InputBytes, Output, OutputBytes);
        ZwClose(Handle);
    }
    return Status;
}

static NTSTATUS TellBus(ULONG IoControlCode, ULONG Number)
{
    return ControlBus(IoControlCode, &Number, sizeof(Number), NULL, 0);
}

static NTSTATUS SetState(ULONG Number, ULONG State)
{
    ULONG Input[] = {Number, State};
    return ControlBus(IOCTL_KTBUS_STATE, Input, sizeof(Input), NULL, 0);
}

static KTBUS_COUNTS CountsOf(ULONG Number)
{
    KTBUS_COUNTS Counts = {0};
    KT_EQUAL(ControlBus(IOCTL_KTBUS_COUNTS, &Number, sizeof(Number), &Counts, sizeof(Counts)),
             STATUS_SUCCESS);
    return Counts;
}

static BOOLEAN StartsBecome(ULONG Number, ULONG Wanted)
{
    LARGE_INTEGER Tick = {.QuadPart = -10000};
    for (ULONG Round = 0; CountsOf(Number).Starts != Wanted && Round < 1000; Round += 1) {
        KeDelayExecutionThread(KernelMode, FALSE, &Tick);
    }
    return CountsOf(Number).Starts == Wanted;
}

static VOID ChildrenComeAndGo(VOID)
{
    NAME(First, u"\\Device\\KtChild0");
    NAME(Second, u"\\Device\\KtChild1");
    NAME(Third, u"\\Device\\KtChild2");
    if (IoLoadDriver("ktchild") == STATUS_OBJECT_NAME_NOT_FOUND) {
        KT_SKIP("the image has no drivers for tests");
    }
    KT_EQUAL(IoLoadDriver("ktbus"), STATUS_SUCCESS);
    KT_CHECK(IsThere(&First));
    KT_EQUAL(TellBus(IOCTL_KTBUS_PLUG, 2), STATUS_SUCCESS);
    KT_CHECK(Becomes(&Second, TRUE));
    KT_EQUAL(TellBus(IOCTL_KTBUS_UNPLUG, 0), STATUS_SUCCESS);
    KT_CHECK(Becomes(&First, FALSE));
    KT_CHECK(IsThere(&Second));
    KT_EQUAL(TellBus(IOCTL_KTBUS_PLUG, 0), STATUS_SUCCESS);
    KT_CHECK(Becomes(&Third, TRUE));
    KT_EQUAL(IoUnloadDriver("ktbus"), STATUS_SUCCESS);
    KT_CHECK(!IsThere(&Second) && !IsThere(&Third));
    KT_EQUAL(IoUnloadDriver("ktchild"), STATUS_SUCCESS);
}

static VOID StartedDevicesAreAskedHowTheyAre(VOID)
{
    NAME(First, u"\\Device\\KtChild0");
    if (IoLoadDriver("ktchild") == STATUS_OBJECT_NAME_NOT_FOUND) {
        KT_SKIP("the image has no drivers for tests");
    }
    KT_EQUAL(IoLoadDriver("ktbus"), STATUS_SUCCESS);
    const KTBUS_COUNTS Counts = CountsOf(0);
    KT_EQUAL(Counts.Starts, 1);
    KT_EQUAL(Counts.CapabilityQueries, 1);
    KT_EQUAL(Counts.StateQueries, 1);
    KT_EQUAL(SetState(0, PNP_DEVICE_RESOURCE_REQUIREMENTS_CHANGED), STATUS_SUCCESS);
    KT_CHECK(StartsBecome(0, 2));
    KT_EQUAL(CountsOf(0).Stops, 1);
    KT_CHECK(IsThere(&First));
    KT_EQUAL(SetState(0, PNP_DEVICE_FAILED), STATUS_SUCCESS);
    KT_CHECK(Becomes(&First, FALSE));
    KT_EQUAL(IoUnloadDriver("ktbus"), STATUS_SUCCESS);
    KT_EQUAL(IoUnloadDriver("ktchild"), STATUS_SUCCESS);
}

static VOID RawDevicesStartWithoutADriver(VOID)
{
    if (IoLoadDriver("ktbus") == STATUS_OBJECT_NAME_NOT_FOUND) {
        KT_SKIP("the image has no drivers for tests");
    }
    KT_EQUAL(TellBus(IOCTL_KTBUS_PLUG, KTBUS_RAW_CHILD), STATUS_SUCCESS);
    KT_CHECK(StartsBecome(KTBUS_RAW_CHILD, 1));
    KT_EQUAL(CountsOf(0).Starts, 0); // it wants a driver, and there is none
    KT_EQUAL(IoUnloadDriver("ktbus"), STATUS_SUCCESS);
}

static VOID CheckFilters(VOID)
{
    NAME(Name, u"\\Device\\KtChild0");
    PVOID Object;
    KT_REQUIRE(NT_SUCCESS(ObLookupName(NULL, &Name, ObFollowLinks, &Object, NULL, NULL)));
    const PDEVICE_OBJECT Device = Object;
    const PDEVICE_OBJECT Lower = IoGetLowerDeviceObject(Device);
    if (KT_CHECK(Lower != NULL)) {
        KT_EQUAL(Lower->DriverObject, IoFindDriver("ktlower"));
        ObDereferenceObject(Lower);
    }
    if (KT_CHECK(Device->AttachedDevice != NULL)) {
        KT_EQUAL(Device->AttachedDevice->DriverObject, IoFindDriver("ktupper"));
    }
    ObDereferenceObject(Object);
}

static VOID FiltersStandBelowAndAbove(VOID)
{
    if (IoLoadDriver("ktupper") == STATUS_OBJECT_NAME_NOT_FOUND) {
        KT_SKIP("the image has no drivers for tests");
    }
    KT_EQUAL(IoLoadDriver("ktlower"), STATUS_SUCCESS);
    KT_EQUAL(IoLoadDriver("ktchild"), STATUS_SUCCESS);
    KT_EQUAL(IoLoadDriver("ktbus"), STATUS_SUCCESS);
    CheckFilters();
    KT_EQUAL(IoUnloadDriver("ktbus"), STATUS_SUCCESS);
    KT_EQUAL(IoUnloadDriver("ktchild"), STATUS_SUCCESS);
    KT_EQUAL(IoUnloadDriver("ktlower"), STATUS_SUCCESS);
    KT_EQUAL(IoUnloadDriver("ktupper"), STATUS_SUCCESS);
}

// The first NVMe controller, or NULL.
static const IO_PCI_FUNCTION *NvmeFunction(VOID)
{
    const IO_PCI_FUNCTION *Function = IoNextPciFunction(NULL);
    while (Function != NULL && (Function->BaseClass != PCI_CLASS_MASS_STORAGE_CTLR ||
                                Function->SubClass != PCI_SUBCLASS_MSC_NVM_CTLR)) {
        Function = IoNextPciFunction(Function);
    }
    return Function;
}

static VOID ReadDisk(PMDL Mdl)
{
    ULONG_PTR Information = 0;
    KT_EQUAL(IoTransferSynchronously(IoFindDevice(FILE_DEVICE_DISK, 0), IRP_MJ_READ, Mdl, 0,
                                     PAGE_SIZE, &Information),
             STATUS_SUCCESS);
    KT_EQUAL(Information, PAGE_SIZE);
}

static VOID MoveAndCompare(const IO_PCI_FUNCTION *Function, PMDL Before, PMDL After)
{
    const ULONG64 Base = Function->Bars[0].Base;
    const PVOID First = MmGetSystemAddressForMdlSafe(Before, NormalPagePriority);
    const PVOID Second = MmGetSystemAddressForMdlSafe(After, NormalPagePriority);
    KT_REQUIRE(First != NULL && Second != NULL);
    RtlFillMemory(Second, PAGE_SIZE, 0xA5);
    ReadDisk(Before);
    KT_EQUAL(IoMovePdo(Function->Pdo), STATUS_INVALID_DEVICE_STATE); // it is started
    KT_EQUAL(IoStopPdo(Function->Pdo), STATUS_SUCCESS);
    KT_EQUAL(IoMovePdo(Function->Pdo), STATUS_SUCCESS);
    KT_CHECK(Function->Bars[0].Base != Base);
    KT_EQUAL(IoRestartPdo(Function->Pdo), STATUS_SUCCESS);
    ReadDisk(After);
    KT_CHECK(RtlEqualMemory(First, Second, PAGE_SIZE));
    MmUnmapLockedPages(First, Before);
    MmUnmapLockedPages(Second, After);
}

static VOID RestartMayBringOtherResources(VOID)
{
    const IO_PCI_FUNCTION *Function = NvmeFunction();
    if (Function == NULL || IoFindDevice(FILE_DEVICE_DISK, 0) == NULL) {
        KT_SKIP("this machine has no disk");
    }
    const PMDL Before = KtAllocatePages(1);
    const PMDL After = KtAllocatePages(1);
    if (KT_CHECK(Before != NULL && After != NULL)) {
        MoveAndCompare(Function, Before, After);
    }
    KtFreePages(Before);
    KtFreePages(After);
    KtKeepWhatIsHeld(); // the registers have other claims now
}

//
// Function-level reset.
//

static NTSTATUS QueryResetInterface(PDEVICE_OBJECT Pdo, USHORT Size,
                                    PDEVICE_RESET_INTERFACE_STANDARD Interface)
{
    KEVENT Done;
    IO_STATUS_BLOCK StatusBlock;
    KeInitializeEvent(&Done, NotificationEvent, FALSE);
    const PIRP Irp =
        IoBuildSynchronousFsdRequest(IRP_MJ_PNP, Pdo, NULL, 0, NULL, &Done, &StatusBlock);
    if (Irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MinorFunction = IRP_MN_QUERY_INTERFACE;
    Stack->Parameters.QueryInterface.InterfaceType = &GUID_DEVICE_RESET_INTERFACE_STANDARD;
    Stack->Parameters.QueryInterface.Size = Size;
    Stack->Parameters.QueryInterface.Version = DEVICE_RESET_INTERFACE_VERSION_1;
    Stack->Parameters.QueryInterface.Interface = (PINTERFACE)Interface;
    Irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
    (VOID) IoCallDriver(Pdo, Irp);
    (VOID) KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL);
    return StatusBlock.Status;
}

static VOID ReadHeader(const IO_PCI_FUNCTION *Function, PPCI_COMMON_HEADER Header)
{
    const PCI_SLOT_NUMBER Slot = {
        .u.bits = {.DeviceNumber = Function->Device, .FunctionNumber = Function->Function}};
    KT_EQUAL(HalGetBusDataByOffset(PCIConfiguration, (ULONG)Function->Segment << 8 | Function->Bus,
                                   Slot.u.AsULONG, Header, 0, sizeof(*Header)),
             sizeof(*Header));
}

// Stopped, so that its driver has nothing to lose. QEMU clears the addresses, as a device must.
static VOID FunctionLevelResetLeavesDeviceWhereItWas(VOID)
{
    const IO_PCI_FUNCTION *Function = NvmeFunction();
    if (Function == NULL || !NT_SUCCESS(Function->StartStatus)) {
        KT_SKIP("this machine has no NVMe controller");
    }
    DEVICE_RESET_INTERFACE_STANDARD Reset;
    PCI_COMMON_HEADER Before;
    PCI_COMMON_HEADER After;
    KT_EQUAL(QueryResetInterface(Function->Pdo, sizeof(Reset) - 1, &Reset),
             STATUS_INVALID_PARAMETER);
    KT_EQUAL(QueryResetInterface(Function->Pdo, sizeof(Reset), &Reset), STATUS_SUCCESS);
    KT_EQUAL(Reset.SupportedResetTypes, 1u << FunctionLevelDeviceReset);
    KT_EQUAL(Reset.DeviceReset(Reset.Context, PlatformLevelDeviceReset, 0, NULL),
             STATUS_NOT_SUPPORTED);
    KT_EQUAL(IoStopPdo(Function->Pdo), STATUS_SUCCESS);
    ReadHeader(Function, &Before);
    KT_CHECK((Before.Command & PCI_ENABLE_MEMORY_SPACE) != 0);
    KT_EQUAL(Reset.DeviceReset(Reset.Context, FunctionLevelDeviceReset, 0, NULL), STATUS_SUCCESS);
    ReadHeader(Function, &After);
    KT_CHECK(RtlEqualMemory(&Before, &After, sizeof(Before)));
    KT_EQUAL(IoRestartPdo(Function->Pdo), STATUS_SUCCESS);
    Reset.InterfaceDereference(Reset.Context);
    KtKeepWhatIsHeld(); // the driver has other memory now
}

static VOID PciFunctionsSayWhoTheyAre(VOID)
{
    static const WCHAR Begin[] = u"PCI\\VEN_";
    WCHAR Buffer[256];
    ULONG Length;
    const IO_PCI_FUNCTION *Function = IoNextPciFunction(NULL);
    if (Function == NULL) {
        KT_SKIP("this machine has no PCI functions");
    }
    KT_EQUAL(IoGetDeviceProperty(Function->Pdo, DevicePropertyHardwareID, 2, Buffer, &Length),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(IoGetDeviceProperty(Function->Pdo, DevicePropertyHardwareID, sizeof(Buffer), Buffer,
                                 &Length),
             STATUS_SUCCESS);
    KT_CHECK(RtlEqualMemory(Buffer, Begin, sizeof(Begin) - sizeof(WCHAR)));
    KT_EQUAL(IoGetDeviceProperty(Function->Pdo, DevicePropertyBusNumber, sizeof(Buffer), Buffer,
                                 &Length),
             STATUS_SUCCESS);
    KT_EQUAL(*(PULONG)(PVOID)Buffer, Function->Bus);
    KT_EQUAL(IoGetDeviceProperty(Function->Pdo, DevicePropertyManufacturer, sizeof(Buffer), Buffer,
                                 &Length),
             STATUS_OBJECT_NAME_NOT_FOUND);
}

static const KT_TEST Tests[] = {
    {"drivers come and go by name [11.4.1]", DriversComeAndGoByName},
    {"an open file vetoes removal [11.4.2]", OpenFileVetoesRemoval},
    {"after a surprise removal, REMOVE waits for the last file [11.4.3]",
     SurpriseRemovalWaitsForTheLastFile},
    {"a removed device starts again [11.4.1]", RemovedDeviceStartsAgain},
    {"a stopped device is started again [11.4.4]", StoppedDeviceIsStartedAgain},
    {"device interfaces are found by their class [11.4.7]", InterfacesAreFoundByTheirClass},
    {"a bus driver's children come and go [11.4.5]", ChildrenComeAndGo},
    {"a cancelled removal of a stopped device leaves it stopped [11.4.12]",
     CancelledRemovalOfAStoppedDeviceLeavesItStopped},
    {"listeners are told of device interfaces [11.4.8]", InterfacesAreToldOf},
    {"a listener to a device vetoes its removal [11.4.9]", ListenerVetoesRemoval},
    {"a thread that ends cancels its requests and waits for them [23.2.9]",
     ThreadThatEndsCancelsItsRequests},
    {"started devices are asked what they can do, and how they are [11.4.11]",
     StartedDevicesAreAskedHowTheyAre},
    {"raw devices start without a driver [11.4.11]", RawDevicesStartWithoutADriver},
    {"filters stand below and above the function driver [11.4.10]", FiltersStandBelowAndAbove},
    {"a restart may bring other resources [11.4.13]", RestartMayBringOtherResources},
    {"a function-level reset leaves a device where it was [11.4.14]",
     FunctionLevelResetLeavesDeviceWhereItWas},
    {"PCI functions say who they are [11.4.6]", PciFunctionsSayWhoTheyAre},
};

const KT_SUITE KtPnpSuite = {"pnp", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
