// The registry: keys, values, and Rtl's short ways to them.
#include <cmddk.h>
#include <rtlddk.h>

#include "kernel/inc/cm.h"
#include "kernel/inc/ke.h"
#include "tests/kernel/tests.h"

#define KT_KEY u"\\Registry\\Machine\\Software\\Test"

static NTSTATUS Open(HANDLE Root, PCWSTR Path, BOOLEAN Creates, PHANDLE Key)
{
    UNICODE_STRING Name;
    OBJECT_ATTRIBUTES Attributes;
    RtlInitUnicodeString(&Name, Path);
    InitializeObjectAttributes(&Attributes, &Name, OBJ_KERNEL_HANDLE, Root, NULL);
    return Creates ? ZwCreateKey(Key, 0, &Attributes, 0, NULL, 0, NULL)
                   : ZwOpenKey(Key, 0, &Attributes);
}

static VOID Delete(HANDLE Key)
{
    KT_EQUAL(ZwDeleteKey(Key), STATUS_SUCCESS);
    ZwClose(Key);
}

static NTSTATUS Set(HANDLE Key, PCWSTR ValueName, ULONG Type, const VOID *Data, ULONG ByteCount)
{
    UNICODE_STRING Name;
    RtlInitUnicodeString(&Name, ValueName);
    return ZwSetValueKey(Key, &Name, 0, Type, (PVOID)(ULONG_PTR)Data, ByteCount);
}

static VOID KeysAreMadeOpenedAndDeleted(VOID)
{
    HANDLE Key, SubKey, Again;
    KT_EQUAL(Open(NULL, KT_KEY, FALSE, &Key), STATUS_OBJECT_NAME_NOT_FOUND);
    KT_EQUAL(Open(NULL, KT_KEY u"\\Sub", TRUE, &Key), STATUS_OBJECT_NAME_NOT_FOUND);
    KT_EQUAL(Open(NULL, u"\\Device\\Foo", FALSE, &Key), STATUS_OBJECT_PATH_SYNTAX_BAD);
    KT_EQUAL(Open(NULL, u"Registry", FALSE, &Key), STATUS_OBJECT_PATH_SYNTAX_BAD);
    KT_REQUIRE(NT_SUCCESS(Open(NULL, KT_KEY, TRUE, &Key)));
    KT_REQUIRE(NT_SUCCESS(Open(Key, u"Sub", TRUE, &SubKey)));
    KT_EQUAL(Open(NULL, u"\\registry\\machine\\SOFTWARE\\test\\SUB", FALSE, &Again),
             STATUS_SUCCESS);
    KT_EQUAL(Open(Key, u"\\Sub", FALSE, &Again) == STATUS_SUCCESS, FALSE);
    KT_EQUAL(ZwDeleteKey(Key), STATUS_CANNOT_DELETE);
    KT_EQUAL(ZwFlushKey(Key), STATUS_SUCCESS);
    Delete(SubKey);
    KT_EQUAL(ZwDeleteKey(Again), STATUS_KEY_DELETED);
    KT_EQUAL(Set(Again, u"x", REG_SZ, u"y", 4), STATUS_KEY_DELETED);
    ZwClose(Again);
    KT_EQUAL(Open(Key, u"Sub", FALSE, &Again), STATUS_OBJECT_NAME_NOT_FOUND);
    Delete(Key);
    KT_EQUAL(ZwDeleteKey(NULL), STATUS_INVALID_HANDLE);
}

