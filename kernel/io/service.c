// Services: what can become a driver.
//
// A boot module is a file beside the kernel; its arguments are hardware ids ("PCI\VEN_8086&DEV_100E",
// "PCI\CC_010802") and words:
//
//   demand         only IoLoadDriver loads it
//   lowerfilter    it stands below the function driver of each device that its ids name
//   upperfilter    above it
//   messages=N     its devices are to interrupt by up to N messages, if they can, and not by their lines
//   value:N=T:V    a value of its key Parameters (parameter.c)
//
// A module without ids is loaded at the start: if it has an AddDevice routine, it gets a device of the
// root's, else it is a legacy driver, whose DriverEntry makes its devices.
//
// A driver that does not load or initialize is told of in words, and the kernel goes on without it.
#include "kernel/inc/cm.h"
#include "kernel/io/pnp.h"

static IOP_SERVICE IopServices[LOADER_MAXIMUM_MODULES];
static ULONG IopServiceCount;

PIOP_SERVICE IopNextService(const IOP_SERVICE *Previous)
{
    const ULONG Next = Previous == NULL ? 0 : (ULONG)(Previous - IopServices) + 1;
    return Next < IopServiceCount ? &IopServices[Next] : NULL;
}

static CHAR IopUpcaseAscii(CHAR Character)
{
    return Character >= 'a' && Character <= 'z' ? (CHAR)(Character - 0x20) : Character;
}

static BOOLEAN IopNamesEqual(PCSTR A, PCSTR B)
{
    while (*A != 0 && IopUpcaseAscii(*A) == IopUpcaseAscii(*B)) {
        A += 1;
        B += 1;
    }
    return IopUpcaseAscii(*A) == IopUpcaseAscii(*B);
}

PIOP_SERVICE IopFindService(PCSTR Name)
{
    for (ULONG Index = 0; Index < IopServiceCount; Index += 1) {
        if (IopNamesEqual(IopServices[Index].Name, Name)) {
            return &IopServices[Index];
        }
    }
    return NULL;
}

//
// Arguments.
//

PCSTR IopNextWord(PCSTR *Cursor, PULONG Length)
{
    PCSTR Word = *Cursor;
    while (*Word == ' ') {
        Word += 1;
    }
    *Length = 0;
    while (Word[*Length] != ' ' && Word[*Length] != 0) {
        *Length += 1;
    }
    *Cursor = Word + *Length;
    return *Length != 0 ? Word : NULL;
}

static BOOLEAN IopWordIs(PCSTR Word, ULONG Length, PCSTR Text)
{
    return RtlStringLength(Text) == Length && RtlStringStartsWith(Word, Text);
}

static BOOLEAN IopWordIsId(PCSTR Word, ULONG Length, PCWSTR Id)
{
    for (ULONG Index = 0; Index < Length; Index += 1) {
        if (ObUpcase((UCHAR)Word[Index]) != ObUpcase(Id[Index])) {
            return FALSE;
        }
    }
    return Id[Length] == 0;
}

BOOLEAN IopServiceMatches(const IOP_SERVICE *Service, PCWSTR Id)
{
    PCSTR Cursor = Service->Arguments;
    ULONG Length;
    for (PCSTR Word = IopNextWord(&Cursor, &Length); Word != NULL;
         Word = IopNextWord(&Cursor, &Length)) {
        if (IopWordIsId(Word, Length, Id)) {
            return TRUE;
        }
    }
    return FALSE;
}

#define IOP_MESSAGES_WORD "messages="

// The decimal number behind a prefix; 0: another word.
static ULONG IopNumberBehind(PCSTR Word, ULONG Length, PCSTR Prefix)
{
    ULONG Number = 0;
    if (!RtlStringStartsWith(Word, Prefix)) {
        return 0;
    }
    for (ULONG Index = (ULONG)RtlStringLength(Prefix); Index < Length; Index += 1) {
        if (Word[Index] < '0' || Word[Index] > '9' || Number > IOP_MAXIMUM_MESSAGES) {
            break;
        }
        Number = Number * 10 + (ULONG)(Word[Index] - '0');
    }
    return Number;
}

