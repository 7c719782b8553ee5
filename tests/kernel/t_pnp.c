// PnP: drivers loaded by name, devices started, stopped, removed and torn out; what is known of them.
// The driver is tests/drivers/stranger, which knows nothing of this kernel.
#include "kernel/inc/io.h"
#include "kernel/inc/ob.h"
#include "tests/kernel/tests.h"

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

// ------------------------------------------------------------------------------------------------
// A bus driver and its children: tests/drivers/ktbus and ktchild.

#define PLUG CTL_CODE(FILE_DEVICE_BUS_EXTENDER, 0x801, METHOD_BUFFERED, FILE_ANY_ACCESS)
#define UNPLUG CTL_CODE(FILE_DEVICE_BUS_EXTENDER, 0x802, METHOD_BUFFERED, FILE_ANY_ACCESS)

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

static NTSTATUS TellBus(ULONG IoControlCode, ULONG Number)
{
    NAME(Name, u"\\Device\\KtBus");
    OBJECT_ATTRIBUTES Attributes;
    IO_STATUS_BLOCK StatusBlock;
    HANDLE Handle;
    InitializeObjectAttributes(&Attributes, &Name, 0, NULL, NULL);
    NTSTATUS Status = ZwOpenFile(&Handle, GENERIC_WRITE, &Attributes, &StatusBlock, 0,
                                 FILE_SYNCHRONOUS_IO_NONALERT);
    if (NT_SUCCESS(Status)) {
        Status = ZwDeviceIoControlFile(Handle, NULL, NULL, NULL, &StatusBlock, IoControlCode,
                                       &Number, sizeof(Number), NULL, 0);
        ZwClose(Handle);
    }
    return Status;
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
    KT_EQUAL(TellBus(PLUG, 2), STATUS_SUCCESS);
    KT_CHECK(Becomes(&Second, TRUE));
    KT_EQUAL(TellBus(UNPLUG, 0), STATUS_SUCCESS);
    KT_CHECK(Becomes(&First, FALSE));
    KT_CHECK(IsThere(&Second));
    KT_EQUAL(TellBus(PLUG, 0), STATUS_SUCCESS);
    KT_CHECK(Becomes(&Third, TRUE));
    KT_EQUAL(IoUnloadDriver("ktbus"), STATUS_SUCCESS);
    KT_CHECK(!IsThere(&Second) && !IsThere(&Third));
    KT_EQUAL(IoUnloadDriver("ktchild"), STATUS_SUCCESS);
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
    {"PCI functions say who they are [11.4.6]", PciFunctionsSayWhoTheyAre},
};

const KT_SUITE KtPnpSuite = {"pnp", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
