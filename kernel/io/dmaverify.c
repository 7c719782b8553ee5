// What the verifier finds about DMA, and what is told of it: 0xE6, leaks, the report for people.
//
// What would make the kernel touch memory that is not its own stops at every level: an adapter that is
// none, a list or registers that are freed twice. All else stops at level 1 only.
#include "kernel/io/dma.h"

#define IOP_DMA_SENTENCE_BYTES 320
#define IOP_DMA_TAG_TEXT "DmaVrfy0"
#define IOP_MILLISECONDS 1000

typedef struct _IOP_DMA_RULE {
    PCSTR Name;
    KIRQL Lowest;
    KIRQL Highest;
} IOP_DMA_RULE;

static const IOP_DMA_RULE IopDmaRules[] = {
    [IopDmaPut] = {"PutDmaAdapter", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaAllocateBuffer] = {"AllocateCommonBuffer", PASSIVE_LEVEL, PASSIVE_LEVEL},
    [IopDmaAllocateBufferEx] = {"AllocateCommonBufferEx", PASSIVE_LEVEL, PASSIVE_LEVEL},
    [IopDmaAllocateBufferWithBounds] = {"AllocateCommonBufferWithBounds", PASSIVE_LEVEL,
                                        PASSIVE_LEVEL},
    [IopDmaFreeBuffer] = {"FreeCommonBuffer", PASSIVE_LEVEL, PASSIVE_LEVEL},
    [IopDmaAllocateChannel] = {"AllocateAdapterChannel", DISPATCH_LEVEL, DISPATCH_LEVEL},
    [IopDmaFlush] = {"FlushAdapterBuffers", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaFreeChannel] = {"FreeAdapterChannel", DISPATCH_LEVEL, DISPATCH_LEVEL},
    [IopDmaFreeRegisters] = {"FreeMapRegisters", DISPATCH_LEVEL, DISPATCH_LEVEL},
    [IopDmaMap] = {"MapTransfer", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaGetAlignment] = {"GetDmaAlignment", PASSIVE_LEVEL, PASSIVE_LEVEL},
    [IopDmaReadCounter] = {"ReadDmaCounter", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaGetList] = {"GetScatterGatherList", DISPATCH_LEVEL, DISPATCH_LEVEL},
    [IopDmaPutList] = {"PutScatterGatherList", DISPATCH_LEVEL, DISPATCH_LEVEL},
    [IopDmaCalculateList] = {"CalculateScatterGatherList", PASSIVE_LEVEL, HIGH_LEVEL},
    [IopDmaBuildList] = {"BuildScatterGatherList", DISPATCH_LEVEL, DISPATCH_LEVEL},
    [IopDmaBuildMdl] = {"BuildMdlFromScatterGatherList", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaGetAdapterInfo] = {"GetDmaAdapterInfo", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaGetTransferInfo] = {"GetDmaTransferInfo", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaInitializeContext] = {"InitializeDmaTransferContext", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaAllocateChannelEx] = {"AllocateAdapterChannelEx", DISPATCH_LEVEL, DISPATCH_LEVEL},
    [IopDmaConfigureChannel] = {"ConfigureAdapterChannel", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaCancelChannel] = {"CancelAdapterChannel", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaMapEx] = {"MapTransferEx", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaGetListEx] = {"GetScatterGatherListEx", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaBuildListEx] = {"BuildScatterGatherListEx", DISPATCH_LEVEL, DISPATCH_LEVEL},
    [IopDmaFlushEx] = {"FlushAdapterBuffersEx", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaFreeObject] = {"FreeAdapterObject", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaCancelMapped] = {"CancelMappedTransfer", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaDomain] = {"a routine of DMA domains", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaFlushBuffer] = {"FlushDmaBuffer", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaQuarantineList] = {"IoQuarantineScatterGatherList", PASSIVE_LEVEL, DISPATCH_LEVEL},
    [IopDmaQuarantineBuffer] = {"IoQuarantineCommonBuffer", PASSIVE_LEVEL, PASSIVE_LEVEL},
};
C_ASSERT(ARRAYSIZE(IopDmaRules) == IopDmaRoutineCount);

