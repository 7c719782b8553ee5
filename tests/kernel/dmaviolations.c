// What the verifier finds about DMA, and what stops the machine at every level: one boot each, as in
// violations.c, which finds these tests by name.
#include "kernel/inc/io.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/misuse.h"

#define REGISTERS 4
#define BUFFER_BYTES (2 * PAGE_SIZE)

static DEVICE_OBJECT Device;
static PDMA_ADAPTER Adapter;
static PMDL Mdl;
static PUCHAR Buffer;
static PSCATTER_GATHER_LIST List;
static PVOID Base;
static IO_ALLOCATION_ACTION Action;

static VOID NTAPI ReceiveList(PDEVICE_OBJECT DeviceObject, PIRP Irp, PSCATTER_GATHER_LIST Received,
                              PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    List = Received;
}

static IO_ALLOCATION_ACTION NTAPI ReceiveChannel(PDEVICE_OBJECT DeviceObject, PIRP Irp,
                                                 PVOID MapRegisterBase, PVOID Context)
{
    UNREFERENCED_PARAMETER(DeviceObject);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    Base = MapRegisterBase;
    return Action;
}

// An adapter of four registers, and a buffer of two pages. Adapter stays NULL when that fails, which
// ends in another bug check than the expected one.
static VOID Prepare(ULONG AddressBits)
{
    DEVICE_DESCRIPTION Description = {
        .Version = DEVICE_DESCRIPTION_VERSION3,
        .Master = TRUE,
        .ScatterGather = TRUE,
        .InterfaceType = PCIBus,
        .MaximumLength = (REGISTERS - 1) * PAGE_SIZE,
        .DmaAddressWidth = AddressBits,
    };
    ULONG RegisterCount;
    Adapter = IoGetDmaAdapter(&Device, &Description, &RegisterCount);
    Buffer = ExAllocatePool2(POOL_FLAG_NON_PAGED, BUFFER_BYTES, KT_TAG);
    Mdl = IoAllocateMdl(Buffer, BUFFER_BYTES, FALSE, FALSE, NULL);
    if (Mdl != NULL) {
        MmBuildMdlForNonPagedPool(Mdl);
    }
}

static VOID GetList(LONG64 Offset, ULONG Length)
{
    (VOID) KeRaiseIrqlToDpcLevel();
    (VOID) !Adapter->DmaOperations->GetScatterGatherList(Adapter, &Device, Mdl, Buffer + Offset,
                                                         Length, ReceiveList, NULL, FALSE);
    KeLowerIrql(PASSIVE_LEVEL);
}

static VOID PutList(BOOLEAN WriteToDevice)
{
    (VOID) KeRaiseIrqlToDpcLevel();
    Adapter->DmaOperations->PutScatterGatherList(Adapter, List, WriteToDevice);
    KeLowerIrql(PASSIVE_LEVEL);
}

static VOID AllocateChannel(ULONG RegisterCount, IO_ALLOCATION_ACTION Answer)
{
    Action = Answer;
    (VOID) KeRaiseIrqlToDpcLevel();
    (VOID) !Adapter->DmaOperations->AllocateAdapterChannel(Adapter, &Device, RegisterCount,
                                                           ReceiveChannel, NULL);
    KeLowerIrql(PASSIVE_LEVEL);
}

static VOID Map(ULONG Offset, ULONG Length)
{
    (VOID) Adapter->DmaOperations->MapTransfer(Adapter, Mdl, Base, Buffer + Offset, &Length, FALSE);
}

static VOID MapEx(ULONG Offset, ULONG Length)
{
    UCHAR Memory[0x10 + 4 * 0x18];
    (VOID) !Adapter->DmaOperations->MapTransferEx(Adapter, Mdl, Base, Offset, 0, &Length, FALSE,
                                                  (PSCATTER_GATHER_LIST)Memory, sizeof(Memory),
                                                  NULL, NULL);
}

