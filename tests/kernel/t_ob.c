// Ob: references, names, links, handles.
#include "kernel/inc/ob.h"
#include "tests/kernel/tests.h"

typedef struct _THING {
    PULONG DeleteCount;
} THING, *PTHING;

static VOID DeleteThing(PVOID Object)
{
    *((PTHING)Object)->DeleteCount += 1;
}

static ULONG LastHandleCount;

static VOID CloseLastHandleOfThing(PVOID Object)
{
    UNREFERENCED_PARAMETER(Object);
    LastHandleCount += 1;
}

static OBJECT_TYPE ThingType = {
    .Name = "Thing", .Delete = DeleteThing, .CloseLastHandle = CloseLastHandleOfThing};

static ULONG DeleteCount;

static PTHING MakeThing(VOID)
{
    PTHING Thing = ObAllocateObject(&ThingType, sizeof(*Thing));
    if (Thing != NULL) {
        Thing->DeleteCount = &DeleteCount;
    }
    DeleteCount = 0;
    LastHandleCount = 0;
    return Thing;
}

#define NAME(Variable, Literal) UNICODE_STRING Variable = RTL_CONSTANT_STRING(Literal)

static VOID LastReferenceDeletes(VOID)
{
    PTHING Thing = MakeThing();
    KT_REQUIRE(Thing != NULL);
    KT_EQUAL((ULONG_PTR)Thing % 16, 0);
    KT_EQUAL(ObReferenceObject(Thing), 2);
    KT_EQUAL(ThingType.ObjectCount, 1);
    KT_EQUAL(ObDereferenceObject(Thing), 1);
    KT_EQUAL(DeleteCount, 0);
    KT_EQUAL(ObDereferenceObject(Thing), 0);
    KT_EQUAL(DeleteCount, 1);
    KT_EQUAL(ThingType.ObjectCount, 0);
}

static VOID PointerOfAnotherTypeIsRefused(VOID)
{
    PTHING Thing = MakeThing();
    KT_REQUIRE(Thing != NULL);
    KT_EQUAL(ObReferenceObjectByPointer(Thing, 0, *IoDeviceObjectType, KernelMode),
             STATUS_OBJECT_TYPE_MISMATCH);
    KT_EQUAL(ObReferenceObjectByPointer(Thing, 0, NULL, UserMode), STATUS_OBJECT_TYPE_MISMATCH);
    KT_EQUAL(ObReferenceObjectByPointer(Thing, 0, NULL, KernelMode), STATUS_SUCCESS);
    KT_EQUAL(ObReferenceObjectByPointer(Thing, 0, &ThingType, UserMode), STATUS_SUCCESS);
    ObDereferenceObject(Thing);
    ObDereferenceObject(Thing);
    KT_EQUAL(ObDereferenceObject(Thing), 0);
}

static VOID NamesIgnoreCaseAndGoWithTheirObject(VOID)
{
    PVOID Found;
    NAME(Name, u"\\Device\\KtThing");
    NAME(Loud, u"\\DEVICE\\KTTHING");
    PTHING Thing = MakeThing();
    PTHING Other = MakeThing();
    KT_REQUIRE(Thing != NULL && Other != NULL);
    KT_EQUAL(ObInsertName(Thing, NULL, &Name), STATUS_SUCCESS);
    KT_EQUAL(ObInsertName(Other, NULL, &Loud), STATUS_OBJECT_NAME_COLLISION);
    KT_EQUAL(ObReferenceObjectByName(&Loud, OBJ_CASE_INSENSITIVE, NULL, 0, &ThingType, KernelMode,
                                     NULL, &Found),
             STATUS_SUCCESS);
    KT_EQUAL(Found, Thing);
    ObDereferenceObject(Found);
    KT_EQUAL(
        ObReferenceObjectByName(&Name, 0, NULL, 0, *IoDriverObjectType, KernelMode, NULL, &Found),
        STATUS_OBJECT_TYPE_MISMATCH);
    ObDereferenceObject(Thing);
    KT_EQUAL(DeleteCount, 1);
    KT_EQUAL(ObLookupName(NULL, &Name, ObFollowLinks, &Found, NULL, NULL),
             STATUS_OBJECT_NAME_NOT_FOUND);
    ObDereferenceObject(Other);
}