// "NvmeStart+0x12 (driver nvme)"
static VOID IopDescribeCaller(PVOID Caller, PCHAR Buffer, SIZE_T ByteCount)
{
    ULONG_PTR Offset = 0;
    const PCSTR Symbol = KiFindSymbol((ULONG_PTR)Caller, &Offset);
    const PCSTR Owner = KiFindCodeOwner((ULONG_PTR)Caller);
    RtlFormatBuffer(Buffer, ByteCount, "%s+0x%llx%s%s%s", Symbol != NULL ? Symbol : "unknown code",
                    (ULONG64)Offset, Owner != NULL ? " (" : "", Owner != NULL ? Owner : "",
                    Owner != NULL ? ")" : "");
}

DECLSPEC_NORETURN VOID NTAPI IopStopDma(ULONG Code, ULONG64 Parameter2, ULONG64 Parameter3,
                                        ULONG64 Parameter4, PVOID Caller, PCSTR Format, ...)
{
    CHAR Sentence[IOP_DMA_SENTENCE_BYTES];
    CHAR Who[IOP_DMA_SENTENCE_BYTES];
    __builtin_ms_va_list Arguments;
    __builtin_ms_va_start(Arguments, Format);
    RtlFormatBufferArguments(Sentence, sizeof(Sentence), Format, Arguments);
    __builtin_ms_va_end(Arguments);
    IopDescribeCaller(Caller, Who, sizeof(Who));
    KiBugCheckSaying(DRIVER_VERIFIER_DMA_VIOLATION, Code, Parameter2, Parameter3, Parameter4,
                     "%s; called by %s", Sentence, Who);
}

//
// What every operation begins with.
//

static BOOLEAN IopIsListed(const DMA_ADAPTER *DmaAdapter)
{
    BOOLEAN IsFound = FALSE;
    const KIRQL OldIrql = KiAcquireLock(&IopDmaListLock);
    for (PLIST_ENTRY Link = IopDmaAdapters.Flink; Link != &IopDmaAdapters; Link = Link->Flink) {
        IsFound |= &CONTAINING_RECORD(Link, IOP_DMA_ADAPTER, Link)->Public == DmaAdapter;
    }
    KiReleaseLock(&IopDmaListLock, OldIrql);
    return IsFound;
}

// At level 1 the memory of what was an adapter may be gone, and is not looked at.
static BOOLEAN IopIsAdapter(const DMA_ADAPTER *DmaAdapter)
{
    return IopIsVerifyingDma() && KeGetCurrentIrql() <= DISPATCH_LEVEL
               ? IopIsListed(DmaAdapter)
               : CONTAINING_RECORD(DmaAdapter, IOP_DMA_ADAPTER, Public)->Signature ==
                     IOP_DMA_ADAPTER_SIGNATURE;
}

static VOID IopVerifyDmaIrql(const IOP_DMA_RULE *Rule, PVOID Caller)
{
    const KIRQL Irql = KeGetCurrentIrql();
    if (Irql < Rule->Lowest || (Irql > Rule->Highest && Rule->Lowest == Rule->Highest)) {
        IopStopDma(0x13, 1, Rule->Lowest, Irql, Caller, "%s: the IRQL must be %u, and is %u",
                   Rule->Name, Rule->Lowest, Irql);
    }
    if (Irql > Rule->Highest) {
        IopStopDma(0x13, 2, Rule->Highest, Irql, Caller,
                   "%s: the IRQL must be %u at most, and is %u", Rule->Name, Rule->Highest, Irql);
    }
}

PIOP_DMA_ADAPTER IopEnterDma(PDMA_ADAPTER DmaAdapter, IOP_DMA_ROUTINE Routine, PVOID Caller)
{
    const IOP_DMA_RULE *Rule = &IopDmaRules[Routine];
    if (DmaAdapter == NULL) {
        IopStopDma(0x19, 0, 0, 0, Caller, "%s: the adapter is NULL", Rule->Name);
    }
    if (IopIsVerifyingDma()) {
        IopVerifyDmaIrql(Rule, Caller);
    }
    if (!IopIsAdapter(DmaAdapter)) {
        IopStopDma(0x18, (ULONG_PTR)DmaAdapter, 0, 0, Caller,
                   "%s: 0x%p is no adapter (never was, or it was released already)", Rule->Name,
                   DmaAdapter);
    }
    return CONTAINING_RECORD(DmaAdapter, IOP_DMA_ADAPTER, Public);
}

