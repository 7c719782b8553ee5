/*
 * odds.c - the odds and ends that WDM drivers import, used as third parties use them
 *
 * Plain mingw-w64. There is no device: DriverEntry tries everything and returns STATUS_SUCCESS, or
 * 0xE0000000 plus the line of the first thing that was not so.
 */
#include <ntddk.h>
#include <stdarg.h>
#include <stdio.h>
#include <wchar.h>

#define ODDS_TAG 'sddO'
#define EXPECT(Expression)                                                                         \
    if (!(Expression))                                                                             \
    return (NTSTATUS)(0xE0000000 + __LINE__)

/* Not a literal where it is used: gcc knows the formats of C, not those of NT. */
static PCSTR OddsFormat = "%wZ-%ws-%I64x";

static NTSTATUS OddsStrings(void)
{
    WCHAR Buffer[64];
    CHAR Text[32];
    UNICODE_STRING Name, Other;
    ANSI_STRING Ansi;
    GUID Guid;

    Name.Buffer = Buffer;
    Name.Length = 0;
    Name.MaximumLength = sizeof(Buffer);
    EXPECT(NT_SUCCESS(RtlAppendUnicodeToString(&Name, L"\\Device\\")));
    EXPECT(_snwprintf(Buffer + Name.Length / 2, 8, L"Odd%u", 7u) == 4);
    Name.Length += 8;
    RtlInitUnicodeString(&Other, L"\\DEVICE\\odd7");
    EXPECT(RtlEqualUnicodeString(&Name, &Other, TRUE));
    EXPECT(!RtlEqualUnicodeString(&Name, &Other, FALSE));
    EXPECT(_snprintf(Text, sizeof(Text), OddsFormat, &Name, L"w", 0x123456789ll) == 24);
    EXPECT(strcmp(Text, "\\Device\\Odd7-w-123456789") == 0);
    EXPECT(strstr(Text, "Odd") == Text + 8 && wcschr(Buffer, L'O') == Buffer + 8);
    EXPECT(NT_SUCCESS(RtlUnicodeStringToAnsiString(&Ansi, &Name, TRUE)));
    EXPECT(Ansi.Length == 12 && memcmp(Ansi.Buffer, "\\Device\\Odd7", 12) == 0);
    RtlFreeAnsiString(&Ansi);
    RtlInitUnicodeString(&Other, L"{00000001-0002-0003-0405-060708090a0b}");
    EXPECT(NT_SUCCESS(RtlGUIDFromString(&Other, &Guid)));
    EXPECT(Guid.Data1 == 1 && Guid.Data4[7] == 0x0B);
    return STATUS_SUCCESS;
}

static NTSTATUS OddsLists(void)
{
    NPAGED_LOOKASIDE_LIST Lookaside;
    SLIST_HEADER Stack;
    LIST_ENTRY Queue, *Entry;
    KSPIN_LOCK Lock;
    PVOID Block;

    KeInitializeSpinLock(&Lock);
    InitializeListHead(&Queue);
    ExInitializeSListHead(&Stack);
    ExInitializeNPagedLookasideList(&Lookaside, NULL, NULL, POOL_NX_ALLOCATION, 48, ODDS_TAG, 0);
    Block = ExAllocateFromNPagedLookasideList(&Lookaside);
    EXPECT(Block != NULL);
    ExInterlockedInsertTailList(&Queue, (PLIST_ENTRY)Block, &Lock);
    Entry = ExInterlockedRemoveHeadList(&Queue, &Lock);
    EXPECT((PVOID)Entry == Block && IsListEmpty(&Queue));
    ExInterlockedPushEntrySList(&Stack, (PSLIST_ENTRY)Block, &Lock);
    EXPECT(ExQueryDepthSList(&Stack) == 1);
    EXPECT(ExInterlockedPopEntrySList(&Stack, &Lock) == Block);
    ExFreeToNPagedLookasideList(&Lookaside, Block);
    ExDeleteNPagedLookasideList(&Lookaside);
    return STATUS_SUCCESS;
}

static NTSTATUS OddsRegistry(void)
{
    ULONG Value = 5, Read = 0, Default = 9;
    RTL_QUERY_REGISTRY_TABLE Table[2];

    RtlZeroMemory(Table, sizeof(Table));
    Table[0].Flags = RTL_QUERY_REGISTRY_DIRECT;
    Table[0].Name = L"Odd";
    Table[0].EntryContext = &Read;
    Table[0].DefaultType = REG_DWORD;
    Table[0].DefaultData = &Default;
    Table[0].DefaultLength = sizeof(Default);
    EXPECT(NT_SUCCESS(RtlQueryRegistryValues(RTL_REGISTRY_CONTROL, L"Class", Table, NULL, NULL)));
    EXPECT(Read == 9);
    EXPECT(NT_SUCCESS(RtlWriteRegistryValue(RTL_REGISTRY_CONTROL, L"Class", L"Odd", REG_DWORD,
                                            &Value, sizeof(Value))));
    EXPECT(NT_SUCCESS(RtlQueryRegistryValues(RTL_REGISTRY_CONTROL, L"Class", Table, NULL, NULL)));
    EXPECT(Read == 5);
    EXPECT(NT_SUCCESS(RtlDeleteRegistryValue(RTL_REGISTRY_CONTROL, L"Class", L"Odd")));
    return STATUS_SUCCESS;
}

static NTSTATUS OddsLocks(void)
{
    ERESOURCE Resource;
    IO_REMOVE_LOCK RemoveLock;
    EX_RUNDOWN_REF Rundown;
    RTL_OSVERSIONINFOW Version;

    EXPECT(NT_SUCCESS(ExInitializeResourceLite(&Resource)));
    KeEnterCriticalRegion();
    EXPECT(ExAcquireResourceExclusiveLite(&Resource, TRUE));
    EXPECT(ExIsResourceAcquiredExclusiveLite(&Resource));
    ExReleaseResourceLite(&Resource);
    KeLeaveCriticalRegion();
    ExDeleteResourceLite(&Resource);
    IoInitializeRemoveLock(&RemoveLock, ODDS_TAG, 0, 0);
    EXPECT(NT_SUCCESS(IoAcquireRemoveLock(&RemoveLock, &RemoveLock)));
    IoReleaseRemoveLockAndWait(&RemoveLock, &RemoveLock);
    EXPECT(IoAcquireRemoveLock(&RemoveLock, &RemoveLock) == STATUS_DELETE_PENDING);
    ExInitializeRundownProtection(&Rundown);
    EXPECT(ExAcquireRundownProtection(&Rundown));
    ExReleaseRundownProtection(&Rundown);
    ExWaitForRundownProtectionRelease(&Rundown);
    Version.dwOSVersionInfoSize = sizeof(Version);
    EXPECT(NT_SUCCESS(RtlGetVersion(&Version)) && Version.dwMajorVersion >= 6);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
    NTSTATUS Status = OddsStrings();

    UNREFERENCED_PARAMETER(DriverObject);
    UNREFERENCED_PARAMETER(RegistryPath);
    if (NT_SUCCESS(Status))
        Status = OddsLists();
    if (NT_SUCCESS(Status))
        Status = OddsRegistry();
    if (NT_SUCCESS(Status))
        Status = OddsLocks();
    DbgPrintEx(DPFLTR_IHVDRIVER_ID, DPFLTR_INFO_LEVEL, "# odds: 0x%08x\n", Status);
    return Status;
}
