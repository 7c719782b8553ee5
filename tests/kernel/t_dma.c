// DMA adapters: operations, lists, both back ends. The device is the test: it reads and writes RAM by
// the logical addresses that it is given, through the direct map. The boot options dma= and verifier=
// change what is behind the operations; the tests run with each.
#include "kernel/inc/io.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/tests.h"

#define BUFFER_PAGES 8
#define LIMIT_BITS 28
#define LIMIT (1ull << LIMIT_BITS)

static DEVICE_OBJECT Device; // of nobody: only its CurrentIrp is looked at
#define A_PACKET ((PIRP)0x1234567890)

static BOOLEAN IsBouncing(VOID)
{
    CHAR Value[16] = "";
    return KeGetBootOption("dma", Value, sizeof(Value)) && RtlStringsEqual(Value, "bounce");
}

//
// Adapters.
//

static DEVICE_DESCRIPTION DescribeDevice(ULONG Version, ULONG AddressBits, ULONG MaximumLength)
{
    return (DEVICE_DESCRIPTION){
        .Version = Version,
        .Master = TRUE,
        .ScatterGather = TRUE,
        .Dma32BitAddresses = AddressBits >= 32,
        .Dma64BitAddresses = AddressBits == 64,
        .InterfaceType = PCIBus,
        .MaximumLength = MaximumLength,
        .DmaAddressWidth = AddressBits,
    };
}

static PDMA_ADAPTER GetAdapter(ULONG AddressBits, ULONG MaximumLength)
{
    DEVICE_DESCRIPTION Description =
        DescribeDevice(DEVICE_DESCRIPTION_VERSION3, AddressBits, MaximumLength);
    ULONG RegisterCount;
    return IoGetDmaAdapter(&Device, &Description, &RegisterCount);
}

// A device that takes one piece.
static PDMA_ADAPTER GetSimpleAdapter(ULONG AddressBits, ULONG MaximumLength)
{
    DEVICE_DESCRIPTION Description =
        DescribeDevice(DEVICE_DESCRIPTION_VERSION3, AddressBits, MaximumLength);
    ULONG RegisterCount;
    Description.ScatterGather = FALSE;
    return IoGetDmaAdapter(&Device, &Description, &RegisterCount);
}

static VOID PutAdapter(PDMA_ADAPTER Adapter)
{
    KT_EQUAL(IoVerifyDma(), 0);
    Adapter->DmaOperations->PutDmaAdapter(Adapter);
}

//
// Buffers. Each byte of a buffer is derived from its place, so that a wrong page shows.
//

static UCHAR PatternAt(ULONG Place, UCHAR Seed)
{
    return (UCHAR)(Place * 7 + (Place >> PAGE_SHIFT) * 31 + Seed);
}

// A buffer of nonpaged pool with an MDL.
static PMDL MakeBuffer(ULONG Offset, ULONG ByteCount, PUCHAR *Pool)
{
    *Pool = ExAllocatePool2(POOL_FLAG_NON_PAGED, Offset + ByteCount + PAGE_SIZE, KT_TAG);
    const PMDL Mdl =
        *Pool == NULL ? NULL : IoAllocateMdl(*Pool + Offset, ByteCount, FALSE, FALSE, NULL);
    if (Mdl != NULL) {
        MmBuildMdlForNonPagedPool(Mdl);
    }
    return Mdl;
}

static VOID FreeBuffer(PMDL Mdl, PUCHAR Pool)
{
    IoFreeMdl(Mdl);
    ExFreePoolWithTag(Pool, KT_TAG);
}

static VOID FillBuffer(PUCHAR Bytes, ULONG ByteCount, UCHAR Seed)
{
    for (ULONG Place = 0; Place < ByteCount; Place += 1) {
        Bytes[Place] = PatternAt(Place, Seed);
    }
}

static ULONG CountMismatches(const UCHAR *Bytes, ULONG ByteCount, ULONG FirstPlace, UCHAR Seed)
{
    ULONG Count = 0;
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        Count += Bytes[Index] != PatternAt(FirstPlace + Index, Seed) ? 1 : 0;
    }
    return Count;
}

//
// The device.
//

static VOID DeviceWrites(PHYSICAL_ADDRESS Address, ULONG ByteCount, ULONG FirstPlace, UCHAR Seed)
{
    const PUCHAR Bytes = KtDirectMap((ULONG64)Address.QuadPart);
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        Bytes[Index] = PatternAt(FirstPlace + Index, Seed);
    }
}

static ULONG DeviceReads(PHYSICAL_ADDRESS Address, ULONG ByteCount, ULONG FirstPlace, UCHAR Seed)
{
    return CountMismatches(KtDirectMap((ULONG64)Address.QuadPart), ByteCount, FirstPlace, Seed);
}

static VOID DeviceWritesList(const SCATTER_GATHER_LIST *List, UCHAR Seed)
{
    ULONG Place = 0;
    for (ULONG Index = 0; Index < List->NumberOfElements; Index += 1) {
        DeviceWrites(List->Elements[Index].Address, List->Elements[Index].Length, Place, Seed);
        Place += List->Elements[Index].Length;
    }
}

static ULONG DeviceReadsList(const SCATTER_GATHER_LIST *List, UCHAR Seed)
{
    ULONG Place = 0;
    ULONG Mismatches = 0;
    for (ULONG Index = 0; Index < List->NumberOfElements; Index += 1) {
        Mismatches +=
            DeviceReads(List->Elements[Index].Address, List->Elements[Index].Length, Place, Seed);
        Place += List->Elements[Index].Length;
    }
    return Mismatches;
}

static ULONG ListBytes(const SCATTER_GATHER_LIST *List)
{
    ULONG ByteCount = 0;
    for (ULONG Index = 0; Index < List->NumberOfElements; Index += 1) {
        ByteCount += List->Elements[Index].Length;
    }
    return ByteCount;
}

//
// Lists, asked for at DISPATCH_LEVEL.
//

typedef struct _RECEIVED {
    ULONG Count;
    ULONG Order; // of the last call among all
    KIRQL Irql;
    PDEVICE_OBJECT DeviceObject;
    PIRP Irp;
    PSCATTER_GATHER_LIST List;
    PVOID Base;
    IO_ALLOCATION_ACTION Action; // what to answer
} RECEIVED;

static ULONG NextOrder;

static VOID NTAPI ReceiveList(PDEVICE_OBJECT DeviceObject, PIRP Irp, PSCATTER_GATHER_LIST List,
                              PVOID Context)
{
    RECEIVED *Received = Context;
    Received->Count += 1;
    Received->Order = NextOrder;
    NextOrder += 1;
    Received->Irql = KeGetCurrentIrql();
    Received->DeviceObject = DeviceObject;
    Received->Irp = Irp;
    Received->List = List;
}

static IO_ALLOCATION_ACTION NTAPI ReceiveChannel(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Base,
                                                 PVOID Context)
{
    RECEIVED *Received = Context;
    ReceiveList(DeviceObject, Irp, NULL, Context);
    Received->Base = Base;
    return Received->Action;
}

static NTSTATUS GetList(PDMA_ADAPTER Adapter, PMDL Mdl, LONG64 Offset, ULONG Length, BOOLEAN Write,
                        RECEIVED *Received)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    const NTSTATUS Status = Adapter->DmaOperations->GetScatterGatherList(
        Adapter, &Device, Mdl, (PUCHAR)MmGetMdlVirtualAddress(Mdl) + Offset, Length, ReceiveList,
        Received, Write);
    KeLowerIrql(OldIrql);
    return Status;
}

static VOID PutList(PDMA_ADAPTER Adapter, PSCATTER_GATHER_LIST List, BOOLEAN Write)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    Adapter->DmaOperations->PutScatterGatherList(Adapter, List, Write);
    KeLowerIrql(OldIrql);
}

static NTSTATUS AllocateChannel(PDMA_ADAPTER Adapter, PDEVICE_OBJECT DeviceObject,
                                ULONG RegisterCount, RECEIVED *Received)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    const NTSTATUS Status = Adapter->DmaOperations->AllocateAdapterChannel(
        Adapter, DeviceObject, RegisterCount, ReceiveChannel, Received);
    KeLowerIrql(OldIrql);
    return Status;
}

static VOID FreeRegisters(PDMA_ADAPTER Adapter, PVOID Base, ULONG RegisterCount)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    Adapter->DmaOperations->FreeMapRegisters(Adapter, Base, RegisterCount);
    KeLowerIrql(OldIrql);
}

static VOID FreeChannel(PDMA_ADAPTER Adapter)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    Adapter->DmaOperations->FreeAdapterChannel(Adapter);
    KeLowerIrql(OldIrql);
}

//
// IoGetDmaAdapter.
//

static VOID EveryVersionHasItsTable(VOID)
{
    static const ULONG Sizes[] = {0x68, 0x68, 0x80, 0x118};
    for (ULONG Version = 0; Version < ARRAYSIZE(Sizes); Version += 1) {
        DEVICE_DESCRIPTION Description = DescribeDevice(Version, 32, PAGE_SIZE);
        ULONG RegisterCount = 0;
        const PDMA_ADAPTER Adapter = IoGetDmaAdapter(&Device, &Description, &RegisterCount);
        KtSetContext("version %u", Version);
        KT_REQUIRE(Adapter != NULL);
        KT_EQUAL(Adapter->Version, 1);
        KT_EQUAL(Adapter->Size, sizeof(DMA_ADAPTER));
        KT_EQUAL(Adapter->DmaOperations->Size, Sizes[Version]);
        KT_EQUAL(RegisterCount, 2);
        const PVOID *Slots = (const PVOID *)Adapter->DmaOperations;
        for (ULONG Slot = 1; Slot < Sizes[Version] / sizeof(PVOID); Slot += 1) {
            KT_CHECK(Slots[Slot] != NULL);
        }
        PutAdapter(Adapter);
    }
}

static VOID WhatCannotBeIsRefused(VOID)
{
    DEVICE_DESCRIPTION Description = DescribeDevice(DEVICE_DESCRIPTION_VERSION3, 64, PAGE_SIZE);
    ULONG RegisterCount;
    Description.Master = FALSE;
    KT_EQUAL(IoGetDmaAdapter(&Device, &Description, &RegisterCount), NULL);
    Description.Master = TRUE;
    Description.DmaAddressWidth = 65;
    KT_EQUAL(IoGetDmaAdapter(&Device, &Description, &RegisterCount), NULL);
    Description.DmaAddressWidth = PAGE_SHIFT;
    KT_EQUAL(IoGetDmaAdapter(&Device, &Description, &RegisterCount), NULL);
}

static VOID AnUnknownVersionIsRefused(VOID)
{
    KT_RETAIL_ONLY();
    DEVICE_DESCRIPTION Description = DescribeDevice(4, 64, PAGE_SIZE);
    ULONG RegisterCount;
    KT_EQUAL(IoGetDmaAdapter(&Device, &Description, &RegisterCount), NULL);
    Description.Version = DEVICE_DESCRIPTION_VERSION1;
    const PDMA_ADAPTER Adapter = HalGetAdapter(&Description, &RegisterCount);
    KT_REQUIRE(Adapter != NULL);
    PutAdapter(Adapter);
}

static VOID RegistersSufficeForTheLongestTransfer(VOID)
{
    static const struct {
        ULONG MaximumLength;
        ULONG RegisterCount;
    } Rows[] = {{0, 1}, {1, 2}, {PAGE_SIZE, 2}, {PAGE_SIZE + 1, 3}, {64 * PAGE_SIZE, 65}};
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        DEVICE_DESCRIPTION Description =
            DescribeDevice(DEVICE_DESCRIPTION_VERSION2, 64, Rows[Row].MaximumLength);
        ULONG RegisterCount;
        const PDMA_ADAPTER Adapter = IoGetDmaAdapter(NULL, &Description, &RegisterCount);
        KT_REQUIRE(Adapter != NULL);
        KT_EQUAL(RegisterCount, Rows[Row].RegisterCount);
        PutAdapter(Adapter);
    }
    DEVICE_DESCRIPTION Huge = DescribeDevice(DEVICE_DESCRIPTION_VERSION3, LIMIT_BITS, MAXULONG);
    ULONG RegisterCount;
    const PDMA_ADAPTER Adapter = IoGetDmaAdapter(NULL, &Huge, &RegisterCount);
    KT_REQUIRE(Adapter != NULL);
    KT_CHECK(RegisterCount >= 2 && RegisterCount < 0x100001);
    PutAdapter(Adapter);
}