static VOID Flush(ULONG Offset, ULONG Length, BOOLEAN WriteToDevice)
{
    Adapter->DmaOperations->FlushAdapterBuffers(Adapter, Mdl, Base, Buffer + Offset, Length,
                                                WriteToDevice);
}

static VOID FreeChannel(VOID)
{
    (VOID) KeRaiseIrqlToDpcLevel();
    Adapter->DmaOperations->FreeAdapterChannel(Adapter);
    KeLowerIrql(PASSIVE_LEVEL);
}

static VOID FreeRegisters(ULONG RegisterCount)
{
    (VOID) KeRaiseIrqlToDpcLevel();
    Adapter->DmaOperations->FreeMapRegisters(Adapter, Base, RegisterCount);
    KeLowerIrql(PASSIVE_LEVEL);
}

//
// Misuses.
//

static VOID DmaFlushTooMuch(VOID)
{
    Prepare(64);
    AllocateChannel(2, KeepObject);
    Map(PAGE_SIZE, PAGE_SIZE);
    Flush(PAGE_SIZE, PAGE_SIZE + 1, FALSE);
}

static VOID DmaMapTooMuch(VOID)
{
    Prepare(64);
    AllocateChannel(1, KeepObject);
    Map(0, 100);
    Map(PAGE_SIZE, PAGE_SIZE);
}

static VOID DmaFreeBufferTwice(VOID)
{
    PHYSICAL_ADDRESS Logical;
    Prepare(64);
    const PVOID Va =
        Adapter->DmaOperations->AllocateCommonBuffer(Adapter, PAGE_SIZE, &Logical, TRUE);
    AnnouncePointer(3, Va);
    AnnouncePointer(4, Adapter);
    Adapter->DmaOperations->FreeCommonBuffer(Adapter, PAGE_SIZE, Logical, Va, TRUE);
    Adapter->DmaOperations->FreeCommonBuffer(Adapter, PAGE_SIZE, Logical, Va, TRUE);
}

static VOID DmaFreeBufferOfOtherLength(VOID)
{
    PHYSICAL_ADDRESS Logical;
    Prepare(64);
    const PVOID Va = Adapter->DmaOperations->AllocateCommonBuffer(Adapter, 1000, &Logical, TRUE);
    Adapter->DmaOperations->FreeCommonBuffer(Adapter, 1001, Logical, Va, TRUE);
}

static VOID DmaFreeChannelTwice(VOID)
{
    Prepare(64);
    AllocateChannel(1, KeepObject);
    FreeChannel();
    AnnouncePointer(2, Adapter);
    FreeChannel();
}

static VOID DmaFreeRegistersTwice(VOID)
{
    Prepare(64);
    AllocateChannel(1, DeallocateObjectKeepRegisters);
    AnnouncePointer(2, Base);
    AnnouncePointer(3, Adapter);
    FreeRegisters(1);
    FreeRegisters(1);
}

static VOID DmaPutListTwice(VOID)
{
    Prepare(64);
    GetList(0, PAGE_SIZE);
    AnnouncePointer(3, List);
    AnnouncePointer(4, Adapter);
    PutList(FALSE);
    PutList(FALSE);
}

static VOID DmaPutWithBuffer(VOID)
{
    PHYSICAL_ADDRESS Logical;
    Prepare(64);
    (VOID) !Adapter->DmaOperations->AllocateCommonBuffer(Adapter, PAGE_SIZE, &Logical, TRUE);
    AnnouncePointer(2, Adapter);
    Adapter->DmaOperations->PutDmaAdapter(Adapter);
}

static VOID DmaPutWithChannel(VOID)
{
    Prepare(64);
    AllocateChannel(1, KeepObject);
    AnnouncePointer(2, Adapter);
    Adapter->DmaOperations->PutDmaAdapter(Adapter);
}

static VOID DmaPutWithRegisters(VOID)
{
    Prepare(64);
    AllocateChannel(1, DeallocateObjectKeepRegisters);
    AllocateChannel(1, DeallocateObjectKeepRegisters);
    AnnouncePointer(2, Adapter);
    Adapter->DmaOperations->PutDmaAdapter(Adapter);
}