//
// Buffers.
//

#define IOP_LOCKED_FLAGS                                                                           \
    (MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL | MDL_IO_SPACE)

static VOID IopVerifyLocked(const IOP_DMA_SPAN *Span, PCSTR Routine, PVOID Caller)
{
    for (const MDL *Mdl = Span->Mdl; Mdl != NULL; Mdl = Mdl->Next) {
        if ((Mdl->MdlFlags & IOP_LOCKED_FLAGS) == 0) {
            IopStopDma(0x0E, (ULONG_PTR)Mdl, (ULONG_PTR)(USHORT)Mdl->MdlFlags, 0, Caller,
                       "%s: the pages of the MDL at 0x%p are not locked", Routine, Mdl);
        }
    }
}

VOID IopVerifySpan(const IOP_DMA_SPAN *Span, ULONG OutsideCode, ULONG64 Va, PCSTR Routine,
                   PVOID Caller)
{
    if (!IopIsVerifyingDma()) {
        return;
    }
    const ULONG64 ChainBytes = IopChainByteCount(Span->Mdl);
    IopVerifyLocked(Span, Routine, Caller);
    if (Span->ByteCount == 0) {
        IopStopDma(0x21, (ULONG_PTR)Span->Mdl, Va, 0, Caller, "%s: no bytes are to be mapped",
                   Routine);
    }
    if (Span->Offset <= ChainBytes && Span->ByteCount <= ChainBytes - Span->Offset) {
        return;
    }
    // An address before the MDL makes an offset that is negative.
    const ULONG64 Where = (LONG64)Span->Offset < 0 ? 1 : 2;
    const PCSTR Format = "%s: %u bytes at 0x%llx are not all in the MDL at 0x%p";
    if (OutsideCode == 0x1F) {
        IopStopDma(OutsideCode, Where, Va, (ULONG_PTR)Span->Mdl, Caller, Format, Routine,
                   Span->ByteCount, Va, Span->Mdl);
    }
    IopStopDma(OutsideCode, Va, (ULONG_PTR)Span->Mdl, Span->ByteCount, Caller, Format, Routine,
               Span->ByteCount, Va, Span->Mdl);
}

//
// Padding and tags.
//

VOID IopSetPadding(PUCHAR Bytes, SIZE_T ByteCount)
{
    __builtin_memset(Bytes, IOP_DMA_PADDING, ByteCount);
}

static DECLSPEC_NORETURN VOID IopStopAtPlace(const UCHAR *Byte, IOP_DMA_PLACE Place, PVOID Caller)
{
    static const PCSTR Places[] = {
        [IopDmaTagBefore] = "before the memory of a transfer",
        [IopDmaTagAfter] = "behind the memory of a transfer",
        [IopDmaFreeRegister] = "to a map register that nobody had",
        [IopDmaPaddingBefore] = "before the data of a transfer, in the same page",
        [IopDmaPaddingAfter] = "behind the data of a transfer, in the same page",
    };
    IopStopDma(0x0F, Place, (ULONG_PTR)Byte, *Byte, Caller,
               "a device or its driver has written 0x%02x %s, at 0x%p", *Byte, Places[Place], Byte);
}

VOID IopCheckPadding(const UCHAR *Bytes, SIZE_T ByteCount, IOP_DMA_PLACE Place, PVOID Caller)
{
    for (SIZE_T Index = 0; Index < ByteCount; Index += 1) {
        if (Bytes[Index] != IOP_DMA_PADDING) {
            IopStopAtPlace(&Bytes[Index], Place, Caller);
        }
    }
}

static UCHAR IopTagByte(SIZE_T Index)
{
    return (UCHAR)IOP_DMA_TAG_TEXT[Index % (sizeof(IOP_DMA_TAG_TEXT) - 1)];
}

VOID IopSetGuardPages(PUCHAR FirstPage, PUCHAR LastPage)
{
    for (SIZE_T Index = 0; Index < PAGE_SIZE; Index += 1) {
        FirstPage[Index] = LastPage[Index] = IopTagByte(Index);
    }
}

