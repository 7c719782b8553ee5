// Runs the examples of docs/api.
#include "tests/examples/examples.h"
#include "tests/kernel/tests.h"

// A buffer in nonpaged pool of bytes 0, 1, 2 ... 255, 0, ...
static PUCHAR AllocateBuffer(ULONG ByteCount)
{
    const PUCHAR Buffer = ExAllocatePool2(POOL_FLAG_NON_PAGED, ByteCount, KT_TAG);
    for (ULONG Index = 0; Buffer != NULL && Index < ByteCount; Index += 1) {
        Buffer[Index] = (UCHAR)Index;
    }
    return Buffer;
}

static ULONG SumOf(const UCHAR *Bytes, ULONG ByteCount)
{
    ULONG Sum = 0;
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        Sum += Bytes[Index];
    }
    return Sum;
}

static VOID ReadingARegister(VOID)
{
    ULONG Version = 0;
    KT_EQUAL(ExampleReadVersion(KtPhysical(KT_APIC_BASE), &Version), STATUS_SUCCESS);
    const PUCHAR Apic = MmMapIoSpace(KtPhysical(KT_APIC_BASE), PAGE_SIZE, MmNonCached);
    KT_REQUIRE(Apic != NULL);
    KT_EQUAL(Version, READ_REGISTER_ULONG((PULONG)(Apic + KT_APIC_VERSION)));
    MmUnmapIoSpace(Apic, PAGE_SIZE);
}

static VOID FillingAFrame(VOID)
{
    const ULONG64 Frame = KtFindDeviceMemory();
    if (Frame == 0) {
        KT_SKIP("this machine has no device memory");
    }
    KT_EQUAL(ExampleFillFrame(KtPhysical(Frame), 2 * PAGE_SIZE, 0x00FF8040), STATUS_SUCCESS);
    const PULONG Pixels = MmMapIoSpace(KtPhysical(Frame), 2 * PAGE_SIZE, MmNonCached);
    KT_REQUIRE(Pixels != NULL);
    KT_EQUAL(READ_REGISTER_ULONG(&Pixels[0]), 0x00FF8040);
    KT_EQUAL(READ_REGISTER_ULONG(&Pixels[2 * PAGE_SIZE / sizeof(ULONG) - 1]), 0x00FF8040);
    MmUnmapIoSpace(Pixels, 2 * PAGE_SIZE);
}

static VOID DescribingABuffer(VOID)
{
    const ULONG ByteCount = 3 * PAGE_SIZE + 100;
    const PUCHAR Buffer = AllocateBuffer(PAGE_SIZE + ByteCount);
    KT_REQUIRE(Buffer != NULL);
    EXAMPLE_FRAGMENT Fragments[5];
    const ULONG Count = ExampleDescribe(Buffer + 200, ByteCount, Fragments, ARRAYSIZE(Fragments));
    KT_CHECK(Count >= 1 && Count <= 4);
    ULONG Described = 0;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        KT_EQUAL(Fragments[Index].Address.QuadPart, KtPhysicalOf(Buffer + 200 + Described));
        Described += Fragments[Index].ByteCount;
    }
    KT_EQUAL(Described, ByteCount);
    KT_EQUAL(ExampleDescribe(Buffer, ByteCount, Fragments, 0), 0);
    ExFreePool(Buffer);
}

static VOID SummingInParts(VOID)
{
    const ULONG ByteCount = 4 * PAGE_SIZE;
    const PUCHAR Buffer = AllocateBuffer(ByteCount);
    KT_REQUIRE(Buffer != NULL);
    PMDL Mdl;
    KT_REQUIRE(NT_SUCCESS(ExampleLockBuffer(Buffer + 10, ByteCount - 20, &Mdl)));
    ULONG Sum = 0;
    KT_EQUAL(ExampleSumInParts(Mdl, 3000, &Sum), STATUS_SUCCESS);
    KT_EQUAL(Sum, SumOf(Buffer + 10, ByteCount - 20));
    KT_EQUAL(Mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA, 0);
    KT_REQUIRE(MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority) != NULL);
    KT_EQUAL(ExampleSumInParts(Mdl, PAGE_SIZE, &Sum), STATUS_SUCCESS);
    KT_EQUAL(Sum, SumOf(Buffer + 10, ByteCount - 20));
    ExampleUnlockBuffer(Mdl);
    ExFreePool(Buffer);
}

static VOID LockingABuffer(VOID)
{
    const PUCHAR Buffer = AllocateBuffer(2 * PAGE_SIZE);
    KT_REQUIRE(Buffer != NULL);
    PMDL Mdl;
    KT_REQUIRE(NT_SUCCESS(ExampleLockBuffer(Buffer, 2 * PAGE_SIZE, &Mdl)));
    KT_CHECK((Mdl->MdlFlags & MDL_PAGES_LOCKED) != 0 && (Mdl->MdlFlags & MDL_WRITE_OPERATION) != 0);
    KT_EQUAL(MmGetMdlPfnArray(Mdl)[1], KtPhysicalOf(Buffer + PAGE_SIZE) >> PAGE_SHIFT);
    ExampleUnlockBuffer(Mdl);
    ExFreePool(Buffer);
    KT_EQUAL(ExampleLockBuffer(NULL, PAGE_SIZE, &Mdl), STATUS_ACCESS_VIOLATION);
    KT_EQUAL(Mdl, NULL);
}