static VOID DmaPutWithList(VOID)
{
    Prepare(64);
    GetList(0, PAGE_SIZE);
    AnnouncePointer(2, Adapter);
    Adapter->DmaOperations->PutDmaAdapter(Adapter);
}

static VOID DmaPutWithRequest(VOID)
{
    static DEVICE_OBJECT Second;
    Prepare(64);
    AllocateChannel(1, KeepObject);
    (VOID) KeRaiseIrqlToDpcLevel();
    (VOID) !Adapter->DmaOperations->AllocateAdapterChannel(Adapter, &Second, 1, ReceiveChannel,
                                                           NULL);
    KeLowerIrql(PASSIVE_LEVEL);
    AnnouncePointer(2, Adapter);
    Adapter->DmaOperations->PutDmaAdapter(Adapter);
}

static VOID DmaAllocateChannelTwice(VOID)
{
    Prepare(64);
    AllocateChannel(1, KeepObject);
    AnnouncePointer(3, &Device);
    AnnouncePointer(4, Adapter);
    AllocateChannel(1, KeepObject);
}

static VOID DmaAllocateTooManyRegisters(VOID)
{
    Prepare(64);
    AnnouncePointer(4, Adapter);
    AllocateChannel(REGISTERS + 1, KeepObject);
}

static VOID DmaListOfTooManyPages(VOID)
{
    Prepare(64);
    Mdl = KtAllocatePages(REGISTERS + 1);
    NEED(Mdl != NULL);
    Buffer = NULL; // the MDL begins at address 0
    AnnouncePointer(4, Adapter);
    GetList(0, (REGISTERS + 1) * PAGE_SIZE);
}

static VOID DmaFreeChannelUnflushed(VOID)
{
    Prepare(64);
    AllocateChannel(2, KeepObject);
    Map(0, 100);
    AnnouncePointer(4, Base);
    FreeChannel();
}

static VOID DmaMapExUnflushed(VOID)
{
    Prepare(64);
    AllocateChannel(2, KeepObject);
    AnnouncePointer(4, Base);
    MapEx(0, 100);
    MapEx(100, 100);
}

static VOID DmaMapUnlocked(VOID)
{
    Prepare(64);
    Mdl = IoAllocateMdl(Buffer, BUFFER_BYTES, FALSE, FALSE, NULL);
    AnnouncePointer(2, Mdl);
    GetList(0, PAGE_SIZE);
}

// The five places that no device may write to.
static VOID WriteBeside(ULONG64 Address, UCHAR Value)
{
    *(volatile UCHAR *)KtDirectMap(Address) = Value;
}

static VOID DmaWriteBeforeBuffer(VOID)
{
    PHYSICAL_ADDRESS Logical;
    Prepare(64);
    const PVOID Va =
        Adapter->DmaOperations->AllocateCommonBuffer(Adapter, PAGE_SIZE, &Logical, TRUE);
    WriteBeside((ULONG64)Logical.QuadPart - 1, 0xEE);
    Announce(3, (ULONG64)Va - 1);
    Adapter->DmaOperations->FreeCommonBuffer(Adapter, PAGE_SIZE, Logical, Va, TRUE);
}

static VOID DmaWriteBehindBuffer(VOID)
{
    PHYSICAL_ADDRESS Logical;
    Prepare(64);
    const PVOID Va =
        Adapter->DmaOperations->AllocateCommonBuffer(Adapter, PAGE_SIZE, &Logical, TRUE);
    WriteBeside((ULONG64)Logical.QuadPart + PAGE_SIZE, 0xEE);
    Announce(3, (ULONG64)Va + PAGE_SIZE);
    Adapter->DmaOperations->FreeCommonBuffer(Adapter, PAGE_SIZE, Logical, Va, TRUE);
}

static VOID DmaWriteFreeRegister(VOID)
{
    Prepare(64);
    GetList(0, PAGE_SIZE);
    const ULONG64 Logical = (ULONG64)List->Elements[0].Address.QuadPart;
    PutList(FALSE);
    WriteBeside(Logical + 5, 0xEE);
    GetList(0, PAGE_SIZE);
}