static VOID AddressBitsAreThoseOfTheDescription(VOID)
{
    static const struct {
        ULONG Width;
        BOOLEAN Is32;
        BOOLEAN Is64;
        ULONG Bits;
    } Rows[] = {
        {0, FALSE, FALSE, 24}, {0, TRUE, FALSE, 32}, {0, TRUE, TRUE, 64},
        {0, FALSE, TRUE, 64},  {28, TRUE, TRUE, 28}, {64, FALSE, FALSE, 64},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        DEVICE_DESCRIPTION Description = DescribeDevice(DEVICE_DESCRIPTION_VERSION3, 0, PAGE_SIZE);
        DMA_ADAPTER_INFO Information = {.Version = DMA_ADAPTER_INFO_VERSION1};
        ULONG RegisterCount;
        Description.DmaAddressWidth = Rows[Row].Width;
        Description.Dma32BitAddresses = Rows[Row].Is32;
        Description.Dma64BitAddresses = Rows[Row].Is64;
        KtSetContext("row %u", Row);
        const PDMA_ADAPTER Adapter = IoGetDmaAdapter(NULL, &Description, &RegisterCount);
        KT_REQUIRE(Adapter != NULL);
        KT_EQUAL(Adapter->DmaOperations->GetDmaAdapterInfo(Adapter, &Information), STATUS_SUCCESS);
        KT_EQUAL(Information.V1.DmaAddressWidth, Rows[Row].Bits);
        KT_EQUAL(Information.V1.ScatterGatherLimit, RegisterCount);
        KT_EQUAL(Information.V1.ReadDmaCounterAvailable, FALSE);
        KT_EQUAL(Information.V1.Flags, ADAPTER_INFO_SYNCHRONOUS_CALLBACK);
        Information.Version = 2;
        KT_EQUAL(Adapter->DmaOperations->GetDmaAdapterInfo(Adapter, &Information),
                 STATUS_NOT_SUPPORTED);
        PutAdapter(Adapter);
    }
}

static VOID WhatTheMachineHasNotIsNotSupported(VOID)
{
    const PDMA_ADAPTER Adapter = GetAdapter(64, PAGE_SIZE);
    KT_REQUIRE(Adapter != NULL);
    PDMA_OPERATIONS Operations = Adapter->DmaOperations;
    PHYSICAL_ADDRESS Address;
    PVOID Va = &Address;
    KT_EQUAL(Operations->GetDmaAlignment(Adapter), 1);
    KT_EQUAL(Operations->ReadDmaCounter(Adapter), 0);
    KT_EQUAL(Operations->ConfigureAdapterChannel(Adapter, 0, NULL), STATUS_NOT_SUPPORTED);
    KT_EQUAL(Operations->CancelMappedTransfer(Adapter, NULL), STATUS_NOT_SUPPORTED);
    KT_EQUAL(Operations->JoinDmaDomain(Adapter, NULL), STATUS_NOT_SUPPORTED);
    KT_EQUAL(Operations->LeaveDmaDomain(Adapter), STATUS_NOT_SUPPORTED);
    KT_EQUAL(Operations->GetDmaDomain(Adapter), NULL);
    KT_EQUAL(Operations->AllocateDomainCommonBuffer(Adapter, NULL, NULL, PAGE_SIZE, 0, NULL,
                                                    MM_ANY_NODE_OK, &Address, &Va),
             STATUS_NOT_SUPPORTED);
    KT_EQUAL(Va, NULL);
    KT_EQUAL(Operations->FlushDmaBuffer(Adapter, NULL, TRUE), STATUS_SUCCESS);
    KeFlushIoBuffers(NULL, TRUE, TRUE);
    PutAdapter(Adapter);
}

//
// Common buffers.
//

static VOID CommonBuffersKeepTheDevicesLimit(VOID)
{
    static const ULONG Lengths[] = {1, PAGE_SIZE, PAGE_SIZE + 1, 64 * 1024};
    const PDMA_ADAPTER Adapter = GetAdapter(LIMIT_BITS, PAGE_SIZE);
    KT_REQUIRE(Adapter != NULL);
    for (ULONG Row = 0; Row < ARRAYSIZE(Lengths); Row += 1) {
        PHYSICAL_ADDRESS Logical;
        const PUCHAR Va =
            Adapter->DmaOperations->AllocateCommonBuffer(Adapter, Lengths[Row], &Logical, FALSE);
        KT_REQUIRE(Va != NULL);
        KT_EQUAL(BYTE_OFFSET(Va), 0);
        KT_CHECK((ULONG64)Logical.QuadPart + Lengths[Row] <= LIMIT);
        FillBuffer(Va, Lengths[Row], 1);
        KT_EQUAL(DeviceReads(Logical, Lengths[Row], 0, 1), 0);
        DeviceWrites(Logical, Lengths[Row], 0, 2);
        KT_EQUAL(CountMismatches(Va, Lengths[Row], 0, 2), 0);
        MM_PAGE_INFORMATION Page;
        MmQueryPage(Va, &Page);
        KT_CHECK(RtlStringsEqual(Page.CacheType, "WB"));
        Adapter->DmaOperations->FreeCommonBuffer(Adapter, Lengths[Row], Logical, Va, FALSE);
    }
    PHYSICAL_ADDRESS Logical;
    KT_EQUAL(Adapter->DmaOperations->AllocateCommonBuffer(Adapter, 0, &Logical, TRUE), NULL);
    KT_EQUAL(Adapter->DmaOperations->AllocateCommonBuffer(Adapter, 0xF0000000, &Logical, TRUE),
             NULL);
    PutAdapter(Adapter);
}

static VOID CommonBuffersHaveTheTypeAskedFor(VOID)
{
    const PDMA_ADAPTER Adapter = GetAdapter(64, PAGE_SIZE);
    KT_REQUIRE(Adapter != NULL);
    for (ULONG CacheEnabled = FALSE; CacheEnabled <= TRUE; CacheEnabled += 1) {
        PHYSICAL_ADDRESS Maximum = KtPhysical(64 * KT_MIB - 1);
        PHYSICAL_ADDRESS Logical;
        MM_PAGE_INFORMATION Page;
        const PVOID Va = Adapter->DmaOperations->AllocateCommonBufferEx(
            Adapter, &Maximum, 3 * PAGE_SIZE, &Logical, (BOOLEAN)CacheEnabled, MM_ANY_NODE_OK);
        KT_REQUIRE(Va != NULL);
        KT_CHECK(Logical.QuadPart + 3 * PAGE_SIZE - 1 <= Maximum.QuadPart);
        MmQueryPage(Va, &Page);
        KT_CHECK(RtlStringsEqual(Page.CacheType, CacheEnabled ? "WB" : "UC"));
        Adapter->DmaOperations->FreeCommonBuffer(Adapter, 3 * PAGE_SIZE, Logical, Va,
                                                 (BOOLEAN)CacheEnabled);
    }
    PHYSICAL_ADDRESS Logical;
    KT_EQUAL(
        Adapter->DmaOperations->AllocateCommonBufferEx(Adapter, NULL, PAGE_SIZE, &Logical, TRUE, 7),
        NULL);
    PutAdapter(Adapter);
}

static VOID CommonBuffersKeepBothBounds(VOID)
{
    const PDMA_ADAPTER Adapter = GetAdapter(64, PAGE_SIZE);
    KT_REQUIRE(Adapter != NULL);
    PHYSICAL_ADDRESS Minimum = KtPhysical(96 * KT_MIB);
    PHYSICAL_ADDRESS Maximum = KtPhysical(128 * KT_MIB - 1);
    MEMORY_CACHING_TYPE Type = MmWriteCombined;
    PHYSICAL_ADDRESS Logical;
    MM_PAGE_INFORMATION Page;
    PDMA_OPERATIONS Operations = Adapter->DmaOperations;
    PVOID Va = Operations->AllocateCommonBufferWithBounds(
        Adapter, &Minimum, &Maximum, 2 * PAGE_SIZE, 0, &Type, MM_ANY_NODE_OK, &Logical);
    KT_REQUIRE(Va != NULL);
    KT_CHECK(Logical.QuadPart >= Minimum.QuadPart &&
             Logical.QuadPart + 2 * PAGE_SIZE - 1 <= Maximum.QuadPart);
    MmQueryPage(Va, &Page);
    KT_CHECK(RtlStringsEqual(Page.CacheType, "WC"));
    Operations->FreeCommonBuffer(Adapter, 2 * PAGE_SIZE, Logical, Va, FALSE);
    Va = Operations->AllocateCommonBufferWithBounds(Adapter, NULL, NULL, PAGE_SIZE, 0, NULL,
                                                    MM_ANY_NODE_OK, &Logical);
    KT_REQUIRE(Va != NULL);
    MmQueryPage(Va, &Page);
    KT_CHECK(RtlStringsEqual(Page.CacheType, "WB"));
    Operations->FreeCommonBuffer(Adapter, PAGE_SIZE, Logical, Va, TRUE);
    KT_EQUAL(Operations->AllocateCommonBufferWithBounds(Adapter, NULL, NULL, PAGE_SIZE, 1, NULL,
                                                        MM_ANY_NODE_OK, &Logical),
             NULL);
    PutAdapter(Adapter);
}

//
// Lists.
//

// Data go both ways through lists at several offsets.
static VOID CheckTransfers(PDMA_ADAPTER Adapter, PMDL Mdl, PUCHAR Bytes, ULONG Offset, ULONG Length)
{
    RECEIVED Received = {0};
    KtSetContext("%u bytes at %u", Length, Offset);
    Device.CurrentIrp = A_PACKET;
    FillBuffer(Bytes + Offset, Length, 3);
    KT_EQUAL(GetList(Adapter, Mdl, Offset, Length, TRUE, &Received), STATUS_SUCCESS);
    KT_REQUIRE(Received.Count == 1);
    KT_EQUAL(Received.Irql, DISPATCH_LEVEL);
    KT_EQUAL(Received.DeviceObject, &Device);
    KT_EQUAL(Received.Irp, A_PACKET);
    KT_EQUAL(ListBytes(Received.List), Length);
    KT_EQUAL(DeviceReadsList(Received.List, 3), 0);
    PutList(Adapter, Received.List, TRUE);
    KT_EQUAL(GetList(Adapter, Mdl, Offset, Length, FALSE, &Received), STATUS_SUCCESS);
    DeviceWritesList(Received.List, 4);
    PutList(Adapter, Received.List, FALSE);
    KT_EQUAL(CountMismatches(Bytes + Offset, Length, 0, 4), 0);
}

static VOID ListsCoverTheBytesAndNoOthers(VOID)
{
    static const struct {
        ULONG Offset;
        ULONG Length;
    } Rows[] = {{0, 1},
                {0, PAGE_SIZE},
                {5, PAGE_SIZE},
                {4095, 2},
                {100, 5 * PAGE_SIZE},
                {PAGE_SIZE, 2 * PAGE_SIZE},
                {3000, 12345},
                {0, BUFFER_PAGES * PAGE_SIZE}};
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(64, (BUFFER_PAGES + 1) * PAGE_SIZE, &Pool);
    const PDMA_ADAPTER Adapter = GetAdapter(64, BUFFER_PAGES * PAGE_SIZE);
    KT_REQUIRE(Mdl != NULL && Adapter != NULL);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        RtlZeroMemory(Pool + 64, (BUFFER_PAGES + 1) * PAGE_SIZE);
        CheckTransfers(Adapter, Mdl, Pool + 64, Rows[Row].Offset, Rows[Row].Length);
        const ULONG EndOfData = 64 + Rows[Row].Offset + Rows[Row].Length;
        KT_EQUAL(Pool[64 + Rows[Row].Offset - (Rows[Row].Offset != 0)] != 0,
                 Rows[Row].Offset == 0 && PatternAt(0, 4) != 0);
        KT_EQUAL(Pool[EndOfData], 0);
    }
    PutAdapter(Adapter);
    FreeBuffer(Mdl, Pool);
}

// A chain of three MDLs with odd beginnings and ends, and an empty one.
static VOID ChainsAreOneTransfer(VOID)
{
    PUCHAR Pool[3];
    PMDL Mdl[3];
    static const ULONG Offsets[] = {100, 0, 4000};
    static const ULONG Lengths[] = {5000, 4096, 333};
    const ULONG Total = 5000 + 4096 + 333;
    RECEIVED Received = {0};
    const PDMA_ADAPTER Adapter = GetAdapter(64, 16 * PAGE_SIZE);
    KT_REQUIRE(Adapter != NULL);
    for (ULONG Index = 0; Index < 3; Index += 1) {
        Mdl[Index] = MakeBuffer(Offsets[Index], Lengths[Index], &Pool[Index]);
        KT_REQUIRE(Mdl[Index] != NULL);
    }
    Mdl[0]->Next = Mdl[1];
    Mdl[1]->Next = Mdl[2];
    // From the middle of the first to the middle of the last.
    const ULONG First = 1000;
    KT_EQUAL(GetList(Adapter, Mdl[0], First, Total - First - 33, FALSE, &Received), STATUS_SUCCESS);
    KT_REQUIRE(Received.Count == 1);
    KT_EQUAL(ListBytes(Received.List), Total - First - 33);
    DeviceWritesList(Received.List, 9);
    PutList(Adapter, Received.List, FALSE);
    KT_EQUAL(CountMismatches(Pool[0] + 1100, 4000, 0, 9), 0);
    KT_EQUAL(CountMismatches(Pool[1], 4096, 4000, 9), 0);
    KT_EQUAL(CountMismatches(Pool[2] + 4000, 300, 8096, 9), 0);
    KT_EQUAL(Pool[2][4300], 0);
    PutAdapter(Adapter);
    for (ULONG Index = 0; Index < 3; Index += 1) {
        FreeBuffer(Mdl[Index], Pool[Index]);
    }
}