static VOID ValuesAreSetAndRead(VOID)
{
    HANDLE Key;
    KT_REQUIRE(NT_SUCCESS(Open(NULL, KT_KEY, TRUE, &Key)));
    const ULONG Number = 0x12345678;
    UNICODE_STRING Name = RTL_CONSTANT_STRING(u"number");
    union {
        KEY_VALUE_PARTIAL_INFORMATION Partial;
        KEY_VALUE_FULL_INFORMATION Full;
        KEY_VALUE_BASIC_INFORMATION Basic;
        UCHAR Bytes[64];
    } It;
    ULONG Length;
    KT_EQUAL(Set(Key, u"Number", REG_DWORD, &Number, 4), STATUS_SUCCESS);
    KT_EQUAL(ZwQueryValueKey(Key, &Name, KeyValuePartialInformation, &It, sizeof(It), &Length),
             STATUS_SUCCESS);
    KT_EQUAL(Length, 16);
    KT_CHECK(It.Partial.Type == REG_DWORD && It.Partial.DataLength == 4 &&
             RtlEqualMemory(It.Partial.Data, &Number, 4));
    KT_EQUAL(ZwQueryValueKey(Key, &Name, KeyValuePartialInformation, &It, 8, &Length),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(ZwQueryValueKey(Key, &Name, KeyValuePartialInformation, NULL, 0, &Length),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(Length, 16);
    KT_EQUAL(ZwQueryValueKey(Key, &Name, KeyValuePartialInformation, &It, 14, &Length),
             STATUS_BUFFER_OVERFLOW);
    KT_EQUAL(ZwQueryValueKey(Key, &Name, KeyValueFullInformation, &It, sizeof(It), &Length),
             STATUS_SUCCESS);
    KT_CHECK(It.Full.NameLength == 12 && It.Full.Name[0] == 'N' &&
             *(PULONG)&It.Bytes[It.Full.DataOffset] == Number);
    KT_EQUAL(ZwQueryValueKey(Key, &Name, (KEY_VALUE_INFORMATION_CLASS)99, &It, 64, &Length),
             STATUS_INVALID_PARAMETER);
    KT_EQUAL(Set(Key, u"NUMBER", REG_SZ, u"", 2), STATUS_SUCCESS); // replaces it
    KT_EQUAL(ZwEnumerateValueKey(Key, 0, KeyValueBasicInformation, &It, sizeof(It), &Length),
             STATUS_SUCCESS);
    KT_EQUAL(It.Basic.Type, REG_SZ);
    KT_EQUAL(ZwEnumerateValueKey(Key, 1, KeyValueBasicInformation, &It, sizeof(It), &Length),
             STATUS_NO_MORE_ENTRIES);
    KT_EQUAL(ZwDeleteValueKey(Key, &Name), STATUS_SUCCESS);
    KT_EQUAL(ZwDeleteValueKey(Key, &Name), STATUS_OBJECT_NAME_NOT_FOUND);
    Delete(Key);
}

static VOID KeysTellOfThemselves(VOID)
{
    HANDLE Key, SubKey;
    KT_REQUIRE(NT_SUCCESS(Open(NULL, KT_KEY, TRUE, &Key)));
    KT_REQUIRE(NT_SUCCESS(Open(Key, u"SubKey", TRUE, &SubKey)));
    KT_EQUAL(Set(Key, u"Value", REG_BINARY, "12345", 5), STATUS_SUCCESS);
    union {
        KEY_FULL_INFORMATION Full;
        KEY_BASIC_INFORMATION Basic;
        KEY_NAME_INFORMATION Name;
        UCHAR Bytes[256];
    } It;
    ULONG Length;
    KT_EQUAL(ZwQueryKey(Key, KeyFullInformation, &It, sizeof(It), &Length), STATUS_SUCCESS);
    KT_CHECK(It.Full.SubKeys == 1 && It.Full.Values == 1 && It.Full.MaxNameLen == 12 &&
             It.Full.MaxValueNameLen == 10 && It.Full.MaxValueDataLen == 5);
    KT_EQUAL(ZwEnumerateKey(Key, 0, KeyBasicInformation, &It, sizeof(It), &Length), STATUS_SUCCESS);
    KT_CHECK(It.Basic.NameLength == 12 && It.Basic.Name[3] == 'K');
    KT_EQUAL(ZwEnumerateKey(Key, 1, KeyBasicInformation, &It, sizeof(It), &Length),
             STATUS_NO_MORE_ENTRIES);
    KT_EQUAL(ZwQueryKey(SubKey, KeyNameInformation, &It, sizeof(It), &Length), STATUS_SUCCESS);
    KT_EQUAL(It.Name.NameLength, sizeof(KT_KEY u"\\SubKey") - 2);
    KT_CHECK(RtlEqualMemory(It.Name.Name, KT_KEY u"\\SubKey", It.Name.NameLength));
    Delete(SubKey);
    Delete(Key);
}

static ULONG KtCalls;

static NTSTATUS NTAPI CountCalls(PWSTR ValueName, ULONG ValueType, PVOID ValueData,
                                 ULONG ValueLength, PVOID Context, PVOID EntryContext)
{
    UNREFERENCED_PARAMETER(ValueName);
    UNREFERENCED_PARAMETER(ValueData);
    KT_EQUAL(Context, (PVOID)7);
    KtCalls += 1;
    if (EntryContext != NULL) {
        KT_EQUAL(ValueType, REG_SZ);
        KT_EQUAL(ValueLength, 4);
    }
    return STATUS_SUCCESS;
}

static VOID TablesAreFilled(VOID)
{
    HANDLE Key;
    const ULONG Number = 42;
    ULONG Read = 0, Missing = 0, Default = 99;
    WCHAR Buffer[8];
    UNICODE_STRING Text = {0, sizeof(Buffer), Buffer}, Allocated = {0, 0, NULL};
    KT_REQUIRE(NT_SUCCESS(Open(NULL, KT_KEY, TRUE, &Key)));
    Set(Key, u"Number", REG_DWORD, &Number, 4);
    Set(Key, u"Text", REG_SZ, u"hello", 12);
    Set(Key, u"List", REG_MULTI_SZ, u"a\0b\0", 10);
    RTL_QUERY_REGISTRY_TABLE Table[] = {
        {NULL, RTL_QUERY_REGISTRY_DIRECT, u"Number", &Read, REG_DWORD, &Default, 4},
        {NULL, RTL_QUERY_REGISTRY_DIRECT, u"Missing", &Missing, REG_DWORD, &Default, 4},
        {NULL, RTL_QUERY_REGISTRY_DIRECT, u"Text", &Text, REG_NONE, NULL, 0},
        {NULL, RTL_QUERY_REGISTRY_DIRECT, u"Text", &Allocated, REG_NONE, NULL, 0},
        {CountCalls, 0, u"List", (PVOID)1, REG_NONE, NULL, 0},
        {CountCalls, RTL_QUERY_REGISTRY_NOEXPAND, NULL, NULL, REG_NONE, NULL, 0},
        {NULL, 0, NULL, NULL, REG_NONE, NULL, 0},
    };
    KtCalls = 0;
    KT_EQUAL(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, KT_KEY, Table, (PVOID)7, NULL),
             STATUS_SUCCESS);
    KT_EQUAL(Read, 42);
    KT_EQUAL(Missing, 99);
    KT_CHECK(Text.Length == 10 && RtlEqualMemory(Buffer, u"hello", 12));
    KT_CHECK(Allocated.Length == 10 && Allocated.Buffer != NULL);
    KT_EQUAL(KtCalls, 2 + 3);
    RtlFreeUnicodeString(&Allocated);
    Table[1].Flags |= RTL_QUERY_REGISTRY_REQUIRED;
    KT_EQUAL(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, KT_KEY, Table, (PVOID)7, NULL),
             STATUS_OBJECT_NAME_NOT_FOUND);
    Text.MaximumLength = 4;
    KT_EQUAL(RtlQueryRegistryValues(RTL_REGISTRY_HANDLE, (PCWSTR)Key, &Table[2], (PVOID)7, NULL),
             STATUS_BUFFER_TOO_SMALL);
    Delete(Key);
}

