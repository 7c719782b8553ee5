// The drivers that are linked in, and the way a device starts.
//
//   DriverEntry (once) ──▶ AddDevice(PDO) ──▶ IRP_MN_START_DEVICE with its resources
//
// A driver or a device that fails is told of in words, taken down by IRP_MN_REMOVE_DEVICE, and the
// kernel goes on without it.
#include "kernel/io/iop.h"

extern DRIVER_INITIALIZE NvmeDriverEntry;
extern DRIVER_INITIALIZE E1000DriverEntry;

// Named by linker.ld: where the code of each driver lies.
extern const UCHAR KiNvmeTextStart[], KiNvmeTextEnd[], KiE1000TextStart[], KiE1000TextEnd[];

typedef enum _IOP_MATCH_KIND {
    IopMatchClass,  // base class, subclass and programming interface: 0xBBSSPP
    IopMatchDevice, // vendor and device: 0xVVVVDDDD
} IOP_MATCH_KIND;

typedef struct _IOP_MATCH {
    IOP_MATCH_KIND Kind;
    ULONG Value;
} IOP_MATCH;

#define IOP_MAXIMUM_MATCHES 4

typedef struct _IOP_LINKED_DRIVER {
    PCSTR Name;
    PCSTR OwnerName; // of its code, in reports
    const UCHAR *Start;
    const UCHAR *End;
    UNICODE_STRING DriverName;
    UNICODE_STRING RegistryPath;
    PDRIVER_INITIALIZE DriverEntry;
    ULONG MatchCount;
    IOP_MATCH Matches[IOP_MAXIMUM_MATCHES];
} IOP_LINKED_DRIVER;

#define IOP_SERVICES u"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\"

static const IOP_LINKED_DRIVER IopLinkedDrivers[] = {
    {"nvme",
     "driver nvme",
     KiNvmeTextStart,
     KiNvmeTextEnd,
     RTL_CONSTANT_STRING(u"\\Driver\\nvme"),
     RTL_CONSTANT_STRING(IOP_SERVICES u"nvme"),
     NvmeDriverEntry,
     1,
     {{IopMatchClass, 0x010802}}},
    {"e1000",
     "driver e1000",
     KiE1000TextStart,
     KiE1000TextEnd,
     RTL_CONSTANT_STRING(u"\\Driver\\e1000"),
     RTL_CONSTANT_STRING(IOP_SERVICES u"e1000"),
     E1000DriverEntry,
     1,
     {{IopMatchDevice, 0x8086100E}}},
};

// What DriverEntry made of each row: NULL before, and after a failure.
static PDRIVER_OBJECT IopDrivers[ARRAYSIZE(IopLinkedDrivers)];
static BOOLEAN IopDriverTried[ARRAYSIZE(IopLinkedDrivers)];

static BOOLEAN IopMatches(const IOP_MATCH *Match, const IO_PCI_FUNCTION *Function)
{
    switch (Match->Kind) {
    case IopMatchClass:
        return Match->Value == (((ULONG)Function->BaseClass << 16) |
                                ((ULONG)Function->SubClass << 8) | Function->ProgIf);
    case IopMatchDevice:
        return Match->Value == (((ULONG)Function->VendorId << 16) | Function->DeviceId);
    }
    return FALSE;
}

// The row of the driver for a function, or ARRAYSIZE(IopLinkedDrivers).
static ULONG IopFindDriver(const IO_PCI_FUNCTION *Function)
{
    ULONG Row = 0;
    for (; Row < ARRAYSIZE(IopLinkedDrivers); Row += 1) {
        for (ULONG Index = 0; Index < IopLinkedDrivers[Row].MatchCount; Index += 1) {
            if (IopMatches(&IopLinkedDrivers[Row].Matches[Index], Function)) {
                return Row;
            }
        }
    }
    return Row;
}