static VOID AdjacentPagesAreOneElement(VOID)
{
    const PDMA_ADAPTER Adapter = GetAdapter(64, BUFFER_PAGES * PAGE_SIZE);
    const PUCHAR Va = MmAllocateContiguousMemory(4 * PAGE_SIZE, KtPhysical(MAXULONG64));
    const PMDL Mdl = IoAllocateMdl(Va, 4 * PAGE_SIZE, FALSE, FALSE, NULL);
    RECEIVED Received = {0};
    KT_REQUIRE(Adapter != NULL && Va != NULL && Mdl != NULL);
    MmBuildMdlForNonPagedPool(Mdl);
    KT_EQUAL(GetList(Adapter, Mdl, 10, 3 * PAGE_SIZE, TRUE, &Received), STATUS_SUCCESS);
    KT_REQUIRE(Received.Count == 1);
    KT_EQUAL(Received.List->NumberOfElements, 1);
    KT_EQUAL(Received.List->Elements[0].Length, 3 * PAGE_SIZE);
    KT_EQUAL((ULONG64)Received.List->Elements[0].Address.QuadPart == KtPhysicalOf(Va + 10),
             !IsBouncing());
    PutList(Adapter, Received.List, TRUE);
    PutAdapter(Adapter);
    IoFreeMdl(Mdl);
    MmFreeContiguousMemory(Va);
}

// Frames in the order of Places, in two MDLs: where one of them is followed by its neighbour, the element
// goes on, even from one MDL to the next.
static VOID RunsAreElementsAcrossMdls(VOID)
{
    static const UCHAR Places[] = {4, 5, 6, 7, 8, 9, 10, 2, 1, 12, 13, 14};
    static const UCHAR ElementPages[] = {7, 1, 1, 3};
    const ULONG FirstCount = 10; // in the first MDL: the last run goes on in the second
    const PDMA_ADAPTER Adapter = GetAdapter(64, BUFFER_PAGES * 2 * PAGE_SIZE);
    const PUCHAR Va = MmAllocateContiguousMemory(16 * PAGE_SIZE, KtPhysical(MAXULONG64));
    const PMDL Mdl[2] = {IoAllocateMdl(Va, FirstCount * PAGE_SIZE, FALSE, FALSE, NULL),
                         IoAllocateMdl(Va, 2 * PAGE_SIZE, FALSE, FALSE, NULL)};
    RECEIVED Received = {0};
    KT_REQUIRE(Adapter != NULL && Va != NULL && Mdl[0] != NULL && Mdl[1] != NULL);
    MmBuildMdlForNonPagedPool(Mdl[0]);
    MmBuildMdlForNonPagedPool(Mdl[1]);
    Mdl[0]->Next = Mdl[1];
    const PFN_NUMBER FirstPfn = KtPhysicalOf(Va) >> PAGE_SHIFT;
    for (ULONG Index = 0; Index < ARRAYSIZE(Places); Index += 1) {
        const ULONG IsSecond = Index >= FirstCount ? 1 : 0;
        MmGetMdlPfnArray(Mdl[IsSecond])[Index - IsSecond * FirstCount] = FirstPfn + Places[Index];
    }
    const ULONG Length = ARRAYSIZE(Places) * PAGE_SIZE - 100 - 7;
    KT_EQUAL(GetList(Adapter, Mdl[0], 100, Length, TRUE, &Received), STATUS_SUCCESS);
    KT_REQUIRE(Received.Count == 1);
    KT_EQUAL(ListBytes(Received.List), Length);
    if (!IsBouncing()) {
        ULONG Index = 0;
        KT_REQUIRE(Received.List->NumberOfElements == ARRAYSIZE(ElementPages));
        for (ULONG Element = 0; Element < ARRAYSIZE(ElementPages); Element += 1) {
            const ULONG Before = Element == 0 ? 100 : 0;
            const ULONG Behind = Element == ARRAYSIZE(ElementPages) - 1 ? 7 : 0;
            KT_EQUAL(Received.List->Elements[Element].Address.QuadPart,
                     ((FirstPfn + Places[Index]) << PAGE_SHIFT) + Before);
            KT_EQUAL(Received.List->Elements[Element].Length,
                     ElementPages[Element] * PAGE_SIZE - Before - Behind);
            Index += ElementPages[Element];
        }
    }
    PutList(Adapter, Received.List, TRUE);
    PutAdapter(Adapter);
    IoFreeMdl(Mdl[1]);
    IoFreeMdl(Mdl[0]);
    MmFreeContiguousMemory(Va);
}

static VOID SeveralListsMayBeOut(VOID)
{
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(0, 6 * PAGE_SIZE, &Pool);
    const PDMA_ADAPTER Adapter = GetAdapter(64, BUFFER_PAGES * PAGE_SIZE);
    RECEIVED Received[3] = {{0}};
    KT_REQUIRE(Mdl != NULL && Adapter != NULL);
    for (ULONG Index = 0; Index < 3; Index += 1) {
        KT_EQUAL(
            GetList(Adapter, Mdl, Index * 2 * PAGE_SIZE, 2 * PAGE_SIZE, FALSE, &Received[Index]),
            STATUS_SUCCESS);
        KT_REQUIRE(Received[Index].Count == 1);
    }
    for (ULONG Index = 0; Index < 3; Index += 1) {
        DeviceWritesList(Received[Index].List, (UCHAR)(20 + Index));
    }
    for (ULONG Index = 3; Index > 0; Index -= 1) {
        PutList(Adapter, Received[Index - 1].List, FALSE);
    }
    for (ULONG Index = 0; Index < 3; Index += 1) {
        KT_EQUAL(
            CountMismatches(Pool + Index * 2 * PAGE_SIZE, 2 * PAGE_SIZE, 0, (UCHAR)(20 + Index)),
            0);
    }
    PutAdapter(Adapter);
    FreeBuffer(Mdl, Pool);
}

static VOID WaitingRequestsAreServedInOrder(VOID)
{
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(0, 4 * PAGE_SIZE, &Pool);
    const PDMA_ADAPTER Adapter = GetSimpleAdapter(64, 3 * PAGE_SIZE); // four registers, with pages
    RECEIVED Received[4] = {{0}};
    KT_REQUIRE(Mdl != NULL && Adapter != NULL);
    KT_EQUAL(GetList(Adapter, Mdl, 0, 3 * PAGE_SIZE, TRUE, &Received[0]), STATUS_SUCCESS);
    KT_EQUAL(GetList(Adapter, Mdl, 0, 4 * PAGE_SIZE, TRUE, &Received[1]), STATUS_SUCCESS);
    // One register is free, but another waits before it.
    KT_EQUAL(GetList(Adapter, Mdl, 0, PAGE_SIZE, TRUE, &Received[2]), STATUS_SUCCESS);
    KT_EQUAL(GetList(Adapter, Mdl, 0, PAGE_SIZE, TRUE, &Received[3]), STATUS_SUCCESS);
    KT_EQUAL(Received[0].Count, 1);
    KT_EQUAL(Received[1].Count + Received[2].Count + Received[3].Count, 0);
    PutList(Adapter, Received[0].List, TRUE);
    KT_REQUIRE(Received[1].Count == 1);
    KT_EQUAL(Received[1].Irql, DISPATCH_LEVEL);
    KT_EQUAL(Received[2].Count + Received[3].Count, 0);
    PutList(Adapter, Received[1].List, TRUE);
    KT_REQUIRE(Received[2].Count == 1 && Received[3].Count == 1);
    KT_CHECK(Received[2].Order < Received[3].Order);
    PutList(Adapter, Received[3].List, TRUE);
    PutList(Adapter, Received[2].List, TRUE);
    PutAdapter(Adapter);
    FreeBuffer(Mdl, Pool);
}