static VOID SummingAnMdl(VOID)
{
    const PUCHAR Buffer = AllocateBuffer(PAGE_SIZE);
    KT_REQUIRE(Buffer != NULL);
    PMDL Mdl;
    KT_REQUIRE(NT_SUCCESS(ExampleLockBuffer(Buffer + 5, 1000, &Mdl)));
    ULONG Sum = 0;
    KT_EQUAL(ExampleChecksum(Mdl, &Sum), STATUS_SUCCESS);
    KT_EQUAL(Sum, SumOf(Buffer + 5, 1000));
    ExampleUnlockBuffer(Mdl);
    ExFreePool(Buffer);
}

static VOID CopyingFromAStream(VOID)
{
    PVOID Stream;
    KT_REQUIRE(NT_SUCCESS(ExampleOpenStream(&Stream)));
    const PUCHAR Buffer = AllocateBuffer((EXAMPLE_STREAM_PAGES + 1) * PAGE_SIZE);
    KT_REQUIRE(Buffer != NULL);
    PMDL Request;
    UCHAR Copy[100];
    KT_REQUIRE(NT_SUCCESS(ExampleLockBuffer(Buffer + 123, PAGE_SIZE, &Request)));
    KT_EQUAL(ExampleCopyFromStream(Stream, Request, Copy, sizeof(Copy)), STATUS_SUCCESS);
    KT_CHECK(RtlEqualMemory(Copy, Buffer + 123, sizeof(Copy)));
    ExampleUnlockBuffer(Request);

    const ULONG TooMuch = EXAMPLE_STREAM_PAGES * PAGE_SIZE + 1;
    KT_REQUIRE(NT_SUCCESS(ExampleLockBuffer(Buffer, TooMuch, &Request)));
    KT_EQUAL(ExampleCopyFromStream(Stream, Request, Copy, sizeof(Copy)), STATUS_INVALID_PARAMETER);
    ExampleUnlockBuffer(Request);
    ExFreePool(Buffer);
    ExampleCloseStream(Stream);
}

static VOID AllocatingLowPages(VOID)
{
    PHYSICAL_ADDRESS Address;
    const PMDL Mdl = ExampleAllocateLowPages(16 * PAGE_SIZE, &Address);
    KT_REQUIRE(Mdl != NULL);
    KT_EQUAL(MmGetMdlByteCount(Mdl), 16 * PAGE_SIZE);
    KT_CHECK(Address.QuadPart + 16 * PAGE_SIZE <= 4 * (LONGLONG)KT_GIB);
    KT_EQUAL(KtPhysicalOf(KtAdd(Mdl->MappedSystemVa, 15 * PAGE_SIZE)),
             Address.QuadPart + 15 * PAGE_SIZE);
    ExampleFreeLowPages(Mdl);
}

static VOID CreatingARing(VOID)
{
    const SIZE_T ByteCount = 3 * PAGE_SIZE;
    EXAMPLE_RING Ring;
    KT_REQUIRE(NT_SUCCESS(ExampleCreateRing(ByteCount, &Ring)));
    KT_EQUAL(BYTE_OFFSET(Ring.Va), 0);
    KT_EQUAL(Ring.Address.QuadPart / 0x10000,
             (Ring.Address.QuadPart + (LONGLONG)ByteCount - 1) / 0x10000);
    KT_EQUAL(KtPhysicalOf(KtAdd(Ring.Va, ByteCount - 1)),
             Ring.Address.QuadPart + (LONGLONG)ByteCount - 1);
    KT_EQUAL(SumOf(Ring.Va, (ULONG)ByteCount), 0);
    ExampleDeleteRing(&Ring);
}

static VOID QueueingNames(VOID)
{
    LIST_ENTRY Queue;
    InitializeListHead(&Queue);
    KT_EQUAL(ExampleQueueNames(&Queue, 20), STATUS_SUCCESS);
    KT_CHECK(!IsListEmpty(&Queue));
    ExampleDropNames(&Queue);
    KT_CHECK(IsListEmpty(&Queue));
}

static VOID TryingAllSteps(VOID)
{
    ULONG UndoneCount = 77;
    KT_EQUAL(ExampleTryAll(5, 9, &UndoneCount), STATUS_SUCCESS);
    KT_EQUAL(UndoneCount, 0);
    KT_EQUAL(ExampleTryAll(5, 3, &UndoneCount), STATUS_DEVICE_NOT_READY);
    KT_EQUAL(UndoneCount, 3);
}

static const KT_TEST Tests[] = {
    {"the example of I/O space reads a register [4.1.11, 4.2.1, 4.3.1]", ReadingARegister},
    {"the example of cache types fills a frame [2.2.1, 12.2.2]", FillingAFrame},
    {"the example of MDLs describes a buffer [1.4.5, 6.5.1]", DescribingABuffer},
    {"the example of partial MDLs sums a request in parts [6.3.1, 6.3.5, 6.3.6, 6.16.1]",
     SummingInParts},
    {"the example of locking locks a buffer, or returns what was raised [6.6.1, 6.6.3, 6.7.2]",
     LockingABuffer},
    {"the example of mapping looks at a locked buffer [2.3.2, 6.8.1]", SummingAnMdl},
    {"the example of reserved mappings copies from a request [5.2.1, 5.2.4]", CopyingFromAStream},
    {"the example of pages allocates one piece below 4 GiB [7.1.2, 7.2.2, 7.3.2]",
     AllocatingLowPages},
    {"the example of contiguous memory makes a ring [8.1.1, 8.1.3]", CreatingARing},
    {"the example of pool queues names [8.3.3]", QueueingNames},
    {"the example of exceptions undoes what was done [1.1.1]", TryingAllSteps},
};

const KT_SUITE KtExamplesSuite = {"examples", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