VOID IopCheckGuardPages(const UCHAR *FirstPage, const UCHAR *LastPage, PVOID Caller)
{
    for (SIZE_T Index = 0; Index < PAGE_SIZE; Index += 1) {
        if (FirstPage[Index] != IopTagByte(Index)) {
            IopStopAtPlace(&FirstPage[Index], IopDmaTagBefore, Caller);
        }
        if (LastPage[Index] != IopTagByte(Index)) {
            IopStopAtPlace(&LastPage[Index], IopDmaTagAfter, Caller);
        }
    }
}

//
// Leaks.
//

typedef struct _IOP_DMA_LEAKS {
    PCSTR Owner; // NULL: every owner
    ULONG Count;
} IOP_DMA_LEAKS;

// Time 0: nobody looked at the clock.
static VOID IopPrintDmaLeak(IOP_DMA_LEAKS *Leaks, PCSTR What, const VOID *Address,
                            ULONG64 ByteCount, PVOID Caller, ULONG64 Time)
{
    const PCSTR Owner = KiFindCodeOwner((ULONG_PTR)Caller);
    if (Owner == NULL || (Leaks->Owner != NULL && !RtlStringsEqual(Owner, Leaks->Owner))) {
        return;
    }
    CHAR Who[IOP_DMA_SENTENCE_BYTES];
    const ULONG64 CyclesPerMillisecond = KeGetCyclesPerSecond() / IOP_MILLISECONDS;
    IopDescribeCaller(Caller, Who, sizeof(Who));
    DbgPrint("io: leak: %s at 0x%p, %llu bytes, by %s", What, Address, ByteCount, Who);
    if (Time != 0 && CyclesPerMillisecond != 0) {
        DbgPrint(", %llu ms ago", (KeReadCycles() - Time) / CyclesPerMillisecond);
    }
    DbgPrint("\n");
    Leaks->Count += 1;
}

static VOID IopReportHolds(IOP_DMA_LEAKS *Leaks, const LIST_ENTRY *Head, BOOLEAN IsWaiting)
{
    static const PCSTR Names[] = {
        [IopDmaChannel] = "a channel of a DMA adapter",
        [IopDmaRegisters] = "map registers of a DMA adapter",
        [IopDmaList] = "a scatter-gather list",
    };
    C_ASSERT(ARRAYSIZE(Names) == IopDmaKindCount);
    for (const LIST_ENTRY *Link = Head->Flink; Link != Head; Link = Link->Flink) {
        const IOP_DMA_HOLD *Hold = CONTAINING_RECORD(Link, IOP_DMA_HOLD, Link);
        IopPrintDmaLeak(Leaks, IsWaiting ? "a request for map registers" : Names[Hold->Kind], Hold,
                        (ULONG64)Hold->RegisterCount << PAGE_SHIFT, Hold->Caller, Hold->Time);
    }
}

static VOID IopReportAdapter(IOP_DMA_LEAKS *Leaks, PIOP_DMA_ADAPTER Adapter)
{
    const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    for (const LIST_ENTRY *Link = Adapter->Buffers.Flink; Link != &Adapter->Buffers;
         Link = Link->Flink) {
        const IOP_DMA_BUFFER *Buffer = CONTAINING_RECORD(Link, IOP_DMA_BUFFER, Link);
        IopPrintDmaLeak(Leaks, "a common buffer", Buffer->Va, Buffer->ByteCount, Buffer->Caller,
                        Buffer->Time);
    }
    IopReportHolds(Leaks, &Adapter->Holds, FALSE);
    IopReportHolds(Leaks, &Adapter->Waiting, TRUE);
    for (PIOP_DMA_SLOT Slot = IopNextSlot(Adapter, NULL); Slot != NULL;
         Slot = IopNextSlot(Adapter, Slot)) {
        IopPrintDmaLeak(Leaks, "a scatter-gather list", Slot->List, Slot->PageCount << PAGE_SHIFT,
                        Slot->Caller, 0);
    }
    IopPrintDmaLeak(Leaks, "a DMA adapter", Adapter, sizeof(*Adapter), Adapter->Caller,
                    Adapter->Time);
    KiReleaseLock(&Adapter->Lock, OldIrql);
}

ULONG IoReportDmaLeaks(PCSTR Owner)
{
    IOP_DMA_LEAKS Leaks = {Owner, 0};
    const KIRQL OldIrql = KiAcquireLock(&IopDmaListLock);
    for (PLIST_ENTRY Link = IopDmaAdapters.Flink; Link != &IopDmaAdapters; Link = Link->Flink) {
        IopReportAdapter(&Leaks, CONTAINING_RECORD(Link, IOP_DMA_ADAPTER, Link));
    }
    KiReleaseLock(&IopDmaListLock, OldIrql);
    return Leaks.Count;
}