// "messages=4" and the like: somebody else's.
static BOOLEAN IopWordIsOption(PCSTR Word, ULONG Length)
{
    for (ULONG Index = 0; Index < Length; Index += 1) {
        if (Word[Index] == '=') {
            return TRUE;
        }
    }
    return FALSE;
}

static VOID IopReadArguments(PIOP_SERVICE Service)
{
    PCSTR Cursor = Service->Arguments;
    ULONG Length;
    for (PCSTR Word = IopNextWord(&Cursor, &Length); Word != NULL;
         Word = IopNextWord(&Cursor, &Length)) {
        if (IopWordIs(Word, Length, "demand")) {
            Service->IsDemand = TRUE;
        } else if (IopWordIs(Word, Length, "lowerfilter")) {
            Service->Role = IopLowerFilter;
        } else if (IopWordIs(Word, Length, "upperfilter")) {
            Service->Role = IopUpperFilter;
        } else if (RtlStringStartsWith(Word, IOP_MESSAGES_WORD)) {
            Service->MessageLimit = IopNumberBehind(Word, Length, IOP_MESSAGES_WORD);
        } else if (!IopWordIsOption(Word, Length)) {
            Service->HasIds = TRUE;
        }
    }
}

static VOID IopAddService(const LOADER_MODULE *Module)
{
    PIOP_SERVICE Service = &IopServices[IopServiceCount++];
    RtlCopyString(Service->Name, sizeof(Service->Name), Module->Name);
    const SIZE_T Length = RtlStringLength(Service->Name);
    if (Length > 4 && IopNamesEqual(Service->Name + Length - 4, ".sys")) {
        Service->Name[Length - 4] = 0;
    }
    Service->Module = Module;
    Service->Arguments = Module->Arguments;
    IopReadArguments(Service);
}

// Modules that are no drivers are somebody else's.
static BOOLEAN IopIsDriverFile(PCSTR Name)
{
    const SIZE_T Length = RtlStringLength(Name);
    return Length > 4 && IopNamesEqual(Name + Length - 4, ".sys");
}

//
// Loading.
//

#define IOP_SERVICES_KEY "\\Registry\\Machine\\System\\CurrentControlSet\\Services\\"

#define IOP_PARAMETERS "\\Parameters"

typedef struct _IOP_NAME {
    UNICODE_STRING String;
    WCHAR Buffer[sizeof(IOP_SERVICES_KEY) + IOP_SERVICE_NAME_BYTES + sizeof(IOP_PARAMETERS)];
} IOP_NAME, *PIOP_NAME;

static VOID IopMakeName(PIOP_NAME Name, PCSTR Prefix, PCSTR Rest)
{
    CHAR Text[ARRAYSIZE(Name->Buffer)];
    const SIZE_T Length = RtlFormatBuffer(Text, sizeof(Text), "%s%s", Prefix, Rest);
    for (SIZE_T Index = 0; Index <= Length; Index += 1) {
        Name->Buffer[Index] = (UCHAR)Text[Index];
    }
    Name->String = (UNICODE_STRING){(USHORT)(Length * sizeof(WCHAR)),
                                    (USHORT)((Length + 1) * sizeof(WCHAR)), Name->Buffer};
}

// What NT writes down of a driver. Without memory for it the driver finds less, which it must be ready
// for.
static VOID IopDescribeService(const IOP_NAME *Key, PCSTR FileName)
{
    static const struct {
        PCWSTR Name;
        ULONG Value;
    } Numbers[] = {
        {u"Type", 1},         // SERVICE_KERNEL_DRIVER
        {u"Start", 3},        // SERVICE_DEMAND_START
        {u"ErrorControl", 1}, // SERVICE_ERROR_NORMAL
    };
    IOP_NAME Path;
    IopMakeName(&Path, "\\SystemRoot\\System32\\drivers\\", FileName);
    (VOID) RtlWriteRegistryValue(RTL_REGISTRY_ABSOLUTE, Key->Buffer, u"ImagePath", REG_EXPAND_SZ,
                                 Path.Buffer, Path.String.MaximumLength);
    for (ULONG Row = 0; Row < ARRAYSIZE(Numbers); Row += 1) {
        ULONG Value = Numbers[Row].Value;
        (VOID) RtlWriteRegistryValue(RTL_REGISTRY_ABSOLUTE, Key->Buffer, Numbers[Row].Name,
                                     REG_DWORD, &Value, sizeof(Value));
    }
}