static VOID WrongNamesAreRefused(VOID)
{
    static const struct {
        UNICODE_STRING Name;
        NTSTATUS Insert;
        NTSTATUS Lookup;
    } Rows[] = {
        {RTL_CONSTANT_STRING(u""), STATUS_OBJECT_NAME_INVALID, STATUS_OBJECT_NAME_INVALID},
        {RTL_CONSTANT_STRING(u"Device"), STATUS_OBJECT_NAME_INVALID, STATUS_OBJECT_NAME_INVALID},
        {RTL_CONSTANT_STRING(u"\\Device\\"), STATUS_OBJECT_NAME_INVALID,
         STATUS_OBJECT_NAME_INVALID},
        {RTL_CONSTANT_STRING(u"\\\\Device"), STATUS_OBJECT_NAME_INVALID,
         STATUS_OBJECT_NAME_INVALID},
        {RTL_CONSTANT_STRING(u"\\Nowhere\\Thing"), STATUS_OBJECT_PATH_NOT_FOUND,
         STATUS_OBJECT_PATH_NOT_FOUND},
        {RTL_CONSTANT_STRING(u"\\Driver\\PCI\\Below"), STATUS_OBJECT_PATH_NOT_FOUND,
         STATUS_OBJECT_PATH_NOT_FOUND},
        {RTL_CONSTANT_STRING(u"\\Device"), STATUS_OBJECT_NAME_COLLISION, STATUS_SUCCESS},
        {RTL_CONSTANT_STRING(u"\\"), STATUS_OBJECT_NAME_INVALID, STATUS_SUCCESS},
    };
    PTHING Thing = MakeThing();
    KT_REQUIRE(Thing != NULL);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        PVOID Found;
        KtSetContext("row %u", Row);
        KT_EQUAL(ObInsertName(Thing, NULL, &Rows[Row].Name), Rows[Row].Insert);
        KT_EQUAL(ObLookupName(NULL, &Rows[Row].Name, ObFollowLinks, &Found, NULL, NULL),
                 Rows[Row].Lookup);
        if (Found != NULL) {
            ObDereferenceObject(Found);
        }
    }
    ObDereferenceObject(Thing);
}

static VOID LinksAreFollowed(VOID)
{
    PVOID Found;
    NAME(Device, u"\\Device\\KtThing");
    NAME(Link, u"\\DosDevices\\KtLink");
    NAME(Short, u"\\??\\ktlink");
    NAME(Global, u"\\??\\Global\\KtLink");
    PTHING Thing = MakeThing();
    KT_REQUIRE(Thing != NULL);
    KT_EQUAL(ObInsertName(Thing, NULL, &Device), STATUS_SUCCESS);
    KT_EQUAL(IoCreateSymbolicLink(&Link, &Device), STATUS_SUCCESS);
    KT_EQUAL(IoCreateSymbolicLink(&Short, &Device), STATUS_OBJECT_NAME_COLLISION);
    KT_EQUAL(ObLookupName(NULL, &Short, ObFollowLinks, &Found, NULL, NULL), STATUS_SUCCESS);
    KT_EQUAL(Found, Thing);
    ObDereferenceObject(Found);
    KT_EQUAL(ObLookupName(NULL, &Global, ObFollowLinks, &Found, NULL, NULL), STATUS_SUCCESS);
    KT_EQUAL(Found, Thing);
    ObDereferenceObject(Found);
    KT_EQUAL(IoDeleteSymbolicLink(&Device), STATUS_OBJECT_TYPE_MISMATCH);
    KT_EQUAL(IoDeleteSymbolicLink(&Short), STATUS_SUCCESS);
    KT_EQUAL(IoDeleteSymbolicLink(&Link), STATUS_OBJECT_NAME_NOT_FOUND);
    ObDereferenceObject(Thing);
}

static VOID LinksInACircleEnd(VOID)
{
    PVOID Found;
    NAME(First, u"\\??\\KtFirst");
    NAME(Second, u"\\??\\KtSecond");
    KT_EQUAL(IoCreateSymbolicLink(&First, &Second), STATUS_SUCCESS);
    KT_EQUAL(IoCreateSymbolicLink(&Second, &First), STATUS_SUCCESS);
    KT_EQUAL(ObLookupName(NULL, &First, ObFollowLinks, &Found, NULL, NULL),
             STATUS_OBJECT_PATH_INVALID);
    KT_EQUAL(ObLookupName(NULL, &First, ObOpenLink, &Found, NULL, NULL), STATUS_SUCCESS);
    ObDereferenceObject(Found);
    KT_EQUAL(IoDeleteSymbolicLink(&First), STATUS_SUCCESS);
    KT_EQUAL(IoDeleteSymbolicLink(&Second), STATUS_SUCCESS);
}