static VOID ServicesHaveParameters(VOID)
{
    UNICODE_STRING Path =
        RTL_CONSTANT_STRING(u"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\KtTest");
    const ULONG Number = 7;
    ULONG Read = 0;
    HANDLE Key;
    KT_EQUAL(CmCreateServiceKey(&Path), STATUS_SUCCESS);
    KT_EQUAL(CmCreateServiceKey(&Path), STATUS_SUCCESS);
    KT_EQUAL(RtlWriteRegistryValue(RTL_REGISTRY_SERVICES, u"KtTest\\Parameters", u"Number",
                                   REG_DWORD, (PVOID)&Number, 4),
             STATUS_SUCCESS);
    RTL_QUERY_REGISTRY_TABLE Table[] = {
        {NULL, RTL_QUERY_REGISTRY_SUBKEY, u"Parameters", NULL, REG_NONE, NULL, 0},
        {NULL, RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_REQUIRED, u"Number", &Read, REG_NONE,
         NULL, 0},
        {NULL, 0, NULL, NULL, REG_NONE, NULL, 0},
    };
    KT_EQUAL(RtlQueryRegistryValues(RTL_REGISTRY_SERVICES, u"KtTest", Table, NULL, NULL),
             STATUS_SUCCESS);
    KT_EQUAL(Read, 7);
    KT_EQUAL(RtlDeleteRegistryValue(RTL_REGISTRY_SERVICES, u"KtTest\\Parameters", u"Number"),
             STATUS_SUCCESS);
    KT_EQUAL(RtlCheckRegistryKey(RTL_REGISTRY_SERVICES, (PWSTR)u"KtTest"), STATUS_SUCCESS);
    KT_EQUAL(RtlCheckRegistryKey(RTL_REGISTRY_CONTROL, (PWSTR)u"KtTest"),
             STATUS_OBJECT_NAME_NOT_FOUND);
    KT_REQUIRE(NT_SUCCESS(Open(NULL,
                               u"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\"
                               u"KtTest\\Parameters",
                               FALSE, &Key)));
    Delete(Key);
    KT_REQUIRE(NT_SUCCESS(Open(
        NULL, u"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\KtTest", FALSE, &Key)));
    Delete(Key);
}