#define IOP_PARAMETER_CHARACTERS 64

// Copies up to a blank, the end, or Stop; returns how many characters that were.
static ULONG IopCopyWord(PWSTR To, PCSTR From, CHAR Stop)
{
    ULONG Length = 0;
    while (From[Length] != 0 && From[Length] != ' ' && From[Length] != '\t' &&
           From[Length] != Stop && Length + 1 < IOP_PARAMETER_CHARACTERS) {
        To[Length] = (UCHAR)From[Length];
        Length += 1;
    }
    To[Length] = 0;
    return Length;
}

// The boot option SERVICE.NAME=VALUE is the value NAME, a REG_SZ, below the service's Parameters.
static VOID IopDescribeParameters(PCSTR ServiceName)
{
    CHAR Prefix[IOP_SERVICE_NAME_BYTES + 1];
    CHAR Rest[IOP_SERVICE_NAME_BYTES + sizeof(IOP_PARAMETERS)];
    IOP_NAME Path;
    const SIZE_T Length = RtlFormatBuffer(Prefix, sizeof(Prefix), "%s.", ServiceName);
    RtlFormatBuffer(Rest, sizeof(Rest), "%s%s", ServiceName, IOP_PARAMETERS);
    IopMakeName(&Path, IOP_SERVICES_KEY, Rest);
    for (PCSTR Word = KeNextBootOption(NULL, Prefix); Word != NULL;
         Word = KeNextBootOption(Word, Prefix)) {
        WCHAR Name[IOP_PARAMETER_CHARACTERS];
        WCHAR Value[IOP_PARAMETER_CHARACTERS];
        const ULONG NameLength = IopCopyWord(Name, Word + Length, '=');
        if (Word[Length + NameLength] == '=') {
            const ULONG Count = IopCopyWord(Value, Word + Length + NameLength + 1, 0);
            (VOID) RtlWriteRegistryValue(RTL_REGISTRY_ABSOLUTE, Path.Buffer, Name, REG_SZ, Value,
                                         (Count + 1) * (ULONG)sizeof(WCHAR));
        }
    }
}

static VOID IopGiveParameters(PCSTR ServiceName, PCSTR Arguments)
{
    CHAR Path[IOP_SERVICE_NAME_BYTES + sizeof(IOP_PARAMETERS)];
    IOP_NAME Key;
    RtlFormatBuffer(Path, sizeof(Path), "%s%s", ServiceName, IOP_PARAMETERS);
    IopMakeName(&Key, IOP_SERVICES_KEY, Path);
    IopWriteParameters(Key.Buffer, Arguments);
}

VOID IopFindServices(const LOADER_BLOCK *LoaderBlock)
{
    IOP_NAME Key;
    for (ULONG Index = 0; Index < LoaderBlock->ModuleCount; Index += 1) {
        const LOADER_MODULE *Module = &LoaderBlock->Modules[Index];
        if (IopIsDriverFile(Module->Name)) {
            IopAddService(Module);
            // Without memory for it the driver finds no key, which it must be ready for.
            IopMakeName(&Key, IOP_SERVICES_KEY, IopServices[IopServiceCount - 1].Name);
            if (NT_SUCCESS(CmCreateServiceKey(&Key.String))) {
                IopDescribeService(&Key, Module->Name);
                IopGiveParameters(IopServices[IopServiceCount - 1].Name, Module->Arguments);
                IopDescribeParameters(IopServices[IopServiceCount - 1].Name);
            }
        }
    }
}

// The module's file, copied to where it can be read.
static NTSTATUS IopLoadModule(const LOADER_MODULE *Module, PLDR_IMAGE *Image)
{
    MM_COPY_ADDRESS Source;
    SIZE_T Copied = 0;
    PVOID File = Module->ByteCount != 0
                     ? ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED,
                                       Module->ByteCount, IOP_TAG)
                     : NULL;
    if (File == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Source.PhysicalAddress.QuadPart = (LONGLONG)Module->BaseAddress;
    NTSTATUS Status =
        MmCopyMemory(File, Source, Module->ByteCount, MM_COPY_MEMORY_PHYSICAL, &Copied);
    if (NT_SUCCESS(Status)) {
        Status = LdrLoadImage(File, Module->ByteCount, Module->Name, Image);
    }
    ExFreePoolWithTag(File, IOP_TAG);
    return Status;
}