static VOID DmaWriteBeforeData(VOID)
{
    Prepare(64);
    GetList(100, 200);
    WriteBeside((ULONG64)List->Elements[0].Address.QuadPart - 1, 0xEE);
    PutList(FALSE);
}

static VOID DmaWriteBehindData(VOID)
{
    Prepare(64);
    GetList(100, 200);
    WriteBeside((ULONG64)List->Elements[0].Address.QuadPart + 200, 0xEE);
    PutList(FALSE);
}

static VOID DmaFreeRegistersMapped(VOID)
{
    Prepare(64);
    AllocateChannel(2, DeallocateObjectKeepRegisters);
    Map(0, 100);
    AnnouncePointer(4, Base);
    FreeRegisters(2);
}

static VOID DmaGetListAtPassive(VOID)
{
    Prepare(64);
    (VOID) !Adapter->DmaOperations->GetScatterGatherList(Adapter, &Device, Mdl, Buffer, PAGE_SIZE,
                                                         ReceiveList, NULL, FALSE);
}

static VOID DmaPutAtHighLevel(VOID)
{
    KIRQL OldIrql;
    Prepare(64);
    KeRaiseIrql(HIGH_LEVEL, &OldIrql);
    Adapter->DmaOperations->PutDmaAdapter(Adapter);
}

static VOID DmaFlushUnmapped(VOID)
{
    Prepare(64);
    AllocateChannel(2, KeepObject);
    AnnouncePointer(2, Base);
    AnnouncePointer(3, Mdl);
    Flush(0, PAGE_SIZE, FALSE);
}

static VOID DmaFlushOtherDirection(VOID)
{
    Prepare(64);
    AllocateChannel(2, KeepObject);
    AnnouncePointer(2, Base);
    AnnouncePointer(3, Mdl);
    Map(0, PAGE_SIZE);
    Flush(0, PAGE_SIZE, TRUE);
}

static VOID DmaPutListOtherDirection(VOID)
{
    Prepare(64);
    GetList(0, PAGE_SIZE);
    AnnouncePointer(2, List);
    AnnouncePointer(3, Mdl);
    PutList(TRUE);
}

static VOID DmaUseReleasedAdapter(VOID)
{
    PHYSICAL_ADDRESS Logical;
    Prepare(64);
    PDMA_OPERATIONS Operations = Adapter->DmaOperations;
    AnnouncePointer(2, Adapter);
    Operations->PutDmaAdapter(Adapter);
    (VOID) !Operations->AllocateCommonBuffer(Adapter, PAGE_SIZE, &Logical, TRUE);
}

static VOID DmaUseNoAdapter(VOID)
{
    Prepare(64);
    (VOID) Adapter->DmaOperations->ReadDmaCounter(NULL);
}

static VOID DmaMapOutside(VOID)
{
    Prepare(64);
    AllocateChannel(2, KeepObject);
    Announce(2, (ULONG64)Buffer + BUFFER_BYTES);
    AnnouncePointer(3, Mdl);
    Map(BUFFER_BYTES, 1);
}

static VOID DmaMapTwice(VOID)
{
    Prepare(64);
    AllocateChannel(REGISTERS, KeepObject);
    Map(0, 200);
    Announce(2, (ULONG64)Buffer);
    Announce(3, (ULONG64)Buffer + 200);
    Announce(4, (ULONG64)Buffer + 100);
    Map(100, 200);
}

static VOID DmaGetObsoleteAdapter(VOID)
{
    DEVICE_DESCRIPTION Description = {.Master = TRUE, .MaximumLength = PAGE_SIZE};
    ULONG RegisterCount;
    AnnouncePointer(2, &Description);
    (VOID) !HalGetAdapter(&Description, &RegisterCount);
}

static VOID DmaListBefore(VOID)
{
    Prepare(64);
    Announce(3, (ULONG64)Buffer - 1);
    AnnouncePointer(4, Mdl);
    GetList(-1, 1);
}