static VOID ListsRefuseWhatTheyCannotMap(VOID)
{
    KT_RETAIL_ONLY();
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(16, 4 * PAGE_SIZE, &Pool);
    const PDMA_ADAPTER Adapter = GetAdapter(64, 2 * PAGE_SIZE);
    RECEIVED Received = {0};
    KT_REQUIRE(Mdl != NULL && Adapter != NULL);
    KT_EQUAL(GetList(Adapter, Mdl, 0, 0, TRUE, &Received), STATUS_INVALID_PARAMETER);
    KT_EQUAL(GetList(Adapter, Mdl, 0, 4 * PAGE_SIZE + 1, TRUE, &Received), STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(GetList(Adapter, Mdl, 4 * PAGE_SIZE, 1, TRUE, &Received), STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(GetList(Adapter, Mdl, -1, 4, TRUE, &Received), STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(GetList(Adapter, Mdl, 0, 4 * PAGE_SIZE, TRUE, &Received),
             STATUS_INSUFFICIENT_RESOURCES);
    KT_EQUAL(Received.Count, 0);
    PutAdapter(Adapter);
    FreeBuffer(Mdl, Pool);
}

static VOID ADeviceThatTakesOnePieceGetsOne(VOID)
{
    const PDMA_ADAPTER Adapter = GetSimpleAdapter(32, BUFFER_PAGES * PAGE_SIZE);
    const PMDL Mdl = KtAllocatePages(4);
    DMA_ADAPTER_INFO Information = {.Version = DMA_ADAPTER_INFO_VERSION1};
    RECEIVED Received = {0};
    KT_REQUIRE(Adapter != NULL && Mdl != NULL);
    KT_EQUAL(Adapter->DmaOperations->GetDmaAdapterInfo(Adapter, &Information), STATUS_SUCCESS);
    KT_EQUAL(Information.V1.ScatterGatherLimit, 1);
    // In the wrong order, so that no two adjoin.
    PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    for (ULONG Index = 0; Index < 2; Index += 1) {
        const PFN_NUMBER Other = Pfns[3 - Index];
        Pfns[3 - Index] = Pfns[Index];
        Pfns[Index] = Other;
    }
    for (ULONG Page = 0; Page < 4; Page += 1) {
        FillBuffer(KtDirectMap(Pfns[Page] << PAGE_SHIFT), PAGE_SIZE, (UCHAR)Page);
    }
    KT_EQUAL(GetList(Adapter, Mdl, 100, 3 * PAGE_SIZE, TRUE, &Received), STATUS_SUCCESS);
    KT_REQUIRE(Received.Count == 1);
    KT_EQUAL(Received.List->NumberOfElements, 1);
    KT_EQUAL(Received.List->Elements[0].Length, 3 * PAGE_SIZE);
    PHYSICAL_ADDRESS Address = Received.List->Elements[0].Address;
    KT_EQUAL(DeviceReads(Address, PAGE_SIZE - 100, 100, 0), 0);
    Address.QuadPart += PAGE_SIZE - 100;
    KT_EQUAL(DeviceReads(Address, PAGE_SIZE, 0, 1), 0);
    PutList(Adapter, Received.List, TRUE);
    KT_EQUAL(GetList(Adapter, Mdl, 4000, 2 * PAGE_SIZE, FALSE, &Received), STATUS_SUCCESS);
    DeviceWritesList(Received.List, 40);
    PutList(Adapter, Received.List, FALSE);
    KT_EQUAL(CountMismatches(KtDirectMap((Pfns[0] << PAGE_SHIFT) + 4000), 96, 0, 40), 0);
    KT_EQUAL(CountMismatches(KtDirectMap(Pfns[1] << PAGE_SHIFT), PAGE_SIZE, 96, 40), 0);
    KT_EQUAL(CountMismatches(KtDirectMap(Pfns[2] << PAGE_SHIFT), 4000, 96 + PAGE_SIZE, 40), 0);
    PutAdapter(Adapter);
    KtFreePages(Mdl);
}

// Odd pieces end to end, of a chain, for a device that takes one piece.
static VOID APieceOfAChainLiesEndToEnd(VOID)
{
    const PDMA_ADAPTER Adapter = GetSimpleAdapter(32, BUFFER_PAGES * PAGE_SIZE);
    PUCHAR Pool[2];
    PMDL Mdl[2];
    RECEIVED Received = {0};
    KT_REQUIRE(Adapter != NULL);
    Mdl[0] = MakeBuffer(4000, 50, &Pool[0]);
    Mdl[1] = MakeBuffer(17, 5000, &Pool[1]);
    KT_REQUIRE(Mdl[0] != NULL && Mdl[1] != NULL);
    Mdl[0]->Next = Mdl[1];
    KT_EQUAL(GetList(Adapter, Mdl[0], 0, 5050, FALSE, &Received), STATUS_SUCCESS);
    KT_REQUIRE(Received.Count == 1);
    KT_EQUAL(Received.List->NumberOfElements, 1);
    DeviceWritesList(Received.List, 77);
    PutList(Adapter, Received.List, FALSE);
    KT_EQUAL(CountMismatches(Pool[0] + 4000, 50, 0, 77), 0);
    KT_EQUAL(CountMismatches(Pool[1] + 17, 5000, 50, 77), 0);
    PutAdapter(Adapter);
    FreeBuffer(Mdl[0], Pool[0]);
    FreeBuffer(Mdl[1], Pool[1]);
}

// Pages above the device's limit. NULL: this machine has none.
static PMDL AllocateHighPages(ULONG PageCount)
{
    return MmAllocatePagesForMdlEx(KtPhysical(LIMIT), KtPhysical(MAXLONGLONG), KtPhysical(0),
                                   (SIZE_T)PageCount << PAGE_SHIFT, MmCached,
                                   MM_ALLOCATE_FULLY_REQUIRED);
}

static VOID WhatTheDeviceCannotReachIsBounced(VOID)
{
    const PMDL Mdl = AllocateHighPages(3);
    if (Mdl == NULL) {
        KT_SKIP("all memory is within the reach of a device with 28 address bits");
    }
    const PDMA_ADAPTER Adapter = GetAdapter(LIMIT_BITS, BUFFER_PAGES * PAGE_SIZE);
    RECEIVED Received = {0};
    KT_REQUIRE(Adapter != NULL);
    KT_EQUAL(GetList(Adapter, Mdl, 50, 2 * PAGE_SIZE, FALSE, &Received), STATUS_SUCCESS);
    KT_REQUIRE(Received.Count == 1);
    for (ULONG Index = 0; Index < Received.List->NumberOfElements; Index += 1) {
        const SCATTER_GATHER_ELEMENT *Element = &Received.List->Elements[Index];
        KT_CHECK((ULONG64)Element->Address.QuadPart + Element->Length <= LIMIT);
    }
    DeviceWritesList(Received.List, 5);
    KT_CHECK(CountMismatches(KtDirectMap(KtPageAddress(Mdl, 0) + 50), 100, 0, 5) > 50);
    PutList(Adapter, Received.List, FALSE);
    KT_EQUAL(CountMismatches(KtDirectMap(KtPageAddress(Mdl, 0) + 50), PAGE_SIZE - 50, 0, 5), 0);
    KT_EQUAL(CountMismatches(KtDirectMap(KtPageAddress(Mdl, 1)), PAGE_SIZE, PAGE_SIZE - 50, 5), 0);
    PutAdapter(Adapter);
    KtFreePages(Mdl);
}

static VOID MemoryOfDevicesIsReachedOrRefused(VOID)
{
    const PMDL Mdl = KtAllocateGapMdl(2);
    if (Mdl == NULL) {
        KT_SKIP("there is no free I/O space");
    }
    const PDMA_ADAPTER Far = GetAdapter(64, BUFFER_PAGES * PAGE_SIZE);
    const PDMA_ADAPTER Near = GetAdapter(LIMIT_BITS, BUFFER_PAGES * PAGE_SIZE);
    RECEIVED Received = {0};
    KT_REQUIRE(Far != NULL && Near != NULL);
    KT_EQUAL(GetList(Near, Mdl, 0, PAGE_SIZE, TRUE, &Received), STATUS_INSUFFICIENT_RESOURCES);
    KT_EQUAL(GetList(Far, Mdl, 4, 2 * PAGE_SIZE - 4, TRUE, &Received), STATUS_SUCCESS);
    KT_REQUIRE(Received.Count == 1);
    KT_EQUAL(Received.List->NumberOfElements, 1);
    KT_EQUAL(Received.List->Elements[0].Address.QuadPart,
             (LONG64)((MmGetMdlPfnArray(Mdl)[0] << PAGE_SHIFT) + 4));
    PutList(Far, Received.List, TRUE);
    PutAdapter(Far);
    PutAdapter(Near);
    IoFreeMdl(Mdl);
}

static VOID ListsCanBeBuiltInTheDriversMemory(VOID)
{
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(8, 3 * PAGE_SIZE, &Pool);
    const PDMA_ADAPTER Adapter = GetAdapter(64, BUFFER_PAGES * PAGE_SIZE);
    const PVOID Va = Mdl != NULL ? MmGetMdlVirtualAddress(Mdl) : NULL;
    DECLSPEC_ALIGN(8) UCHAR Memory[512];
    ULONG ByteCount = 0;
    ULONG OtherByteCount = 0;
    ULONG RegisterCount = 0;
    RECEIVED Received = {0};
    KT_REQUIRE(Mdl != NULL && Adapter != NULL);
    PDMA_OPERATIONS Operations = Adapter->DmaOperations;
    KT_EQUAL(Operations->CalculateScatterGatherList(Adapter, Mdl, Va, 3 * PAGE_SIZE, &ByteCount,
                                                    &RegisterCount),
             STATUS_SUCCESS);
    KT_CHECK(ByteCount >= 0x10 + 4 * 0x18); // and what the system adds
    KT_REQUIRE(ByteCount <= sizeof(Memory));
    KT_EQUAL(RegisterCount, 4);
    KT_EQUAL(Operations->CalculateScatterGatherList(Adapter, NULL, (PVOID)0x1FFF, 2,
                                                    &OtherByteCount, NULL),
             STATUS_SUCCESS);
    KT_EQUAL(ByteCount - OtherByteCount, 2 * 0x18);
    KT_EQUAL(Operations->CalculateScatterGatherList(Adapter, Mdl, Va, 3 * PAGE_SIZE + 1,
                                                    &OtherByteCount, NULL),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(Operations->CalculateScatterGatherList(Adapter, Mdl, Va, 0, &OtherByteCount, NULL),
             STATUS_INVALID_PARAMETER);
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    KT_EQUAL(Operations->BuildScatterGatherList(Adapter, &Device, Mdl, Va, 3 * PAGE_SIZE,
                                                ReceiveList, &Received, FALSE, Memory,
                                                ByteCount - 1),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(Operations->BuildScatterGatherList(Adapter, &Device, Mdl, Va, 3 * PAGE_SIZE,
                                                ReceiveList, &Received, FALSE, Memory, ByteCount),
             STATUS_SUCCESS);
    KeLowerIrql(OldIrql);
    KT_EQUAL(Received.Count, 1);
    KT_EQUAL(Received.List, Memory);
    DeviceWritesList((PSCATTER_GATHER_LIST)Memory, 6);
    PutList(Adapter, (PSCATTER_GATHER_LIST)Memory, FALSE);
    KT_EQUAL(CountMismatches(Pool + 8, 3 * PAGE_SIZE, 0, 6), 0);
    PutAdapter(Adapter);
    FreeBuffer(Mdl, Pool);
}

static VOID AListCanBecomeAnMdl(VOID)
{
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(24, 2 * PAGE_SIZE, &Pool);
    const PDMA_ADAPTER Adapter = GetAdapter(64, BUFFER_PAGES * PAGE_SIZE);
    RECEIVED Received = {0};
    PMDL Target = NULL;
    KT_REQUIRE(Mdl != NULL && Adapter != NULL);
    PDMA_OPERATIONS Operations = Adapter->DmaOperations;
    KT_EQUAL(GetList(Adapter, Mdl, 0, 2 * PAGE_SIZE, TRUE, &Received), STATUS_SUCCESS);
    KT_EQUAL(Operations->BuildMdlFromScatterGatherList(Adapter, Received.List, NULL, &Target),
             STATUS_INVALID_PARAMETER);
    KT_EQUAL(Operations->BuildMdlFromScatterGatherList(Adapter, Received.List, Mdl, &Target),
             STATUS_SUCCESS);
    KT_EQUAL(Target == Mdl, !IsBouncing());
    KT_REQUIRE(Target != NULL);
    KT_EQUAL(MmGetMdlByteCount(Target), 2 * PAGE_SIZE);
    KT_EQUAL((MmGetMdlPfnArray(Target)[0] << PAGE_SHIFT) + MmGetMdlByteOffset(Target),
             Received.List->Elements[0].Address.QuadPart);
    PMDL Again = NULL;
    KT_EQUAL(Operations->BuildMdlFromScatterGatherList(Adapter, Received.List, Mdl, &Again),
             STATUS_NONE_MAPPED);
    if (Target != Mdl) {
        IoFreeMdl(Target);
    }
    PutList(Adapter, Received.List, TRUE);
    PutAdapter(Adapter);
    FreeBuffer(Mdl, Pool);
}

//
// Channels.
//

static VOID TheActionSaysWhatTheDriverKeeps(VOID)
{
    const PDMA_ADAPTER Adapter = GetAdapter(64, 3 * PAGE_SIZE); // four registers
    RECEIVED Received = {.Action = DeallocateObject};
    KT_REQUIRE(Adapter != NULL);
    Device.CurrentIrp = A_PACKET;
    KT_EQUAL(AllocateChannel(Adapter, &Device, 4, &Received), STATUS_SUCCESS);
    KT_EQUAL(Received.Count, 1);
    KT_EQUAL(Received.Irql, DISPATCH_LEVEL);
    KT_EQUAL(Received.DeviceObject, &Device);
    KT_EQUAL(Received.Irp, A_PACKET);
    KT_CHECK(Received.Base != NULL);
    Received.Action = KeepObject;
    KT_EQUAL(AllocateChannel(Adapter, &Device, 4, &Received), STATUS_SUCCESS);
    KT_EQUAL(Received.Count, 2);
    FreeChannel(Adapter);
    Received.Action = DeallocateObjectKeepRegisters;
    KT_EQUAL(AllocateChannel(Adapter, &Device, 3, &Received), STATUS_SUCCESS);
    KT_EQUAL(Received.Count, 3);
    const PVOID First = Received.Base;
    KT_EQUAL(AllocateChannel(Adapter, &Device, 1, &Received), STATUS_SUCCESS);
    KT_EQUAL(Received.Count, 4);
    FreeRegisters(Adapter, First, 3);
    FreeRegisters(Adapter, Received.Base, 1);
    PutAdapter(Adapter);
}

static VOID AChannelIsOneDevicesAtATime(VOID)
{
    static DEVICE_OBJECT Second, Third;
    const PDMA_ADAPTER Adapter = GetAdapter(64, 3 * PAGE_SIZE); // four registers
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(0, PAGE_SIZE, &Pool);
    RECEIVED Received[3] = {{.Action = KeepObject}, {.Action = KeepObject}, {.Action = KeepObject}};
    RECEIVED List = {0};
    KT_REQUIRE(Adapter != NULL && Mdl != NULL);
    KT_EQUAL(AllocateChannel(Adapter, &Device, 1, &Received[0]), STATUS_SUCCESS);
    KT_EQUAL(AllocateChannel(Adapter, &Second, 1, &Received[1]), STATUS_SUCCESS);
    KT_EQUAL(AllocateChannel(Adapter, &Third, 1, &Received[2]), STATUS_SUCCESS);
    KT_EQUAL(Received[0].Count, 1);
    KT_EQUAL(Received[1].Count + Received[2].Count, 0);
    // A list needs registers, but no channel.
    KT_EQUAL(GetList(Adapter, Mdl, 0, PAGE_SIZE, TRUE, &List), STATUS_SUCCESS);
    KT_REQUIRE(List.Count == 1);
    FreeChannel(Adapter);
    KT_EQUAL(Received[1].Count, 1);
    KT_EQUAL(Received[2].Count, 0);
    FreeChannel(Adapter);
    KT_EQUAL(Received[2].Count, 1);
    FreeChannel(Adapter);
    PutList(Adapter, List.List, TRUE);
    PutAdapter(Adapter);
    FreeBuffer(Mdl, Pool);
}

static VOID MoreRegistersThanThereAreAreRefused(VOID)
{
    KT_RETAIL_ONLY();
    const PDMA_ADAPTER Adapter = GetAdapter(64, 3 * PAGE_SIZE); // four registers
    RECEIVED Received = {.Action = DeallocateObject};
    KT_REQUIRE(Adapter != NULL);
    KT_EQUAL(AllocateChannel(Adapter, &Device, 5, &Received), STATUS_INSUFFICIENT_RESOURCES);
    KT_EQUAL(Received.Count, 0);
    PutAdapter(Adapter);
}

// The whole buffer by pieces, and one flush of all; each piece is contiguous for the device.
static VOID MapTransferGoesPieceByPiece(VOID)
{
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(300, 5 * PAGE_SIZE, &Pool);
    const PDMA_ADAPTER Adapter = GetAdapter(64, BUFFER_PAGES * PAGE_SIZE);
    RECEIVED Received = {.Action = DeallocateObjectKeepRegisters};
    KT_REQUIRE(Mdl != NULL && Adapter != NULL);
    const PUCHAR Va = MmGetMdlVirtualAddress(Mdl);
    KT_EQUAL(AllocateChannel(Adapter, &Device, 6, &Received), STATUS_SUCCESS);
    for (ULONG Round = 0; Round < 2; Round += 1) {
        ULONG Done = 0;
        while (Done < 5 * PAGE_SIZE) {
            ULONG Length = 5 * PAGE_SIZE - Done;
            const PHYSICAL_ADDRESS Address =
                IoMapTransfer(Adapter, Mdl, Received.Base, Va + Done, &Length, FALSE);
            KT_REQUIRE(Length != 0 && Length <= 5 * PAGE_SIZE - Done);
            DeviceWrites(Address, Length, Done, (UCHAR)(50 + Round));
            Done += Length;
        }
        KT_CHECK(IoFlushAdapterBuffers(Adapter, Mdl, Received.Base, Va, 5 * PAGE_SIZE, FALSE));
        KT_EQUAL(CountMismatches(Va, 5 * PAGE_SIZE, 0, (UCHAR)(50 + Round)), 0);
    }
    FreeRegisters(Adapter, Received.Base, 6);
    PutAdapter(Adapter);
    FreeBuffer(Mdl, Pool);
}

static VOID MapTransferGivesOnePieceToASimpleDevice(VOID)
{
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(300, 5 * PAGE_SIZE, &Pool);
    const PDMA_ADAPTER Adapter = GetSimpleAdapter(32, BUFFER_PAGES * PAGE_SIZE);
    RECEIVED Received = {.Action = KeepObject};
    KT_REQUIRE(Mdl != NULL && Adapter != NULL);
    const PUCHAR Va = MmGetMdlVirtualAddress(Mdl);
    ULONG Length = 5 * PAGE_SIZE;
    KT_EQUAL(AllocateChannel(Adapter, &Device, 6, &Received), STATUS_SUCCESS);
    FillBuffer(Va, Length, 60);
    const PHYSICAL_ADDRESS Address =
        Adapter->DmaOperations->MapTransfer(Adapter, Mdl, Received.Base, Va, &Length, TRUE);
    KT_EQUAL(Length, 5 * PAGE_SIZE);
    KT_EQUAL(DeviceReads(Address, Length, 0, 60), 0);
    KT_CHECK(IoFlushAdapterBuffers(Adapter, Mdl, Received.Base, Va, Length, TRUE));
    FreeChannel(Adapter);
    PutAdapter(Adapter);
    FreeBuffer(Mdl, Pool);
}

//
// Version 3.
//

static VOID TheTableOfSynchronousRequestsHolds(VOID)
{
    static const struct {
        ULONG Flags;
        BOOLEAN HasRoutine;
        BOOLEAN HasBase;
        NTSTATUS Status;
    } Rows[] = {
        {0, TRUE, FALSE, STATUS_SUCCESS},
        {0, FALSE, FALSE, STATUS_INVALID_PARAMETER},
        {0, FALSE, TRUE, STATUS_INVALID_PARAMETER},
        {0, TRUE, TRUE, STATUS_INVALID_PARAMETER},
        {DMA_SYNCHRONOUS_CALLBACK, TRUE, FALSE, STATUS_SUCCESS},
        {DMA_SYNCHRONOUS_CALLBACK, FALSE, TRUE, STATUS_SUCCESS},
        {DMA_SYNCHRONOUS_CALLBACK, TRUE, TRUE, STATUS_SUCCESS},
        {DMA_SYNCHRONOUS_CALLBACK, FALSE, FALSE, STATUS_INVALID_PARAMETER},
        {0x80, TRUE, FALSE, STATUS_INVALID_PARAMETER},
    };
    const PDMA_ADAPTER Adapter = GetAdapter(64, 3 * PAGE_SIZE);
    UCHAR Context[DMA_TRANSFER_CONTEXT_SIZE_V1];
    KT_REQUIRE(Adapter != NULL);
    KT_EQUAL(Adapter->DmaOperations->InitializeDmaTransferContext(Adapter, Context),
             STATUS_SUCCESS);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        RECEIVED Received = {.Action = KeepObject};
        PVOID Base = NULL;
        KtSetContext("row %u", Row);
        const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
        KT_EQUAL(Adapter->DmaOperations->AllocateAdapterChannelEx(
                     Adapter, &Device, Context, 2, Rows[Row].Flags,
                     Rows[Row].HasRoutine ? ReceiveChannel : NULL, &Received,
                     Rows[Row].HasBase ? &Base : NULL),
                 Rows[Row].Status);
        KT_EQUAL(Received.Count, NT_SUCCESS(Rows[Row].Status) && Rows[Row].HasRoutine);
        KT_EQUAL(Base != NULL, NT_SUCCESS(Rows[Row].Status) && Rows[Row].HasBase);
        if (NT_SUCCESS(Rows[Row].Status)) {
            Adapter->DmaOperations->FreeAdapterObject(Adapter, KeepObject);
            Adapter->DmaOperations->FreeAdapterObject(Adapter, DeallocateObject);
        }
        KeLowerIrql(OldIrql);
    }
    PutAdapter(Adapter);
}

static NTSTATUS AllocateEx(PDMA_ADAPTER Adapter, PVOID Context, ULONG RegisterCount, ULONG Flags,
                           RECEIVED *Received, PVOID *Base)
{
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    const NTSTATUS Status = Adapter->DmaOperations->AllocateAdapterChannelEx(
        Adapter, &Device, Context, RegisterCount, Flags, Received != NULL ? ReceiveChannel : NULL,
        Received, Base);
    KeLowerIrql(OldIrql);
    return Status;
}

static VOID SynchronousRequestsDoNotWait(VOID)
{
    const PDMA_ADAPTER Adapter = GetSimpleAdapter(64, 3 * PAGE_SIZE); // four registers, with pages
    UCHAR Contexts[4][DMA_TRANSFER_CONTEXT_SIZE_V1];
    RECEIVED Received[2] = {{.Action = KeepObject}, {.Action = DeallocateObject}};
    PVOID First = NULL, Base = NULL;
    KT_REQUIRE(Adapter != NULL);
    PDMA_OPERATIONS Operations = Adapter->DmaOperations;
    for (ULONG Index = 0; Index < 4; Index += 1) {
        KT_EQUAL(Operations->InitializeDmaTransferContext(Adapter, Contexts[Index]),
                 STATUS_SUCCESS);
    }
    KT_EQUAL(AllocateEx(Adapter, Contexts[0], 3, DMA_SYNCHRONOUS_CALLBACK, NULL, &First),
             STATUS_SUCCESS);
    // The channel is taken; and later, two registers are not free.
    KT_EQUAL(AllocateEx(Adapter, Contexts[1], 1, DMA_SYNCHRONOUS_CALLBACK, NULL, &Base),
             STATUS_INSUFFICIENT_RESOURCES);
    Operations->FreeAdapterObject(Adapter, DeallocateObjectKeepRegisters);
    KT_EQUAL(AllocateEx(Adapter, Contexts[1], 2, DMA_SYNCHRONOUS_CALLBACK, NULL, &Base),
             STATUS_INSUFFICIENT_RESOURCES);
    KT_EQUAL(Base, NULL);
    // A context names one request at a time, and must have been initialised.
    UCHAR NoContext[DMA_TRANSFER_CONTEXT_SIZE_V1] = {0};
    KT_EQUAL(AllocateEx(Adapter, Contexts[0], 1, 0, &Received[0], NULL), STATUS_INVALID_PARAMETER);
    KT_EQUAL(AllocateEx(Adapter, NoContext, 1, 0, &Received[0], NULL), STATUS_INVALID_PARAMETER);
    // Two wait; one is taken back.
    KT_EQUAL(AllocateEx(Adapter, Contexts[2], 4, 0, &Received[0], NULL), STATUS_SUCCESS);
    KT_EQUAL(AllocateEx(Adapter, Contexts[3], 4, 0, &Received[1], NULL), STATUS_SUCCESS);
    KT_EQUAL(Received[0].Count + Received[1].Count, 0);
    KT_CHECK(Operations->CancelAdapterChannel(Adapter, &Device, Contexts[2]));
    KT_CHECK(!Operations->CancelAdapterChannel(Adapter, &Device, Contexts[2]));
    KT_CHECK(!Operations->CancelAdapterChannel(Adapter, &Device, Contexts[1]));
    FreeRegisters(Adapter, First, 3);
    KT_EQUAL(Received[0].Count, 0);
    KT_EQUAL(Received[1].Count, 1);
    KT_CHECK(!Operations->CancelAdapterChannel(Adapter, &Device, Contexts[3]));
    PutAdapter(Adapter);
}

static VOID MapTransferExMakesProgress(VOID)
{
    PUCHAR Pool[2];
    PMDL Mdl[2];
    const ULONG Total = 5 * PAGE_SIZE + 700;
    const PDMA_ADAPTER Adapter = GetAdapter(64, BUFFER_PAGES * PAGE_SIZE);
    UCHAR Context[DMA_TRANSFER_CONTEXT_SIZE_V1];
    UCHAR Memory[0x10 + 2 * 0x18];
    const PSCATTER_GATHER_LIST List = (PSCATTER_GATHER_LIST)Memory;
    PVOID Base = NULL;
    Mdl[0] = MakeBuffer(300, 5 * PAGE_SIZE, &Pool[0]);
    Mdl[1] = MakeBuffer(4000, 700, &Pool[1]);
    KT_REQUIRE(Mdl[0] != NULL && Mdl[1] != NULL && Adapter != NULL);
    Mdl[0]->Next = Mdl[1];
    PDMA_OPERATIONS Operations = Adapter->DmaOperations;
    (VOID) Operations->InitializeDmaTransferContext(Adapter, Context);
    KT_EQUAL(AllocateEx(Adapter, Context, 3, DMA_SYNCHRONOUS_CALLBACK, NULL, &Base),
             STATUS_SUCCESS);
    ULONG Rounds = 0;
    for (ULONG Done = 0; Done < Total; Rounds += 1) {
        ULONG Length = Total - Done;
        KT_EQUAL(Operations->MapTransferEx(Adapter, Mdl[0], Base, Done, 0, &Length, FALSE, List,
                                           sizeof(Memory), NULL, NULL),
                 STATUS_SUCCESS);
        KT_REQUIRE(Length != 0 && Length <= 3 * PAGE_SIZE && Length <= Total - Done);
        KT_CHECK(List->NumberOfElements <= 2);
        KT_EQUAL(ListBytes(List), Length);
        ULONG Place = Done;
        for (ULONG Index = 0; Index < List->NumberOfElements; Index += 1) {
            DeviceWrites(List->Elements[Index].Address, List->Elements[Index].Length, Place, 90);
            Place += List->Elements[Index].Length;
        }
        KT_EQUAL(Operations->FlushAdapterBuffersEx(Adapter, Mdl[0], Base, Done, Length, FALSE),
                 STATUS_SUCCESS);
        Done += Length;
    }
    KT_CHECK(Rounds > 1);
    KT_EQUAL(CountMismatches(Pool[0] + 300, 5 * PAGE_SIZE, 0, 90), 0);
    KT_EQUAL(CountMismatches(Pool[1] + 4000, 700, 5 * PAGE_SIZE, 90), 0);
    Operations->FreeAdapterObject(Adapter, DeallocateObject);
    PutAdapter(Adapter);
    FreeBuffer(Mdl[0], Pool[0]);
    FreeBuffer(Mdl[1], Pool[1]);
}

static VOID MapTransferExRefusesWhatItCannot(VOID)
{
    const PMDL Mdl = KtAllocateGapMdl(3);
    if (Mdl == NULL) {
        KT_SKIP("there is no free I/O space");
    }
    const PDMA_ADAPTER Far = GetAdapter(64, BUFFER_PAGES * PAGE_SIZE);
    const PDMA_ADAPTER Near = GetAdapter(LIMIT_BITS, BUFFER_PAGES * PAGE_SIZE);
    UCHAR Contexts[2][DMA_TRANSFER_CONTEXT_SIZE_V1];
    UCHAR Memory[0x10 + 0x18];
    const PSCATTER_GATHER_LIST List = (PSCATTER_GATHER_LIST)Memory;
    PVOID FarBase = NULL, NearBase = NULL;
    ULONG Length = PAGE_SIZE;
    KT_REQUIRE(Far != NULL && Near != NULL);
    PDMA_OPERATIONS Operations = Far->DmaOperations;
    (VOID) Operations->InitializeDmaTransferContext(Far, Contexts[0]);
    (VOID) Operations->InitializeDmaTransferContext(Near, Contexts[1]);
    KT_EQUAL(AllocateEx(Far, Contexts[0], 3, DMA_SYNCHRONOUS_CALLBACK, NULL, &FarBase),
             STATUS_SUCCESS);
    KT_EQUAL(AllocateEx(Near, Contexts[1], 3, DMA_SYNCHRONOUS_CALLBACK, NULL, &NearBase),
             STATUS_SUCCESS);
    KT_EQUAL(Operations->MapTransferEx(Far, Mdl, FarBase, 0, 0, &Length, TRUE, NULL, 0, NULL, NULL),
             STATUS_INVALID_PARAMETER);
    KT_EQUAL(Operations->MapTransferEx(Far, Mdl, FarBase, 0, 0, &Length, TRUE, List,
                                       sizeof(Memory) - 1, NULL, NULL),
             STATUS_INVALID_PARAMETER);
    KT_EQUAL(Operations->MapTransferEx(Far, Mdl, FarBase, 0, 4, &Length, TRUE, List, sizeof(Memory),
                                       NULL, NULL),
             STATUS_INVALID_PARAMETER);
    KT_EQUAL(Operations->MapTransferEx(Near, Mdl, NearBase, 0, 0, &Length, TRUE, List,
                                       sizeof(Memory), NULL, NULL),
             STATUS_INSUFFICIENT_RESOURCES);
    KT_EQUAL(Length, PAGE_SIZE);
    // The memory of a device is legal, and goes straight.
    KT_EQUAL(Operations->MapTransferEx(Far, Mdl, FarBase, 8, 0, &Length, TRUE, List, sizeof(Memory),
                                       NULL, NULL),
             STATUS_SUCCESS);
    KT_EQUAL(List->NumberOfElements, 1);
    KT_EQUAL(List->Elements[0].Address.QuadPart, (MmGetMdlPfnArray(Mdl)[0] << PAGE_SHIFT) + 8);
    KT_EQUAL(Operations->FlushAdapterBuffersEx(Far, Mdl, FarBase, 8, Length, TRUE), STATUS_SUCCESS);
    Operations->FreeAdapterObject(Far, DeallocateObject);
    Operations->FreeAdapterObject(Near, DeallocateObject);
    PutAdapter(Far);
    PutAdapter(Near);
    IoFreeMdl(Mdl);
}

static VOID ListsOfVersion3GoByOffset(VOID)
{
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(40, 3 * PAGE_SIZE, &Pool);
    const PDMA_ADAPTER Adapter = GetAdapter(64, BUFFER_PAGES * PAGE_SIZE);
    UCHAR Contexts[2][DMA_TRANSFER_CONTEXT_SIZE_V1];
    DECLSPEC_ALIGN(8) UCHAR Memory[512];
    PSCATTER_GATHER_LIST List = NULL, Built = NULL;
    RECEIVED Received = {0};
    KT_REQUIRE(Mdl != NULL && Adapter != NULL);
    PDMA_OPERATIONS Operations = Adapter->DmaOperations;
    (VOID) Operations->InitializeDmaTransferContext(Adapter, Contexts[0]);
    (VOID) Operations->InitializeDmaTransferContext(Adapter, Contexts[1]);
    KT_EQUAL(Operations->GetScatterGatherListEx(Adapter, &Device, Contexts[0], Mdl, 100, PAGE_SIZE,
                                                DMA_SYNCHRONOUS_CALLBACK | DMA_ZERO_BUFFERS, NULL,
                                                NULL, FALSE, NULL, NULL, &List),
             STATUS_SUCCESS);
    KT_REQUIRE(List != NULL);
    KT_EQUAL(ListBytes(List), PAGE_SIZE);
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    KT_EQUAL(Operations->BuildScatterGatherListEx(Adapter, &Device, Contexts[1], Mdl, 5000, 3000, 0,
                                                  ReceiveList, &Received, TRUE, Memory,
                                                  sizeof(Memory), NULL, NULL, &Built),
             STATUS_SUCCESS);
    KeLowerIrql(OldIrql);
    KT_EQUAL(Received.List, Memory);
    KT_EQUAL(Built, Memory);
    KT_EQUAL(Operations->GetScatterGatherListEx(Adapter, &Device, Contexts[0], Mdl, 100, PAGE_SIZE,
                                                DMA_SYNCHRONOUS_CALLBACK, NULL, NULL, FALSE, NULL,
                                                NULL, &List),
             STATUS_INVALID_PARAMETER);
    DeviceWritesList(List, 33);
    PutList(Adapter, List, FALSE);
    PutList(Adapter, Built, TRUE);
    KT_EQUAL(CountMismatches(Pool + 140, PAGE_SIZE, 0, 33), 0);
    KT_EQUAL(Operations->GetScatterGatherListEx(Adapter, &Device, Contexts[0], Mdl, 0, PAGE_SIZE, 0,
                                                NULL, NULL, FALSE, NULL, NULL, &List),
             STATUS_INVALID_PARAMETER);
    const NTSTATUS Status = Operations->GetScatterGatherListEx(
        Adapter, &Device, Contexts[0], Mdl, 0, PAGE_SIZE,
        DMA_SYNCHRONOUS_CALLBACK | DMA_FAIL_ON_BOUNCE, NULL, NULL, FALSE, NULL, NULL, &List);
    KT_EQUAL(Status, IsBouncing() ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS);
    if (NT_SUCCESS(Status)) {
        PutList(Adapter, List, FALSE);
    }
    PutAdapter(Adapter);
    FreeBuffer(Mdl, Pool);
}

// A device that is never bounced waits for no pool and for no registers: so a driver may rely on it while it
// holds a spin lock, with as many transfers outstanding as it has buffers for lists.
static VOID AListInTheDriversMemoryNeedsNothing(VOID)
{
    KT_RETAIL_ONLY();
    if (IsBouncing()) {
        KT_SKIP("needs the boot option dma=identity");
    }
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(40, 3 * PAGE_SIZE, &Pool);
    const PDMA_ADAPTER Adapter = GetAdapter(64, 3 * PAGE_SIZE); // four registers a transfer
    UCHAR Contexts[3][DMA_TRANSFER_CONTEXT_SIZE_V1];
    DECLSPEC_ALIGN(8) UCHAR Memory[3][256];
    PSCATTER_GATHER_LIST List[3] = {NULL, NULL, NULL};
    KT_REQUIRE(Mdl != NULL && Adapter != NULL);
    PDMA_OPERATIONS Operations = Adapter->DmaOperations;
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    MmStartFailures(MM_FAIL_ALL, 0, MAXULONG);
    for (ULONG Index = 0; Index < 3; Index += 1) {
        (VOID) Operations->InitializeDmaTransferContext(Adapter, Contexts[Index]);
        KT_EQUAL(Operations->BuildScatterGatherListEx(
                     Adapter, &Device, Contexts[Index], Mdl, Index, 3 * PAGE_SIZE - Index,
                     DMA_SYNCHRONOUS_CALLBACK, NULL, NULL, FALSE, Memory[Index],
                     sizeof(Memory[Index]), NULL, NULL, &List[Index]),
                 STATUS_SUCCESS);
        KT_EQUAL(List[Index], Memory[Index]);
    }
    // A context names one list at a time.
    PSCATTER_GATHER_LIST Other = NULL;
    KT_EQUAL(Operations->BuildScatterGatherListEx(Adapter, &Device, Contexts[0], Mdl, 0, 1,
                                                  DMA_SYNCHRONOUS_CALLBACK, NULL, NULL, FALSE, Pool,
                                                  PAGE_SIZE, NULL, NULL, &Other),
             STATUS_INSUFFICIENT_RESOURCES); // for the long way, which would say why, has no pool
    KT_EQUAL(MmStopFailures(), 1);
    KeLowerIrql(OldIrql);
    KT_EQUAL(IoVerifyDma(), 0);
    for (ULONG Index = 0; Index < 3; Index += 1) {
        KT_EQUAL(ListBytes(List[Index]), 3 * PAGE_SIZE - Index);
        PutList(Adapter, List[Index], FALSE);
    }
    PutAdapter(Adapter);
    FreeBuffer(Mdl, Pool);
}

// However many there are.
static VOID ManyListsInTheDriversMemoryNeedNothing(VOID)
{
    enum { COUNT = 700, LIST_BYTES = 144 };
    KT_RETAIL_ONLY();
    if (IsBouncing()) {
        KT_SKIP("needs the boot option dma=identity");
    }
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(0, PAGE_SIZE, &Pool);
    const PDMA_ADAPTER Adapter = GetAdapter(64, PAGE_SIZE);
    const PUCHAR Contexts =
        ExAllocatePool2(POOL_FLAG_NON_PAGED, COUNT * DMA_TRANSFER_CONTEXT_SIZE_V1, KT_TAG);
    const PUCHAR Memory = ExAllocatePool2(POOL_FLAG_NON_PAGED, COUNT * LIST_BYTES, KT_TAG);
    KT_REQUIRE(Mdl != NULL && Adapter != NULL && Contexts != NULL && Memory != NULL);
    const PDMA_OPERATIONS Operations = Adapter->DmaOperations;
    MmStartFailures(MM_FAIL_ALL, 0, MAXULONG);
    for (ULONG Index = 0; Index < COUNT; Index += 1) {
        const PVOID Context = Contexts + Index * DMA_TRANSFER_CONTEXT_SIZE_V1;
        PSCATTER_GATHER_LIST List = NULL;
        (VOID) Operations->InitializeDmaTransferContext(Adapter, Context);
        KT_EQUAL(Operations->BuildScatterGatherListEx(
                     Adapter, &Device, Context, Mdl, Index, 1, DMA_SYNCHRONOUS_CALLBACK, NULL, NULL,
                     FALSE, Memory + Index * LIST_BYTES, LIST_BYTES, NULL, NULL, &List),
                 STATUS_SUCCESS);
        KT_EQUAL((PUCHAR)List, Memory + Index * LIST_BYTES);
    }
    KT_EQUAL(MmStopFailures(), 0);
    KT_EQUAL(IoVerifyDma(), 0);
    // From the middle, so that both ways of keeping them are taken apart anywhere.
    for (ULONG Index = 0; Index < COUNT; Index += 1) {
        const ULONG Place = (Index + COUNT / 2) * 3 % COUNT;
        const PSCATTER_GATHER_LIST List = (PVOID)(Memory + Place * LIST_BYTES);
        KT_EQUAL((ULONG64)List->Elements[0].Address.QuadPart,
                 (ULONG64)MmGetPhysicalAddress(Pool).QuadPart + Place);
        PutList(Adapter, List, FALSE);
    }
    PutAdapter(Adapter);
    ExFreePoolWithTag(Memory, KT_TAG);
    ExFreePoolWithTag(Contexts, KT_TAG);
    FreeBuffer(Mdl, Pool);
}

static VOID TransferInformationIsExact(VOID)
{
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(40, 3 * PAGE_SIZE, &Pool);
    const PDMA_ADAPTER Adapter = GetAdapter(64, BUFFER_PAGES * PAGE_SIZE);
    DMA_TRANSFER_INFO Information = {.Version = DMA_TRANSFER_INFO_VERSION2};
    RECEIVED Received = {0};
    KT_REQUIRE(Mdl != NULL && Adapter != NULL);
    PDMA_OPERATIONS Operations = Adapter->DmaOperations;
    KT_EQUAL(Operations->GetDmaTransferInfo(Adapter, Mdl, 100, 2 * PAGE_SIZE, TRUE, &Information),
             STATUS_SUCCESS);
    KT_EQUAL(Information.V2.MapRegisterCount, 3);
    ULONG ByteCount = 0;
    KT_EQUAL(Operations->CalculateScatterGatherList(Adapter, Mdl,
                                                    (PUCHAR)MmGetMdlVirtualAddress(Mdl) + 100,
                                                    2 * PAGE_SIZE, &ByteCount, NULL),
             STATUS_SUCCESS);
    KT_EQUAL(Information.V2.ScatterGatherListSize, ByteCount);
    KT_CHECK(ByteCount >= 0x10 + 3 * 0x18);
    KT_EQUAL(Information.V2.LogicalPageCount, 3);
    KT_EQUAL(GetList(Adapter, Mdl, 100, 2 * PAGE_SIZE, TRUE, &Received), STATUS_SUCCESS);
    KT_EQUAL(Information.V2.ScatterGatherElementCount, Received.List->NumberOfElements);
    PutList(Adapter, Received.List, TRUE);
    Information.Version = 3;
    KT_EQUAL(Operations->GetDmaTransferInfo(Adapter, Mdl, 0, PAGE_SIZE, TRUE, &Information),
             STATUS_NOT_SUPPORTED);
    PutAdapter(Adapter);
    FreeBuffer(Mdl, Pool);
}

//
// What the bounce back end makes visible.
//

static VOID ForgottenFlushesAndWrongDirectionsShow(VOID)
{
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(0, PAGE_SIZE, &Pool);
    const PDMA_ADAPTER Adapter = GetAdapter(64, PAGE_SIZE);
    RECEIVED Received = {0};
    if (!IsBouncing()) {
        PutAdapter(Adapter);
        FreeBuffer(Mdl, Pool);
        KT_SKIP("needs the boot option dma=bounce");
    }
    KT_REQUIRE(Mdl != NULL && Adapter != NULL);
    FillBuffer(Pool, PAGE_SIZE, 1);
    KT_EQUAL(GetList(Adapter, Mdl, 0, PAGE_SIZE, FALSE, &Received), STATUS_SUCCESS);
    KT_REQUIRE(Received.Count == 1);
    PHYSICAL_ADDRESS Address = Received.List->Elements[0].Address;
    KT_CHECK((ULONG64)Address.QuadPart != KtPhysicalOf(Pool));
    // A device that reads what was mapped for writing finds no data.
    KT_CHECK(DeviceReads(Address, PAGE_SIZE, 0, 1) > PAGE_SIZE / 2);
    DeviceWritesList(Received.List, 2);
    // Nothing arrives before the flush, and what the processor writes meanwhile is lost.
    KT_EQUAL(CountMismatches(Pool, PAGE_SIZE, 0, 1), 0);
    PutList(Adapter, Received.List, FALSE);
    KT_EQUAL(CountMismatches(Pool, PAGE_SIZE, 0, 2), 0);
    // What a device writes to memory that was mapped for reading is lost.
    KT_EQUAL(GetList(Adapter, Mdl, 0, PAGE_SIZE, TRUE, &Received), STATUS_SUCCESS);
    const PUCHAR Bounce = KtDirectMap((ULONG64)Received.List->Elements[0].Address.QuadPart);
    KT_EQUAL(CountMismatches(Bounce, PAGE_SIZE, 0, 2), 0);
    DeviceWritesList(Received.List, 3);
    PutList(Adapter, Received.List, TRUE);
    KT_EQUAL(CountMismatches(Pool, PAGE_SIZE, 0, 2), 0);
    PutAdapter(Adapter);
    FreeBuffer(Mdl, Pool);
}

static VOID WhatIsFreedUnflushedIsForgotten(VOID)
{
    KT_RETAIL_ONLY();
    PUCHAR Pool;
    const PMDL Mdl = MakeBuffer(0, PAGE_SIZE, &Pool);
    const PDMA_ADAPTER Adapter = GetAdapter(64, PAGE_SIZE);
    RECEIVED Received = {.Action = DeallocateObjectKeepRegisters};
    ULONG Length = PAGE_SIZE;
    KT_REQUIRE(Mdl != NULL && Adapter != NULL);
    KT_EQUAL(AllocateChannel(Adapter, &Device, 2, &Received), STATUS_SUCCESS);
    FillBuffer(Pool, PAGE_SIZE, 1);
    const PHYSICAL_ADDRESS Address =
        IoMapTransfer(Adapter, Mdl, Received.Base, Pool, &Length, FALSE);
    DeviceWrites(Address, PAGE_SIZE, 0, 2);
    IoFlushAdapterBuffers(Adapter, Mdl, Received.Base, Pool + PAGE_SIZE, PAGE_SIZE, FALSE);
    FreeRegisters(Adapter, Received.Base, 2);
    KT_EQUAL(CountMismatches(Pool, PAGE_SIZE, 0, IsBouncing() ? 1 : 2), 0);
    PutAdapter(Adapter);
    FreeBuffer(Mdl, Pool);
}

//
// Quarantine.
//

// Takes all frames that are free, and counts those of Wanted among them.
static ULONG CountFramesAmongFree(const PFN_NUMBER *Wanted, ULONG WantedCount)
{
    const PMDL Mdl = MmAllocatePagesForMdlEx(KtPhysical(0), KtPhysical(MAXLONGLONG), KtPhysical(0),
                                             0xF0000000, MmCached, MM_DONT_ZERO_ALLOCATION);
    ULONG Found = 0;
    if (!KT_CHECK(Mdl != NULL)) {
        return 0;
    }
    for (ULONG Page = 0; Page < MmGetMdlByteCount(Mdl) >> PAGE_SHIFT; Page += 1) {
        for (ULONG Index = 0; Index < WantedCount; Index += 1) {
            Found += MmGetMdlPfnArray(Mdl)[Page] == Wanted[Index] ? 1 : 0;
        }
    }
    KtFreePages(Mdl);
    return Found;
}

static VOID MemoryOfATransferThatNeverEndedStaysAway(VOID)
{
    KT_RETAIL_ONLY();
    const PDMA_ADAPTER Adapter = GetAdapter(64, BUFFER_PAGES * PAGE_SIZE);
    const PMDL Mdl = KtAllocatePages(3);
    RECEIVED Received = {0};
    MM_MEMORY_USE Before, After;
    PHYSICAL_ADDRESS Logical;
    KT_REQUIRE(Adapter != NULL && Mdl != NULL);
    const PVOID Common =
        Adapter->DmaOperations->AllocateCommonBuffer(Adapter, 2 * PAGE_SIZE, &Logical, TRUE);
    KT_REQUIRE(Common != NULL);
    KT_EQUAL(GetList(Adapter, Mdl, 0, 3 * PAGE_SIZE, FALSE, &Received), STATUS_SUCCESS);
    // The device's memory: the list's, wherever that is, and the common buffer's.
    PFN_NUMBER Frames[5];
    ULONG FrameCount = 0;
    for (ULONG Index = 0; Index < Received.List->NumberOfElements; Index += 1) {
        const SCATTER_GATHER_ELEMENT *Element = &Received.List->Elements[Index];
        for (ULONG Page = 0; Page < Element->Length >> PAGE_SHIFT && FrameCount < 3; Page += 1) {
            Frames[FrameCount] = ((ULONG64)Element->Address.QuadPart >> PAGE_SHIFT) + Page;
            FrameCount += 1;
        }
    }
    KT_EQUAL(FrameCount, 3);
    Frames[3] = (ULONG64)Logical.QuadPart >> PAGE_SHIFT;
    Frames[4] = Frames[3] + 1;
    const ULONG64 QuarantinedBefore = IoQuarantinedDmaPages();
    MmQueryMemoryUse(&Before);
    Adapter->DmaOperations->PutDmaAdapter(Adapter); // gives up
    KtFreePages(Mdl);
    MmQueryMemoryUse(&After);
    KT_CHECK(IoQuarantinedDmaPages() >= QuarantinedBefore + 5);
    KT_EQUAL(After.QuarantinedPages - Before.QuarantinedPages, IsBouncing() ? 0 : 3);
    KT_EQUAL(CountFramesAmongFree(Frames, 5), 0);
    KtKeepWhatIsHeld();
}

// At both levels, and with both back ends: what the device knows of goes to nobody, and the driver goes on.
static VOID WhatADeviceMayStillWriteToCanBeHandedOver(VOID)
{
    const PDMA_ADAPTER Adapter = GetAdapter(64, BUFFER_PAGES * PAGE_SIZE);
    const PMDL Mdl = KtAllocatePages(3);
    RECEIVED Received = {0};
    PHYSICAL_ADDRESS Logical;
    KT_REQUIRE(Adapter != NULL && Mdl != NULL);
    const PVOID Common =
        Adapter->DmaOperations->AllocateCommonBuffer(Adapter, 2 * PAGE_SIZE, &Logical, TRUE);
    KT_REQUIRE(Common != NULL);
    KT_EQUAL(GetList(Adapter, Mdl, 0, 3 * PAGE_SIZE, FALSE, &Received), STATUS_SUCCESS);
    KT_REQUIRE(Received.Count == 1);
    PFN_NUMBER Frames[5] = {0};
    ULONG FrameCount = 0;
    for (ULONG Index = 0; Index < Received.List->NumberOfElements; Index += 1) {
        const SCATTER_GATHER_ELEMENT *Element = &Received.List->Elements[Index];
        for (ULONG Page = 0; Page < Element->Length >> PAGE_SHIFT && FrameCount < 3; Page += 1) {
            Frames[FrameCount] = ((ULONG64)Element->Address.QuadPart >> PAGE_SHIFT) + Page;
            FrameCount += 1;
        }
    }
    KT_EQUAL(FrameCount, 3);
    Frames[3] = (ULONG64)Logical.QuadPart >> PAGE_SHIFT;
    Frames[4] = Frames[3] + 1;
    const ULONG64 Before = IoQuarantinedDmaPages();
    IoQuarantineScatterGatherList(Adapter, Received.List);
    IoQuarantineCommonBuffer(Adapter, Common);
    KT_EQUAL(IoQuarantinedDmaPages(), Before + 5);
    KT_EQUAL(IoVerifyDma(), 0);
    // The adapter goes on, and can be released.
    KT_EQUAL(GetList(Adapter, Mdl, 0, PAGE_SIZE, TRUE, &Received), STATUS_SUCCESS);
    PutList(Adapter, Received.List, TRUE);
    PutAdapter(Adapter);
    KtFreePages(Mdl);
    KT_EQUAL(CountFramesAmongFree(Frames, 5), 0);
    KtKeepWhatIsHeld();
}

static VOID APoolBlockInQuarantineIsNotUsedAgain(VOID)
{
    KT_RETAIL_ONLY();
    if (IsBouncing()) {
        KT_SKIP("with dma=bounce the device never sees the block");
    }
    const PDMA_ADAPTER Adapter = GetAdapter(64, PAGE_SIZE);
    const PUCHAR Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 500, KT_TAG);
    const PMDL Mdl = IoAllocateMdl(Block, 500, FALSE, FALSE, NULL);
    RECEIVED Received = {0};
    KT_REQUIRE(Adapter != NULL && Block != NULL && Mdl != NULL);
    MmBuildMdlForNonPagedPool(Mdl);
    KT_EQUAL(GetList(Adapter, Mdl, 0, 500, FALSE, &Received), STATUS_SUCCESS);
    Adapter->DmaOperations->PutDmaAdapter(Adapter);
    IoFreeMdl(Mdl);
    ExFreePoolWithTag(Block, KT_TAG);
    PVOID Others[64];
    for (ULONG Index = 0; Index < ARRAYSIZE(Others); Index += 1) {
        Others[Index] = ExAllocatePool2(POOL_FLAG_NON_PAGED, 500, KT_TAG);
        KT_CHECK(Others[Index] != Block);
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Others); Index += 1) {
        ExFreePoolWithTag(Others[Index], KT_TAG);
    }
    KtKeepWhatIsHeld();
}

//
// A real device: QEMU's edu, which has 28 address bits and a buffer of its own. Its driver, if there is
// one, has nothing to do meanwhile.
//

#define EDU_DMA_SOURCE 0x80
#define EDU_DMA_DESTINATION 0x88
#define EDU_DMA_COUNT 0x90
#define EDU_DMA_COMMAND 0x98
#define EDU_DMA_START 1u
#define EDU_DMA_TO_MEMORY 2u
#define EDU_BUFFER 0x40000
#define EDU_BYTES 3000u
#define EDU_POLLS 5000
#define EDU_POLL_MICROSECONDS 1000

static const IO_PCI_FUNCTION *FindEdu(VOID)
{
    for (const IO_PCI_FUNCTION *Function = IoNextPciFunction(NULL); Function != NULL;
         Function = IoNextPciFunction(Function)) {
        if (Function->VendorId == 0x1234 && Function->DeviceId == 0x11E8) {
            return Function;
        }
    }
    return NULL;
}

static VOID EduWrite(PUCHAR Registers, ULONG Offset, ULONG Value)
{
    WRITE_REGISTER_ULONG((PULONG)(Registers + Offset), Value);
}

// Moves one element of a list; the device's buffer ends behind EDU_BYTES at most.
static BOOLEAN EduMove(PUCHAR Registers, PHYSICAL_ADDRESS Address, ULONG ByteCount, ULONG Place,
                       ULONG Direction)
{
    const ULONG Memory = (ULONG)Address.QuadPart;
    const BOOLEAN IsToMemory = Direction == EDU_DMA_TO_MEMORY;
    EduWrite(Registers, EDU_DMA_SOURCE, IsToMemory ? EDU_BUFFER + Place : Memory);
    EduWrite(Registers, EDU_DMA_DESTINATION, IsToMemory ? Memory : EDU_BUFFER + Place);
    EduWrite(Registers, EDU_DMA_COUNT, ByteCount);
    EduWrite(Registers, EDU_DMA_COMMAND, EDU_DMA_START | Direction);
    for (ULONG Poll = 0; Poll < EDU_POLLS; Poll += 1) {
        if ((READ_REGISTER_ULONG((PULONG)(Registers + EDU_DMA_COMMAND)) & EDU_DMA_START) == 0) {
            return TRUE;
        }
        KeStallExecutionProcessor(EDU_POLL_MICROSECONDS);
    }
    return FALSE;
}

static VOID EduMoveList(PUCHAR Registers, const SCATTER_GATHER_LIST *List, ULONG Direction)
{
    ULONG Place = 0;
    for (ULONG Index = 0; Index < List->NumberOfElements; Index += 1) {
        KT_CHECK(EduMove(Registers, List->Elements[Index].Address, List->Elements[Index].Length,
                         Place, Direction));
        Place += List->Elements[Index].Length;
    }
}

// Out of one buffer and back into another, both out of the device's reach where there is such memory.
static VOID CopyThroughEdu(PUCHAR Registers, PDMA_ADAPTER Adapter, PMDL Mdl)
{
    RECEIVED Received = {0};
    const PUCHAR Page[2] = {KtDirectMap(KtPageAddress(Mdl, 0)), KtDirectMap(KtPageAddress(Mdl, 1))};
    RtlZeroMemory(Page[0], PAGE_SIZE);
    RtlZeroMemory(Page[1], PAGE_SIZE);
    FillBuffer(Page[0] + 500, EDU_BYTES, 17);
    KT_EQUAL(GetList(Adapter, Mdl, 500, EDU_BYTES, TRUE, &Received), STATUS_SUCCESS);
    EduMoveList(Registers, Received.List, 0);
    PutList(Adapter, Received.List, TRUE);
    const ULONG Offset = PAGE_SIZE + 100;
    KT_EQUAL(GetList(Adapter, Mdl, Offset, EDU_BYTES, FALSE, &Received), STATUS_SUCCESS);
    EduMoveList(Registers, Received.List, EDU_DMA_TO_MEMORY);
    PutList(Adapter, Received.List, FALSE);
    KT_EQUAL(CountMismatches(Page[1] + 100, EDU_BYTES, 0, 17), 0);
    KT_EQUAL(Page[1][99], 0);
    KT_EQUAL(Page[1][100 + EDU_BYTES], 0);
}

static VOID ARealDeviceMovesData(VOID)
{
    const IO_PCI_FUNCTION *Edu = FindEdu();
    if (Edu == NULL) {
        KT_SKIP("there is no edu device");
    }
    USHORT Command = PCI_ENABLE_MEMORY_SPACE | PCI_ENABLE_BUS_MASTER;
    PCI_SLOT_NUMBER Slot = {.u.bits.DeviceNumber = Edu->Device};
    HalSetBusDataByOffset(PCIConfiguration, Edu->Bus, Slot.u.AsULONG, &Command,
                          FIELD_OFFSET(PCI_COMMON_HEADER, Command), sizeof(Command));
    const PUCHAR Registers =
        MmMapIoSpaceEx(KtPhysical(Edu->Bars[0].Base), 0x100000, PAGE_READWRITE | PAGE_NOCACHE);
    const PDMA_ADAPTER Adapter = GetAdapter(LIMIT_BITS, PAGE_SIZE);
    const PMDL High = AllocateHighPages(2);
    const PMDL Mdl = High != NULL ? High : KtAllocatePages(2);
    KT_REQUIRE(Registers != NULL && Adapter != NULL && Mdl != NULL);
    CopyThroughEdu(Registers, Adapter, Mdl);
    KtFreePages(Mdl);
    PutAdapter(Adapter);
    MmUnmapIoSpace(Registers, 0x100000);
}

//
// Failures.
//

typedef BOOLEAN SCENARIO(VOID); // whether it succeeded; undone

static BOOLEAN MakeAdapter(ULONG AddressBits, BOOLEAN ScatterGather)
{
    const PDMA_ADAPTER Adapter = ScatterGather ? GetAdapter(AddressBits, 4 * PAGE_SIZE)
                                               : GetSimpleAdapter(AddressBits, 4 * PAGE_SIZE);
    if (Adapter != NULL) {
        Adapter->DmaOperations->PutDmaAdapter(Adapter);
    }
    return Adapter != NULL;
}

static BOOLEAN MakeFarAdapter(VOID)
{
    return MakeAdapter(64, TRUE);
}

static BOOLEAN MakeNearAdapter(VOID)
{
    return MakeAdapter(28, TRUE);
}

static BOOLEAN MakeSimpleAdapter(VOID)
{
    return MakeAdapter(32, FALSE);
}

static PDMA_ADAPTER FailureAdapter;
static PMDL FailureMdl;

static BOOLEAN MakeCommonBuffer(VOID)
{
    PHYSICAL_ADDRESS Logical;
    const PVOID Va = FailureAdapter->DmaOperations->AllocateCommonBufferEx(
        FailureAdapter, NULL, 5000, &Logical, FALSE, MM_ANY_NODE_OK);
    if (Va != NULL) {
        FailureAdapter->DmaOperations->FreeCommonBuffer(FailureAdapter, 5000, Logical, Va, FALSE);
    }
    return Va != NULL;
}

// One list more than the adapter has memory for.
static BOOLEAN MakeLists(VOID)
{
    RECEIVED Received[3] = {{0}};
    NTSTATUS Status = STATUS_SUCCESS;
    for (ULONG Index = 0; Index < ARRAYSIZE(Received) && NT_SUCCESS(Status); Index += 1) {
        Status = GetList(FailureAdapter, FailureMdl, 0, PAGE_SIZE, TRUE, &Received[Index]);
        KT_EQUAL(NT_SUCCESS(Status), Received[Index].Count);
        KT_CHECK(NT_SUCCESS(Status) || Status == STATUS_INSUFFICIENT_RESOURCES);
    }
    for (ULONG Index = 0; Index < ARRAYSIZE(Received); Index += 1) {
        if (Received[Index].Count != 0) {
            PutList(FailureAdapter, Received[Index].List, TRUE);
        }
    }
    return NT_SUCCESS(Status);
}

static BOOLEAN MakeChannel(VOID)
{
    RECEIVED Received = {.Action = DeallocateObject};
    const NTSTATUS Status = AllocateChannel(FailureAdapter, &Device, 2, &Received);
    KT_EQUAL(NT_SUCCESS(Status), Received.Count);
    return NT_SUCCESS(Status);
}

static BOOLEAN MakeChannelEx(VOID)
{
    UCHAR Context[DMA_TRANSFER_CONTEXT_SIZE_V1];
    RECEIVED Received = {.Action = DeallocateObject};
    (VOID) FailureAdapter->DmaOperations->InitializeDmaTransferContext(FailureAdapter, Context);
    return NT_SUCCESS(AllocateEx(FailureAdapter, Context, 2, 0, &Received, NULL));
}

static BOOLEAN MakeMdlOfList(VOID)
{
    RECEIVED Received = {0};
    PMDL Target = NULL;
    if (!NT_SUCCESS(GetList(FailureAdapter, FailureMdl, 0, PAGE_SIZE, TRUE, &Received))) {
        return FALSE;
    }
    const NTSTATUS Status = FailureAdapter->DmaOperations->BuildMdlFromScatterGatherList(
        FailureAdapter, Received.List, FailureMdl, &Target);
    if (NT_SUCCESS(Status) && Target != FailureMdl) {
        IoFreeMdl(Target);
    }
    PutList(FailureAdapter, Received.List, TRUE);
    return NT_SUCCESS(Status);
}

static VOID EveryAllocationMayFail(VOID)
{
    static SCENARIO *const Scenarios[] = {MakeFarAdapter,   MakeNearAdapter, MakeSimpleAdapter,
                                          MakeCommonBuffer, MakeLists,       MakeChannel,
                                          MakeChannelEx,    MakeMdlOfList};
    PUCHAR Pool;
    FailureMdl = MakeBuffer(0, 4 * PAGE_SIZE, &Pool);
    FailureAdapter = GetAdapter(64, 4 * PAGE_SIZE);
    KT_REQUIRE(FailureMdl != NULL && FailureAdapter != NULL);
    for (ULONG Row = 0; Row < ARRAYSIZE(Scenarios); Row += 1) {
        ULONG Failures = 1;
        KtSetContext("scenario %u", Row);
        for (ULONG Skip = 0; Failures != 0 && Skip < 100; Skip += 1) {
            MM_MEMORY_USE Before;
            MmQueryMemoryUse(&Before);
            MmStartFailures(MM_FAIL_ALL, Skip, 1);
            const BOOLEAN IsDone = Scenarios[Row]();
            Failures = MmStopFailures();
            KT_CHECK(IsDone || Failures != 0);
            KT_EQUAL(KtCountLeaks(&Before), 0);
            KT_EQUAL(IoVerifyDma(), 0);
        }
        KT_EQUAL(Failures, 0);
    }
    PutAdapter(FailureAdapter);
    FreeBuffer(FailureMdl, Pool);
}

static NTSTATUS NTAPI KeepIrp(PDEVICE_OBJECT DeviceObject, PIRP Irp, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static VOID TheBusGivesAdapters(VOID)
{
    DEVICE_DESCRIPTION Description = DescribeDevice(DEVICE_DESCRIPTION_VERSION2, 32, PAGE_SIZE);
    const PDMA_ADAPTER Adapter = GetAdapter(64, PAGE_SIZE);
    ULONG RegisterCount = 0;
    KT_REQUIRE(Adapter != NULL);
    IoPrintDma();
    PutAdapter(Adapter);
    const IO_PCI_FUNCTION *Function = IoNextPciFunction(NULL);
    if (Function == NULL) {
        KT_SKIP("there is no PCI device");
    }
    BUS_INTERFACE_STANDARD Interface = {0};
    const PIRP Irp = IoAllocateIrp(Function->Pdo->StackSize, FALSE);
    KT_REQUIRE(Irp != NULL);
    const PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    static const GUID BusInterface = {
        0x496B8280, 0x6F25, 0x11D0, {0xBE, 0xAF, 0x08, 0x00, 0x2B, 0xE2, 0x09, 0x2F}};
    Irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
    Stack->MajorFunction = IRP_MJ_PNP;
    Stack->MinorFunction = IRP_MN_QUERY_INTERFACE;
    Stack->Parameters.QueryInterface.InterfaceType = &BusInterface;
    Stack->Parameters.QueryInterface.Size = sizeof(Interface);
    Stack->Parameters.QueryInterface.Version = PCI_BUS_INTERFACE_STANDARD_VERSION;
    Stack->Parameters.QueryInterface.Interface = (PINTERFACE)&Interface;
    IoSetCompletionRoutine(Irp, KeepIrp, NULL, TRUE, TRUE, TRUE);
    KT_EQUAL(IoCallDriver(Function->Pdo, Irp), STATUS_SUCCESS);
    IoFreeIrp(Irp);
    KT_REQUIRE(Interface.GetDmaAdapter != NULL);
    const PDMA_ADAPTER OfBus =
        Interface.GetDmaAdapter(Interface.Context, &Description, &RegisterCount);
    KT_REQUIRE(OfBus != NULL);
    KT_EQUAL(OfBus->DmaOperations->Size, 0x80);
    KT_EQUAL(RegisterCount, 2);
    PutAdapter(OfBus);
    Interface.InterfaceDereference(Interface.Context);
}

static const KT_TEST Tests[] = {
    {"An adapter has the operations of its description's version [9.2.1, 18.25]",
     EveryVersionHasItsTable},
    {"A device that cannot be is refused an adapter [9.2.2]", WhatCannotBeIsRefused},
    {"An unknown version is refused; HalGetAdapter still works [9.2.2]", AnUnknownVersionIsRefused},
    {"Map registers suffice for the longest transfer, or are fewer [9.2.3]",
     RegistersSufficeForTheLongestTransfer},
    {"A device reaches what its description says [9.2.5, 9.3.10]",
     AddressBitsAreThoseOfTheDescription},
    {"The bus interface gives adapters, too; the report prints [9.2.4]", TheBusGivesAdapters},
    {"What the machine has not is refused as documented [9.3.9, 9.8.1]",
     WhatTheMachineHasNotIsNotSupported},
    {"Common buffers lie within the device's reach, and both see them [9.3.1]",
     CommonBuffersKeepTheDevicesLimit},
    {"Common buffers of version 3 have a limit and a cache type [9.3.2]",
     CommonBuffersHaveTheTypeAskedFor},
    {"Common buffers may have a lower bound, too [9.3.3]", CommonBuffersKeepBothBounds},
    {"A list covers the bytes and no others, both ways [9.4.1, 9.4.2, 18.25]",
     ListsCoverTheBytesAndNoOthers},
    {"A chain of MDLs is one transfer [9.4.4]", ChainsAreOneTransfer},
    {"Adjacent pages become one element [9.4.1, 9.7.1]", AdjacentPagesAreOneElement},
    {"Runs of pages are elements, in an MDL and from one to the next [9.4.1, 9.4.4]",
     RunsAreElementsAcrossMdls},
    {"Several lists of a device may be outstanding [9.4.3]", SeveralListsMayBeOut},
    {"Who waits for registers is served in order of arrival [9.3.6, 9.4.2]",
     WaitingRequestsAreServedInOrder},
    {"A list that cannot be is refused with the documented status [9.4.5]",
     ListsRefuseWhatTheyCannotMap},
    {"A device without scatter/gather gets one element [9.4.6]", ADeviceThatTakesOnePieceGetsOne},
    {"Odd pieces of a chain lie end to end for such a device [9.4.6]", APieceOfAChainLiesEndToEnd},
    {"What a device cannot reach goes by bounce pages [9.4.7, 18.25]",
     WhatTheDeviceCannotReachIsBounced},
    {"Memory of devices goes straight, or not at all [9.4.7]", MemoryOfDevicesIsReachedOrRefused},
    {"A list can be built in the driver's memory [9.4.8]", ListsCanBeBuiltInTheDriversMemory},
    {"A list can become an MDL, once [9.3.13]", AListCanBecomeAnMdl},
    {"The routine's result says what the driver keeps [9.3.4, 9.3.5]",
     TheActionSaysWhatTheDriverKeeps},
    {"A channel is one device's at a time, and lists need none [9.3.6]",
     AChannelIsOneDevicesAtATime},
    {"More registers than the adapter has are refused [9.3.4]",
     MoreRegistersThanThereAreAreRefused},
    {"MapTransfer maps one piece after the other, a flush ends all [9.3.7, 9.3.8]",
     MapTransferGoesPieceByPiece},
    {"MapTransfer gives a device without scatter/gather one piece [9.3.7]",
     MapTransferGivesOnePieceToASimpleDevice},
    {"AllocateAdapterChannelEx follows the table of synchronous requests [9.5.1]",
     TheTableOfSynchronousRequestsHolds},
    {"A synchronous request fails rather than waits; one that waits can be taken back "
     "[9.3.12, 9.5.2, 9.5.3]",
     SynchronousRequestsDoNotWait},
    {"MapTransferEx maps what it can, and the rest later [9.6.1, 9.6.4, 9.6.5, 18.25]",
     MapTransferExMakesProgress},
    {"MapTransferEx takes memory of devices, and refuses what it cannot do [9.6.2, 9.6.3]",
     MapTransferExRefusesWhatItCannot},
    {"Lists of version 3 go by offset, with flags [9.4.9]", ListsOfVersion3GoByOffset},
    {"Many lists in the driver's memory need no pool either [9.4.11]",
     ManyListsInTheDriversMemoryNeedNothing},
    {"A list in the driver's memory needs no pool and waits for nothing [9.4.11]",
     AListInTheDriversMemoryNeedsNothing},
    {"GetDmaTransferInfo says what a transfer needs [9.3.11]", TransferInformationIsExact},
    {"With dma=bounce, data arrive with the flush, in their direction only [9.7.2, 9.7.3, 18.25]",
     ForgottenFlushesAndWrongDirectionsShow},
    {"What is freed without a flush is forgotten at level 0 [9.7.2]",
     WhatIsFreedUnflushedIsForgotten},
    {"Memory of a transfer that never ended is never used again [9.7.4]",
     MemoryOfATransferThatNeverEndedStaysAway},
    {"What a device may still write to can be handed over [9.7.5]",
     WhatADeviceMayStillWriteToCanBeHandedOver},
    {"A small pool block in quarantine is not given out again [9.7.4]",
     APoolBlockInQuarantineIsNotUsedAgain},
    {"A real device of 28 address bits moves data out and back [9.4.1, 9.4.7]",
     ARealDeviceMovesData},
    {"Every allocation may fail, and nothing is lost [9.3.14]", EveryAllocationMayFail},
};

const KT_SUITE KtDmaSuite = {"dma", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