static VOID IopUnloadImage(PIOP_SERVICE Service)
{
    if (Service->Image != NULL) {
        PLDR_IMAGE Image = Service->Image;
        Service->Image = NULL;
        LdrUnloadImage(Image);
    }
}

// After DriverEntry, which need not do it: legacy drivers don't.
static VOID IopFinishInitializing(PDRIVER_OBJECT Driver)
{
    for (PDEVICE_OBJECT Device = Driver->DeviceObject; Device != NULL;
         Device = Device->NextDevice) {
        Device->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    }
}

static VOID IopDescribeCode(PIOP_SERVICE Service)
{
    const PDRIVER_OBJECT Driver = Service->Driver;
    Driver->DriverStart = (PVOID)Service->Image->Base;
    Driver->DriverSize = (ULONG)Service->Image->ByteCount;
    Driver->DriverSection = Service->Image;
    Driver->DriverInit = (PDRIVER_INITIALIZE)Service->Image->EntryPoint;
}

static NTSTATUS IopInitializeService(PIOP_SERVICE Service)
{
    IOP_NAME Name;
    IopMakeName(&Name, "\\Driver\\", Service->Name);
    Service->Driver = IopCreateDriver(&Name.String);
    if (Service->Driver == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    IopDescribeCode(Service);
    if (Service->Driver->DriverInit == NULL) {
        return STATUS_DRIVER_ENTRYPOINT_NOT_FOUND;
    }
    IopMakeName(&Name, IOP_SERVICES_KEY, Service->Name);
    const NTSTATUS Status = Service->Driver->DriverInit(Service->Driver, &Name.String);
    if (NT_SUCCESS(Status)) {
        IopFinishInitializing(Service->Driver);
        LdrDiscardInitSections(Service->Image);
    }
    return Status;
}

PCSTR IopOwnerName(const IOP_SERVICE *Service)
{
    return Service->Image->Name;
}

// Deletes a driver whose devices are gone; the verifier has a look at what it has left behind.
static VOID IopForgetDriver(PIOP_SERVICE Service)
{
    BOOLEAN IsHeld = FALSE;
    if (Service->Driver != NULL) {
        IopReportLeaks(Service);
        IsHeld = OB_HEADER_OF(Service->Driver)->PointerCount > 1;
        IopDeleteDriver(Service->Driver);
        Service->Driver = NULL;
    }
    if (IsHeld) {
        // A device that was deleted and is still referred to may come back into the code.
        DbgPrint("io: driver %s stays in memory, because somebody refers to it\n", Service->Name);
        Service->Image = NULL;
    }
    IopUnloadImage(Service);
}

NTSTATUS IopLoadService(PIOP_SERVICE Service)
{
    if (Service->Driver != NULL) {
        return STATUS_SUCCESS;
    }
    NTSTATUS Status = IopLoadModule(Service->Module, &Service->Image);
    if (NT_SUCCESS(Status)) {
        Status = IopInitializeService(Service);
    }
    Service->IsBroken = !NT_SUCCESS(Status);
    if (!NT_SUCCESS(Status)) {
        DbgPrint("io: driver %s does not start: status 0x%08x\n", Service->Name, Status);
        IopForgetDriver(Service);
    }
    return Status;
}

NTSTATUS IopUnloadService(PIOP_SERVICE Service)
{
    const PDRIVER_OBJECT Driver = Service->Driver;
    if (Driver == NULL) {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    }
    const BOOLEAN IsPnp = Driver->DriverExtension->AddDevice != NULL;
    if ((IsPnp && Driver->DeviceObject != NULL) || Driver->DriverUnload == NULL) {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    Driver->DriverUnload(Driver);
    if (Driver->DeviceObject != NULL) {
        DbgPrint("io: driver %s has left devices behind, and stays in memory with them\n",
                 Service->Name);
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    IopForgetDriver(Service);
    return STATUS_SUCCESS;
}