static VOID DmaListBehind(VOID)
{
    Prepare(64);
    Announce(3, (ULONG64)Buffer + PAGE_SIZE);
    AnnouncePointer(4, Mdl);
    GetList(PAGE_SIZE, PAGE_SIZE + 1);
}

static VOID DmaMapNoBytes(VOID)
{
    Prepare(64);
    AnnouncePointer(2, Mdl);
    Announce(3, (ULONG64)Buffer);
    GetList(0, 0);
}

static VOID DmaFlushForeignBase(VOID)
{
    Prepare(64);
    Base = &Device;
    AnnouncePointer(2, Base);
    AnnouncePointer(3, Adapter);
    Flush(0, PAGE_SIZE, FALSE);
}

static VOID DmaMapExBeyond(VOID)
{
    Prepare(64);
    AllocateChannel(2, KeepObject);
    AnnouncePointer(3, Mdl);
    MapEx(PAGE_SIZE, PAGE_SIZE + 1);
}

static VOID DmaUnknownVersion(VOID)
{
    DEVICE_DESCRIPTION Description = {.Version = 4, .Master = TRUE, .MaximumLength = PAGE_SIZE};
    ULONG RegisterCount;
    AnnouncePointer(3, &Description);
    (VOID) !IoGetDmaAdapter(&Device, &Description, &RegisterCount);
}

static const MISUSE_TEST Tests[] = {
    MISUSE(DmaFlushTooMuch),
    MISUSE(DmaMapTooMuch),
    MISUSE(DmaFreeBufferTwice),
    MISUSE(DmaFreeBufferOfOtherLength),
    MISUSE(DmaFreeChannelTwice),
    MISUSE(DmaFreeRegistersTwice),
    MISUSE(DmaPutListTwice),
    MISUSE(DmaPutWithBuffer),
    MISUSE(DmaPutWithChannel),
    MISUSE(DmaPutWithRegisters),
    MISUSE(DmaPutWithList),
    MISUSE(DmaPutWithRequest),
    MISUSE(DmaAllocateChannelTwice),
    MISUSE(DmaAllocateTooManyRegisters),
    MISUSE(DmaListOfTooManyPages),
    MISUSE(DmaFreeChannelUnflushed),
    MISUSE(DmaMapExUnflushed),
    MISUSE(DmaMapUnlocked),
    MISUSE(DmaWriteBeforeBuffer),
    MISUSE(DmaWriteBehindBuffer),
    MISUSE(DmaWriteFreeRegister),
    MISUSE(DmaWriteBeforeData),
    MISUSE(DmaWriteBehindData),
    MISUSE(DmaFreeRegistersMapped),
    MISUSE(DmaGetListAtPassive),
    MISUSE(DmaPutAtHighLevel),
    MISUSE(DmaFlushUnmapped),
    MISUSE(DmaFlushOtherDirection),
    MISUSE(DmaPutListOtherDirection),
    MISUSE(DmaUseReleasedAdapter),
    MISUSE(DmaUseNoAdapter),
    MISUSE(DmaMapOutside),
    MISUSE(DmaMapTwice),
    MISUSE(DmaGetObsoleteAdapter),
    MISUSE(DmaListBefore),
    MISUSE(DmaListBehind),
    MISUSE(DmaMapNoBytes),
    MISUSE(DmaFlushForeignBase),
    MISUSE(DmaMapExBeyond),
    MISUSE(DmaUnknownVersion),
};

// Those that stop the machine at level 0, too, are also run there, by the name with "AtLevel0" behind.
BOOLEAN KtRunDmaViolation(PCSTR Name)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(Tests); Index += 1) {
        if (RtlStringStartsWith(Name, Tests[Index].Name) &&
            (RtlStringsEqual(Name, Tests[Index].Name) ||
             RtlStringsEqual(Name + RtlStringLength(Tests[Index].Name), "AtLevel0"))) {
            Tests[Index].Routine();
            return TRUE;
        }
    }
    return FALSE;
}