// Deletes a driver whose devices are gone; the verifier has a look at what it has left behind.
static VOID IopForgetDriver(const IOP_LINKED_DRIVER *Linked, PDRIVER_OBJECT Driver)
{
    MmCheckUnload(Linked->OwnerName);
    IopDeleteDriver(Driver);
}

static PDRIVER_OBJECT IopInitializeDriver(const IOP_LINKED_DRIVER *Linked)
{
    UNICODE_STRING RegistryPath = Linked->RegistryPath;
    PDRIVER_OBJECT Driver = IopCreateDriver(&Linked->DriverName);
    NTSTATUS Status = STATUS_INSUFFICIENT_RESOURCES;
    const ULONG CodeBytes = (ULONG)(Linked->End - Linked->Start);
    KiRegisterCode(Linked->OwnerName, (ULONG_PTR)Linked->Start, CodeBytes, TRUE);
    if (Driver != NULL) {
        Driver->DriverStart = (PVOID)(ULONG_PTR)Linked->Start;
        Driver->DriverSize = CodeBytes;
        Driver->DriverInit = Linked->DriverEntry;
        Status = Linked->DriverEntry(Driver, &RegistryPath);
    }
    if (NT_SUCCESS(Status) && Driver->DriverExtension->AddDevice == NULL) {
        Status = STATUS_INVALID_DEVICE_REQUEST;
    }
    if (!NT_SUCCESS(Status)) {
        DbgPrint("io: driver %s does not start: status 0x%08x\n", Linked->Name, Status);
        if (Driver != NULL) {
            IopForgetDriver(Linked, Driver);
        }
        return NULL;
    }
    return Driver;
}

static PDRIVER_OBJECT IopLoadDriver(ULONG Row)
{
    if (!IopDriverTried[Row]) {
        IopDriverTried[Row] = TRUE;
        IopDrivers[Row] = IopInitializeDriver(&IopLinkedDrivers[Row]);
    }
    return IopDrivers[Row];
}

//
// Plug-and-play requests to a stack.
//