//
// The report for people.
//

static VOID IopPrintAdapter(PIOP_DMA_ADAPTER Adapter)
{
    CHAR Who[IOP_DMA_SENTENCE_BYTES];
    IopDescribeCaller(Adapter->Caller, Who, sizeof(Who));
    DbgPrint("  0x%p  version %u, %u address bits, %s; by %s\n", Adapter, Adapter->Version,
             Adapter->AddressBits,
             Adapter->ScatterGather ? "scatter/gather" : "one piece at a time", Who);
    DbgPrint("    map registers: %u for a transfer, %u in use; %s; %u requests waiting\n",
             Adapter->RegisterCount, Adapter->TotalCount - Adapter->FreeCount,
             Adapter->Block != NULL ? "with bounce pages" : "without pages", Adapter->WaitingCount);
    DbgPrint("    outstanding: %u lists, %u channels, %u allocations of registers; "
             "%u common buffers in %llu pages\n",
             Adapter->HoldCounts[IopDmaList] + IopCountStraightLists(Adapter),
             Adapter->HoldCounts[IopDmaChannel], Adapter->HoldCounts[IopDmaRegisters],
             Adapter->BufferCount, Adapter->BufferPages);
    DbgPrint("    so far: %llu transfers of %llu bytes, %llu pages of them bounced\n",
             Adapter->TransferCount, Adapter->TransferBytes, Adapter->BouncedPages);
}

VOID IoPrintDma(VOID)
{
    DbgPrint("DMA: %s back end; %llu pages in quarantine; adapters:\n",
             IopDmaBouncesAll ? "bounce" : "identity", IopDmaQuarantinedPages);
    const KIRQL OldIrql = KiAcquireLock(&IopDmaListLock);
    for (PLIST_ENTRY Link = IopDmaAdapters.Flink; Link != &IopDmaAdapters; Link = Link->Flink) {
        IopPrintAdapter(CONTAINING_RECORD(Link, IOP_DMA_ADAPTER, Link));
    }
    KiReleaseLock(&IopDmaListLock, OldIrql);
}

//
// The invariants.
//

static ULONG IopCountViolations(PIOP_DMA_ADAPTER Adapter)
{
    const KIRQL OldIrql = KiAcquireLock(&Adapter->Lock);
    ULONG HeldCount = 0;
    ULONG Counts[IopDmaKindCount] = {0};
    for (PLIST_ENTRY Link = Adapter->Holds.Flink; Link != &Adapter->Holds; Link = Link->Flink) {
        const IOP_DMA_HOLD *Hold = CONTAINING_RECORD(Link, IOP_DMA_HOLD, Link);
        HeldCount += Hold->RegisterCount;
        Counts[Hold->Kind] += 1;
    }
    ULONG Violations =
        HeldCount + Adapter->LostCount + Adapter->FreeCount != Adapter->TotalCount ? 1 : 0;
    for (ULONG Kind = 0; Kind < IopDmaKindCount; Kind += 1) {
        Violations += Counts[Kind] != Adapter->HoldCounts[Kind] ? 1 : 0;
    }
    if (Adapter->Block != NULL) {
        Violations += RtlCountSetBits(&Adapter->Bits) != HeldCount + Adapter->LostCount ? 1 : 0;
    }
    KiReleaseLock(&Adapter->Lock, OldIrql);
    if (Violations != 0) {
        DbgPrint("io: the DMA adapter at 0x%p breaks invariant D1\n", Adapter);
    }
    return Violations;
}

ULONG IoVerifyDma(VOID)
{
    ULONG Violations = 0;
    const KIRQL OldIrql = KiAcquireLock(&IopDmaListLock);
    for (PLIST_ENTRY Link = IopDmaAdapters.Flink; Link != &IopDmaAdapters; Link = Link->Flink) {
        Violations += IopCountViolations(CONTAINING_RECORD(Link, IOP_DMA_ADAPTER, Link));
    }
    KiReleaseLock(&IopDmaListLock, OldIrql);
    return Violations;
}
