// Resources, rundown protection and callback objects.
#include <exlockddk.h>
#include <rtlddk.h>

#include "kernel/inc/ke.h"
#include "tests/kernel/tests.h"

static VOID Sleep(ULONG Milliseconds)
{
    LARGE_INTEGER Interval = {.QuadPart = -(LONG64)Milliseconds * 10000};
    KeDelayExecutionThread(KernelMode, FALSE, &Interval);
}

static PVOID StartThread(PKSTART_ROUTINE Routine, PVOID Context)
{
    HANDLE Handle;
    PVOID Thread = NULL;
    if (NT_SUCCESS(PsCreateSystemThread(&Handle, 0, NULL, NULL, NULL, Routine, Context))) {
        (VOID) ObReferenceObjectByHandle(Handle, 0, NULL, KernelMode, &Thread, NULL);
        ZwClose(Handle);
    }
    return Thread;
}

static VOID JoinThread(PVOID Thread)
{
    KeWaitForSingleObject(Thread, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(Thread);
}

static ERESOURCE KtResource;
static volatile LONG KtReaders, KtMostReaders, KtOrder;

static VOID ResourcesAreRecursive(VOID)
{
    ERESOURCE Resource;
    KT_EQUAL(ExInitializeResourceLite(&Resource), STATUS_SUCCESS);
    KT_CHECK(ExAcquireResourceExclusiveLite(&Resource, FALSE));
    KT_CHECK(ExAcquireResourceExclusiveLite(&Resource, FALSE));
    KT_CHECK(ExAcquireResourceSharedLite(&Resource, FALSE));
    KT_CHECK(ExIsResourceAcquiredExclusiveLite(&Resource));
    KT_EQUAL(ExIsResourceAcquiredSharedLite(&Resource), 3);
    ExReleaseResourceLite(&Resource);
    ExReleaseResourceLite(&Resource);
    ExConvertExclusiveToSharedLite(&Resource);
    KT_CHECK(!ExIsResourceAcquiredExclusiveLite(&Resource));
    KT_EQUAL(ExIsResourceAcquiredSharedLite(&Resource), 1);
    KT_CHECK(!ExAcquireResourceExclusiveLite(&Resource, FALSE)); // a reader is no writer
    ExReleaseResourceLite(&Resource);
    KT_EQUAL(ExIsResourceAcquiredSharedLite(&Resource), 0);
    ExEnterCriticalRegionAndAcquireResourceExclusive(&Resource);
    KT_CHECK(KeAreApcsDisabled());
    ExSetResourceOwnerPointer(&Resource, (PVOID)0x1003);
    KT_EQUAL(ExIsResourceAcquiredSharedLite(&Resource), 0);
    ExReleaseResourceForThreadLite(&Resource, 0x1003);
    KeLeaveCriticalRegion();
    KT_EQUAL(ExDeleteResourceLite(&Resource), STATUS_SUCCESS);
}

static VOID NTAPI Read(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    ExEnterCriticalRegionAndAcquireResourceShared(&KtResource);
    const LONG Count = __atomic_add_fetch(&KtReaders, 1, __ATOMIC_SEQ_CST);
    KtMostReaders = Count > KtMostReaders ? Count : KtMostReaders;
    Sleep(20);
    __atomic_sub_fetch(&KtReaders, 1, __ATOMIC_SEQ_CST);
    ExReleaseResourceAndLeaveCriticalRegion(&KtResource);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static VOID ReadersRunSideBySide(VOID)
{
    PVOID Threads[7];
    KtReaders = KtMostReaders = 0;
    ExInitializeResourceLite(&KtResource);
    ExEnterCriticalRegionAndAcquireResourceExclusive(&KtResource);
    for (ULONG Index = 0; Index < ARRAYSIZE(Threads); Index += 1) {
        Threads[Index] = StartThread(Read, NULL);
        KT_REQUIRE(Threads[Index] != NULL);
    }
    Sleep(10);
    KT_EQUAL(KtReaders, 0);
    KT_EQUAL(ExGetSharedWaiterCount(&KtResource), ARRAYSIZE(Threads));
    ExReleaseResourceAndLeaveCriticalRegion(&KtResource);
    for (ULONG Index = 0; Index < ARRAYSIZE(Threads); Index += 1) {
        JoinThread(Threads[Index]);
    }
    KT_CHECK(KtMostReaders > 1);
    KT_EQUAL(KtResource.ActiveCount, 0);
    ExDeleteResourceLite(&KtResource);
}

static VOID NTAPI Write(PVOID Context)
{
    ExEnterCriticalRegionAndAcquireResourceExclusive(&KtResource);
    *(volatile LONG *)Context = __atomic_add_fetch(&KtOrder, 1, __ATOMIC_SEQ_CST);
    ExReleaseResourceAndLeaveCriticalRegion(&KtResource);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static VOID WaitingWritersKeepReadersOut(VOID)
{
    volatile LONG Place = 0;
    KtOrder = 0;
    ExInitializeResourceLite(&KtResource);
    ExEnterCriticalRegionAndAcquireResourceShared(&KtResource);
    PVOID Thread = StartThread(Write, (PVOID)&Place);
    KT_REQUIRE(Thread != NULL);
    Sleep(10);
    KT_EQUAL(ExGetExclusiveWaiterCount(&KtResource), 1);
    KT_EQUAL(Place, 0);
    KT_CHECK(ExAcquireResourceSharedLite(&KtResource, FALSE)); // this thread reads already
    ExReleaseResourceLite(&KtResource);
    ExReleaseResourceAndLeaveCriticalRegion(&KtResource);
    JoinThread(Thread);
    KT_EQUAL(Place, 1);
    ExDeleteResourceLite(&KtResource);
}

static EX_RUNDOWN_REF KtRundown;
static volatile BOOLEAN KtGone;

static VOID NTAPI Leave(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    Sleep(20);
    KtGone = TRUE;
    ExReleaseRundownProtection(&KtRundown);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static VOID RundownWaitsForAllUsers(VOID)
{
    KtGone = FALSE;
    ExInitializeRundownProtection(&KtRundown);
    KT_CHECK(ExAcquireRundownProtection(&KtRundown));
    KT_CHECK(ExAcquireRundownProtectionEx(&KtRundown, 2));
    KT_EQUAL(KtRundown.Count, 6);
    ExReleaseRundownProtectionEx(&KtRundown, 2);
    PVOID Thread = StartThread(Leave, NULL);
    KT_REQUIRE(Thread != NULL);
    ExWaitForRundownProtectionRelease(&KtRundown);
    KT_CHECK(KtGone);
    KT_CHECK(!ExAcquireRundownProtection(&KtRundown));
    JoinThread(Thread);
    ExWaitForRundownProtectionRelease(&KtRundown); // at once
    ExReInitializeRundownProtection(&KtRundown);
    KT_CHECK(ExAcquireRundownProtection(&KtRundown));
    ExReleaseRundownProtection(&KtRundown);
}

static ULONG KtSum;

static VOID NTAPI AddUp(PVOID CallbackContext, PVOID Argument1, PVOID Argument2)
{
    KtSum = KtSum * 10 + (ULONG)(ULONG_PTR)CallbackContext;
    KT_EQUAL(Argument1, (PVOID)7);
    KT_EQUAL(Argument2, NULL);
}

static VOID CallbacksAreCalledInOrder(VOID)
{
    UNICODE_STRING Name = RTL_CONSTANT_STRING(u"\\Callback\\KtTest");
    OBJECT_ATTRIBUTES Attributes;
    PCALLBACK_OBJECT Object, Again;
    InitializeObjectAttributes(&Attributes, &Name, OBJ_CASE_INSENSITIVE, NULL, NULL);
    KT_EQUAL(ExCreateCallback(&Object, &Attributes, FALSE, TRUE), STATUS_OBJECT_NAME_NOT_FOUND);
    KT_REQUIRE(NT_SUCCESS(ExCreateCallback(&Object, &Attributes, TRUE, TRUE)));
    KT_EQUAL(ExCreateCallback(&Again, &Attributes, FALSE, FALSE), STATUS_SUCCESS);
    KT_EQUAL(Again, Object);
    PVOID First = ExRegisterCallback(Object, AddUp, (PVOID)1);
    PVOID Second = ExRegisterCallback(Again, AddUp, (PVOID)2);
    KT_REQUIRE(First != NULL && Second != NULL);
    KtSum = 0;
    ExNotifyCallback(Object, (PVOID)7, NULL);
    KT_EQUAL(KtSum, 12);
    ExUnregisterCallback(First);
    KtSum = 0;
    ExNotifyCallback(Object, (PVOID)7, NULL);
    KT_EQUAL(KtSum, 2);
    ExUnregisterCallback(Second);
    ObDereferenceObject(Again);
    ObDereferenceObject(Object);
    KT_EQUAL(ExCreateCallback(&Object, &Attributes, FALSE, TRUE), STATUS_OBJECT_NAME_NOT_FOUND);
    KT_REQUIRE(NT_SUCCESS(ExCreateCallback(&Object, NULL, TRUE, FALSE)));
    First = ExRegisterCallback(Object, AddUp, NULL);
    KT_EQUAL(ExRegisterCallback(Object, AddUp, NULL), NULL); // it takes one
    ExUnregisterCallback(First);
    ObDereferenceObject(Object);
    RtlInitUnicodeString(&Name, u"\\Callback\\PowerState");
    KT_EQUAL(ExCreateCallback(&Object, &Attributes, FALSE, TRUE), STATUS_SUCCESS);
    ObDereferenceObject(Object);
}

static const KT_TEST Tests[] = {
    {"Resources are recursive", ResourcesAreRecursive},
    {"Readers of a resource run side by side", ReadersRunSideBySide},
    {"Waiting writers of a resource get it", WaitingWritersKeepReadersOut},
    {"Rundown waits for all users", RundownWaitsForAllUsers},
    {"Callbacks are called in order", CallbacksAreCalledInOrder},
};

const KT_SUITE KtExLockSuite = {"exlock", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