// A request to the whole stack of Pdo, which its drivers answer from the top. Resources may be
// NULL. STATUS_PENDING: a driver never answered; the request, and what it points to, is still its.
static NTSTATUS IopSendPnp(PDEVICE_OBJECT Pdo, UCHAR MinorFunction, PCM_RESOURCE_LIST Raw,
                           PCM_RESOURCE_LIST Translated)
{
    PDEVICE_OBJECT Top = IopTopOfStack(Pdo);
    PIRP Irp = IoAllocateIrp(Top->StackSize, FALSE);
    if (Irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
    PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Stack->MajorFunction = IRP_MJ_PNP;
    Stack->MinorFunction = MinorFunction;
    Stack->Parameters.StartDevice.AllocatedResources = Raw;
    Stack->Parameters.StartDevice.AllocatedResourcesTranslated = Translated;
    const NTSTATUS Status = IopSendAndWait(Top, Irp);
    if (Status != STATUS_PENDING) {
        IoFreeIrp(Irp);
    }
    return Status;
}

static VOID IopFreeResourceList(PCM_RESOURCE_LIST List)
{
    if (List != NULL) {
        ExFreePoolWithTag(List, IOP_TAG);
    }
}

static NTSTATUS IopStartStack(PIO_PCI_FUNCTION Function)
{
    PCM_RESOURCE_LIST Raw;
    PCM_RESOURCE_LIST Translated = NULL;
    IopAssignInterrupts(Function);
    NTSTATUS Status = IopBuildResourceList(Function, IopResourcesRaw, &Raw);
    if (NT_SUCCESS(Status)) {
        Status = IopBuildResourceList(Function, IopResourcesTranslated, &Translated);
    }
    if (NT_SUCCESS(Status)) {
        Status = IopSendPnp(Function->Pdo, IRP_MN_START_DEVICE, Raw, Translated);
    }
    if (Status == STATUS_PENDING) {
        return STATUS_IO_TIMEOUT;
    }
    IopFreeResourceList(Raw);
    IopFreeResourceList(Translated);
    return Status;
}

static NTSTATUS IopAddAndStart(PDRIVER_OBJECT Driver, PIO_PCI_FUNCTION Function)
{
    NTSTATUS Status = Driver->DriverExtension->AddDevice(Driver, Function->Pdo);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Status = IopStartStack(Function);
    if (!NT_SUCCESS(Status)) {
        const NTSTATUS Removed = IopSendPnp(Function->Pdo, IRP_MN_REMOVE_DEVICE, NULL, NULL);
        if (Removed != STATUS_SUCCESS) {
            DbgPrint("io: the device could not be removed either: status 0x%08x\n", Removed);
        }
    }
    return Status;
}

static VOID IopStartDevice(PIO_PCI_FUNCTION Function)
{
    const ULONG Row = IopFindDriver(Function);
    if (Row == ARRAYSIZE(IopLinkedDrivers)) {
        return;
    }
    Function->DriverName = IopLinkedDrivers[Row].Name;
    PDRIVER_OBJECT Driver = IopLoadDriver(Row);
    if (Driver == NULL) {
        return;
    }
    Function->StartStatus = IopAddAndStart(Driver, Function);
    if (!NT_SUCCESS(Function->StartStatus)) {
        CHAR Name[IO_PCI_NAME_BYTES];
        IoFormatPciName(Function, Name, sizeof(Name));
        DbgPrint("io: %s, %s: driver %s could not start it: status 0x%08x; going on without it\n",
                 Name, IoPciClassName(Function), Function->DriverName, Function->StartStatus);
    }
}

VOID IopStartDevices(VOID)
{
    for (PIO_PCI_FUNCTION Function = IopNextPciFunction(NULL); Function != NULL;
         Function = IopNextPciFunction(Function)) {
        IopStartDevice(Function);
    }
}

PDEVICE_OBJECT IoFindDevice(DEVICE_TYPE DeviceType, ULONG Index)
{
    for (const IO_PCI_FUNCTION *Function = IoNextPciFunction(NULL); Function != NULL;
         Function = IoNextPciFunction(Function)) {
        PDEVICE_OBJECT Top = IopTopOfStack(Function->Pdo);
        if (NT_SUCCESS(Function->StartStatus) && Top->DeviceType == DeviceType && Index-- == 0) {
            return Top;
        }
    }
    return NULL;
}

//
// The end of it all.
//

static VOID IopStopDevice(PIO_PCI_FUNCTION Function)
{
    if (Function->DriverName == NULL || !NT_SUCCESS(Function->StartStatus)) {
        return;
    }
    const NTSTATUS Status = IopSendPnp(Function->Pdo, IRP_MN_REMOVE_DEVICE, NULL, NULL);
    if (Status != STATUS_SUCCESS) {
        DbgPrint("io: a device of driver %s could not be removed: status 0x%08x\n",
                 Function->DriverName, Status);
    }
    Function->StartStatus = STATUS_NO_SUCH_DEVICE;
}

static VOID IopUnloadDriver(ULONG Row)
{
    PDRIVER_OBJECT Driver = IopDrivers[Row];
    if (Driver == NULL || Driver->DeviceObject != NULL) {
        return;
    }
    if (Driver->DriverUnload != NULL) {
        Driver->DriverUnload(Driver);
    }
    IopDrivers[Row] = NULL;
    IopForgetDriver(&IopLinkedDrivers[Row], Driver);
}

VOID IoUnloadDrivers(VOID)
{
    for (PIO_PCI_FUNCTION Function = IopNextPciFunction(NULL); Function != NULL;
         Function = IopNextPciFunction(Function)) {
        IopStopDevice(Function);
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(IopLinkedDrivers); Row += 1) {
        IopUnloadDriver(Row);
    }
}