static VOID LinkObjectTellsItsTarget(VOID)
{
    NAME(Name, u"\\??\\KtTarget");
    NAME(Target, u"\\Device\\Anything");
    WCHAR Buffer[32];
    UNICODE_STRING Answer = {0, 4, Buffer};
    ULONG Length;
    HANDLE Handle;
    OBJECT_ATTRIBUTES Attributes;
    KT_EQUAL(IoCreateSymbolicLink(&Name, &Target), STATUS_SUCCESS);
    InitializeObjectAttributes(&Attributes, &Name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL,
                               NULL);
    KT_EQUAL(ZwOpenSymbolicLinkObject(&Handle, GENERIC_READ, &Attributes), STATUS_SUCCESS);
    KT_EQUAL(ZwQuerySymbolicLinkObject(Handle, &Answer, &Length), STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(Length, Target.Length);
    Answer.MaximumLength = sizeof(Buffer);
    KT_EQUAL(ZwQuerySymbolicLinkObject(Handle, &Answer, NULL), STATUS_SUCCESS);
    KT_CHECK(ObNamesEqual(&Answer, &Target));
    KT_EQUAL(ZwClose(Handle), STATUS_SUCCESS);
    KT_EQUAL(IoDeleteSymbolicLink(&Name), STATUS_SUCCESS);
}

static VOID HandlesAreReferences(VOID)
{
    const ULONG Before = ObCountHandles();
    HANDLE First;
    HANDLE Second;
    PVOID Object;
    OBJECT_HANDLE_INFORMATION Information;
    PTHING Thing = MakeThing();
    KT_REQUIRE(Thing != NULL);
    KT_EQUAL(ObOpenObjectByPointer(Thing, OBJ_KERNEL_HANDLE, NULL, GENERIC_READ, &ThingType,
                                   KernelMode, &First),
             STATUS_SUCCESS);
    KT_EQUAL(ObOpenObjectByPointer(Thing, 0, NULL, 0, NULL, KernelMode, &Second), STATUS_SUCCESS);
    KT_CHECK(First != Second && ObIsKernelHandle(First));
    ObDereferenceObject(Thing);
    KT_EQUAL(ObReferenceObjectByHandle(First, 0, &ThingType, KernelMode, &Object, &Information),
             STATUS_SUCCESS);
    KT_EQUAL(Object, Thing);
    KT_EQUAL(Information.GrantedAccess, GENERIC_READ);
    ObDereferenceObject(Object);
    KT_EQUAL(ObReferenceObjectByHandle(First, GENERIC_WRITE, NULL, UserMode, &Object, NULL),
             STATUS_ACCESS_DENIED);
    KT_EQUAL(ObReferenceObjectByHandle(First, 0, *IoDeviceObjectType, KernelMode, &Object, NULL),
             STATUS_OBJECT_TYPE_MISMATCH);
    KT_EQUAL(ZwClose(First), STATUS_SUCCESS);
    KT_EQUAL(LastHandleCount, 0);
    KT_EQUAL(ObReferenceObjectByHandle(First, 0, NULL, KernelMode, &Object, NULL),
             STATUS_INVALID_HANDLE);
    KT_EQUAL(ZwClose(Second), STATUS_SUCCESS);
    KT_EQUAL(LastHandleCount, 1);
    KT_EQUAL(DeleteCount, 1);
    KT_EQUAL(ObCountHandles(), Before);
}

static VOID ManyHandlesFitInTheTable(VOID)
{
    enum { Count = 700 };
    static HANDLE Handles[Count];
    PTHING Thing = MakeThing();
    KT_REQUIRE(Thing != NULL);
    for (ULONG Index = 0; Index < Count; Index += 1) {
        KT_REQUIRE(ObCreateHandle(Thing, 0, 0, &Handles[Index]) == STATUS_SUCCESS);
    }
    ObDereferenceObject(Thing);
    for (ULONG Index = 0; Index < Count; Index += 1) {
        KT_REQUIRE(ZwClose(Handles[Index]) == STATUS_SUCCESS);
    }
    KT_EQUAL(DeleteCount, 1);
}

static VOID NameGoesWithTheLastHandle(VOID)
{
    HANDLE Handle;
    HANDLE Again;
    OBJECT_ATTRIBUTES Attributes;
    NAME(Name, u"\\BaseNamedObjects\\KtDirectory");
    InitializeObjectAttributes(&Attributes, &Name, OBJ_CASE_INSENSITIVE, NULL, NULL);
    KT_EQUAL(ZwCreateDirectoryObject(&Handle, DIRECTORY_ALL_ACCESS, &Attributes), STATUS_SUCCESS);
    KT_EQUAL(ZwCreateDirectoryObject(&Again, DIRECTORY_ALL_ACCESS, &Attributes),
             STATUS_OBJECT_NAME_COLLISION);
    Attributes.Attributes |= OBJ_OPENIF;
    KT_EQUAL(ZwCreateDirectoryObject(&Again, DIRECTORY_ALL_ACCESS, &Attributes),
             STATUS_OBJECT_NAME_EXISTS);
    KT_EQUAL(ZwClose(Again), STATUS_SUCCESS);
    KT_EQUAL(ZwClose(Handle), STATUS_SUCCESS);
    KT_EQUAL(ZwOpenDirectoryObject(&Handle, DIRECTORY_QUERY, &Attributes),
             STATUS_OBJECT_NAME_NOT_FOUND);
}

static VOID PermanentNameStaysUntilItIsMadeTemporary(VOID)
{
    HANDLE Handle;
    OBJECT_ATTRIBUTES Attributes;
    NAME(Name, u"\\BaseNamedObjects\\KtDirectory");
    InitializeObjectAttributes(&Attributes, &Name, OBJ_PERMANENT, NULL, NULL);
    KT_EQUAL(ZwCreateDirectoryObject(&Handle, DIRECTORY_ALL_ACCESS, &Attributes), STATUS_SUCCESS);
    KT_EQUAL(ZwClose(Handle), STATUS_SUCCESS);
    KT_EQUAL(ZwOpenDirectoryObject(&Handle, DIRECTORY_QUERY, &Attributes), STATUS_SUCCESS);
    KT_EQUAL(ZwMakeTemporaryObject(Handle), STATUS_SUCCESS);
    KT_EQUAL(ZwClose(Handle), STATUS_SUCCESS);
    KT_EQUAL(ZwOpenDirectoryObject(&Handle, DIRECTORY_QUERY, &Attributes),
             STATUS_OBJECT_NAME_NOT_FOUND);
}

static VOID RelativeNamesBeginAtADirectory(VOID)
{
    HANDLE Directory;
    HANDLE Inner;
    OBJECT_ATTRIBUTES Attributes;
    PVOID Object;
    UCHAR Buffer[128];
    ULONG Length;
    NAME(Name, u"\\BaseNamedObjects\\KtDirectory");
    NAME(Relative, u"Inner");
    NAME(Full, u"\\BaseNamedObjects\\KtDirectory\\Inner");
    const POBJECT_NAME_INFORMATION Information = (POBJECT_NAME_INFORMATION)(PVOID)Buffer;
    InitializeObjectAttributes(&Attributes, &Name, 0, NULL, NULL);
    KT_EQUAL(ZwCreateDirectoryObject(&Directory, 0, &Attributes), STATUS_SUCCESS);
    InitializeObjectAttributes(&Attributes, &Relative, 0, Directory, NULL);
    KT_EQUAL(ZwCreateDirectoryObject(&Inner, 0, &Attributes), STATUS_SUCCESS);
    KT_EQUAL(ObLookupByAttributes(&Attributes, NULL, &Object), STATUS_SUCCESS);
    KT_EQUAL(ObQueryNameString(Object, NULL, 0, &Length), STATUS_INFO_LENGTH_MISMATCH);
    KT_EQUAL(Length, sizeof(OBJECT_NAME_INFORMATION) + Full.Length + sizeof(WCHAR));
    KT_EQUAL(ObQueryNameString(Object, Information, Length, &Length), STATUS_SUCCESS);
    KT_CHECK(ObNamesEqual(&Information->Name, &Full));
    ObDereferenceObject(Object);
    KT_EQUAL(ZwClose(Inner), STATUS_SUCCESS);
    KT_EQUAL(ZwClose(Directory), STATUS_SUCCESS);
}

//
// Devices and their names.
//

static KT_DRIVER Driver = KT_DRIVER_INITIALIZER(.Type = IO_TYPE_DRIVER);

static VOID DevicesHaveNames(VOID)
{
    PDEVICE_OBJECT Device;
    PDEVICE_OBJECT Second;
    PVOID Found;
    UNICODE_STRING Rest;
    PVOID Buffer;
    NAME(Name, u"\\Device\\KtDevice");
    NAME(File, u"\\Device\\KtDevice\\Part\\One");
    KT_EQUAL(IoCreateDevice(&Driver.Object, 24, &Name, FILE_DEVICE_UNKNOWN, 0, FALSE, &Device),
             STATUS_SUCCESS);
    KT_EQUAL(Device->Flags, DO_DEVICE_INITIALIZING | DO_DEVICE_HAS_NAME);
    KT_EQUAL(IoCreateDevice(&Driver.Object, 24, &Name, FILE_DEVICE_UNKNOWN, 0, FALSE, &Second),
             STATUS_OBJECT_NAME_COLLISION);
    KT_EQUAL(Second, NULL);
    KT_EQUAL(ObLookupName(NULL, &File, ObFollowLinks, &Found, NULL, NULL),
             STATUS_OBJECT_PATH_NOT_FOUND);
    KT_EQUAL(ObLookupName(NULL, &File, ObFollowLinks, &Found, &Rest, &Buffer), STATUS_SUCCESS);
    KT_EQUAL(Found, Device);
    KT_EQUAL(Rest.Length, File.Length - Name.Length);
    KT_EQUAL(Buffer, NULL);
    ObDereferenceObject(Found);
    IoDeleteDevice(Device);
    KT_EQUAL(IoCreateDevice(&Driver.Object, 0, NULL, FILE_DEVICE_UNKNOWN,
                            FILE_AUTOGENERATED_DEVICE_NAME, FALSE, &Device),
             STATUS_SUCCESS);
    KT_EQUAL(ObLastName(Device).Length, 8 * sizeof(WCHAR));
    IoDeleteDevice(Device);
}

static VOID DeletedDeviceStaysWhileItIsReferenced(VOID)
{
    PDEVICE_OBJECT Device;
    PVOID Found;
    NAME(Name, u"\\Device\\KtDevice");
    KT_EQUAL(IoCreateDevice(&Driver.Object, 24, &Name, FILE_DEVICE_UNKNOWN, 0, FALSE, &Device),
             STATUS_SUCCESS);
    ObReferenceObject(Device);
    IoDeleteDevice(Device);
    KT_EQUAL(Driver.Object.DeviceObject, NULL);
    KT_EQUAL(Device->DriverObject, &Driver.Object);
    KT_EQUAL(ObLookupName(NULL, &Name, ObFollowLinks, &Found, NULL, NULL),
             STATUS_OBJECT_NAME_NOT_FOUND);
    KT_EQUAL(ObDereferenceObject(Device), 0);
    KT_EQUAL(Driver.Header.PointerCount, 1);
}

static const KT_TEST Tests[] = {
    {"the last reference that goes deletes the object [24.1]", LastReferenceDeletes},
    {"a pointer to an object of another type is refused [24.2]", PointerOfAnotherTypeIsRefused},
    {"names ignore case, and go with their object [24.3]", NamesIgnoreCaseAndGoWithTheirObject},
    {"wrong names are refused with the status that says why [24.3]", WrongNamesAreRefused},
    {"symbolic links are followed, through other links [24.4]", LinksAreFollowed},
    {"symbolic links in a circle end [24.4]", LinksInACircleEnd},
    {"a symbolic link tells its target", LinkObjectTellsItsTarget},
    {"handles are references with a number [24.5]", HandlesAreReferences},
    {"the table of handles grows and shrinks", ManyHandlesFitInTheTable},
    {"a name goes with the last handle [24.5]", NameGoesWithTheLastHandle},
    {"a permanent name stays until it is made temporary [24.5]",
     PermanentNameStaysUntilItIsMadeTemporary},
    {"relative names begin at a directory, and full names end there",
     RelativeNamesBeginAtADirectory},
    {"devices have names, given or generated", DevicesHaveNames},
    {"a deleted device stays in memory while somebody refers to it [24.1]",
     DeletedDeviceStaysWhileItIsReferenced},
};

const KT_SUITE KtObSuite = {"ob", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