// As a driver finds it when it starts.
static VOID ServicesSayWhatTheyAre(VOID)
{
    UNICODE_STRING ImagePath = {0};
    UNICODE_STRING Expected = RTL_CONSTANT_STRING(u"\\SystemRoot\\System32\\drivers\\hello.sys");
    ULONG Type = 0;
    ULONG Start = 0;
    RTL_QUERY_REGISTRY_TABLE Table[] = {
        {NULL, RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_REQUIRED, u"ImagePath", &ImagePath,
         REG_NONE, NULL, 0},
        {NULL, RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_REQUIRED, u"Type", &Type, REG_NONE,
         NULL, 0},
        {NULL, RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_REQUIRED, u"Start", &Start, REG_NONE,
         NULL, 0},
        {NULL, 0, NULL, NULL, REG_NONE, NULL, 0},
    };
    if (RtlCheckRegistryKey(RTL_REGISTRY_SERVICES, (PWSTR)u"hello") != STATUS_SUCCESS) {
        KtSkip("this boot has no hello.sys");
        return;
    }
    KT_EQUAL(RtlQueryRegistryValues(RTL_REGISTRY_SERVICES, u"hello", Table, NULL, NULL),
             STATUS_SUCCESS);
    KT_CHECK(RtlEqualUnicodeString(&ImagePath, &Expected, FALSE));
    KT_EQUAL(Type, 1);
    KT_EQUAL(Start, 3);
    RtlFreeUnicodeString(&ImagePath);
}

static VOID InfFilesGiveParameters(VOID)
{
    static const ULONG Depth = 0x80;
    static const UCHAR Bytes[] = {0x00, 0x7F, 0xFF};
    static const struct {
        PCWSTR Name;
        ULONG Type;
        const VOID *Data;
        ULONG ByteCount;
    } Rows[] = {
        {u"Depth", REG_DWORD, &Depth, sizeof(Depth)},
        {u"A name", REG_SZ, u"50% off, today", sizeof(u"50% off, today")},
        {u"Path", REG_EXPAND_SZ, u"%SystemRoot%\\x", sizeof(u"%SystemRoot%\\x")},
        {u"Parts", REG_MULTI_SZ, u"one\0two 2\0", sizeof(u"one\0two 2\0")},
        {u"Bytes", REG_BINARY, Bytes, sizeof(Bytes)},
    };
    HANDLE Key;
    if (!NT_SUCCESS(Open(
            NULL, u"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\ktchild\\Parameters",
            FALSE, &Key))) {
        KT_SKIP("the tests' drivers are not here");
    }
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        DECLSPEC_ALIGN(8) UCHAR Buffer[128];
        const PKEY_VALUE_PARTIAL_INFORMATION Value = (PKEY_VALUE_PARTIAL_INFORMATION)Buffer;
        UNICODE_STRING Name;
        ULONG ByteCount;
        KtSetContext("row %u", Row);
        RtlInitUnicodeString(&Name, Rows[Row].Name);
        if (!KT_EQUAL(ZwQueryValueKey(Key, &Name, KeyValuePartialInformation, Buffer,
                                      sizeof(Buffer), &ByteCount),
                      STATUS_SUCCESS)) {
            continue;
        }
        KT_EQUAL(Value->Type, Rows[Row].Type);
        KT_EQUAL(Value->DataLength, Rows[Row].ByteCount);
        KT_EQUAL(RtlCompareMemory(Value->Data, Rows[Row].Data, Rows[Row].ByteCount),
                 Rows[Row].ByteCount);
    }
    ZwClose(Key);
}

static const KT_TEST Tests[] = {
    {"Keys are made, opened and deleted", KeysAreMadeOpenedAndDeleted},
    {"Values are set and read", ValuesAreSetAndRead},
    {"Keys tell of themselves", KeysTellOfThemselves},
    {"Tables of values are filled", TablesAreFilled},
    {"Services have parameters", ServicesHaveParameters},
    {"Services say where their image is, and how it starts", ServicesSayWhatTheyAre},
    {"What a driver's INF adds to the registry is there before the driver", InfFilesGiveParameters},
};

const KT_SUITE KtRegistrySuite = {"registry", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
