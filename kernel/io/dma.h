// DMA adapters, as the files kernel/io/dma*.c share them.
//
//   IOP_DMA_ADAPTER   what IoGetDmaAdapter makes: limits of a device, its map registers
//     IOP_DMA_HOLD    registers of one request: a channel's, a list's, or waiting for some; what the
//                     driver knows as MapRegisterBase
//       IOP_DMA_REGISTER  one page of a transfer
//     IOP_DMA_STRAIGHT  a list that needs no registers (dmastraight.h)
//     IOP_DMA_BUFFER  a common buffer
//
// Map registers are a count; an adapter that may have to bounce also has a page for each, side by side
// in memory that its device reaches. All others have registers enough for whatever is outstanding:
// RegisterCount limits one transfer of theirs, TotalCount nobody.
//
//            | guard | register 0 | register 1 | ... | register n - 1 | guard |
//
// A hold has registers side by side. A page of the buffer that goes by a bounce page lies at the same
// offset in it, so that a device sees whole pages where there are whole pages; for a device without
// scatter/gather, the pieces lie end to end instead.
//
// Invariants (D1: checked by IoVerifyDma; D3: whenever registers are granted or flushed):
//   D1  Registers in use are those of all holds that were granted, and no two holds share one. With
//       those that are free or in quarantine they are TotalCount.
//   D2  A hold waits only while something that it needs is taken, or others wait before it.
//   D3  At level 1, each byte of a bounce page that is no transfer's has IOP_DMA_PADDING.
// Locks: IopDmaListLock for the list of adapters, then the adapter's own for its lists and registers.
// Neither is held while mm, or a driver, is called. What a hold maps is its driver's own business.
#pragma once

#include "kernel/io/iop.h"

#define IOP_DMA_TAG 'amDI'
#define IOP_RANK_DMA_LIST 20
#define IOP_RANK_DMA 21

#define IOP_DMA_PADDING 0x0F

typedef struct _IOP_DMA_ADAPTER *PIOP_DMA_ADAPTER;
typedef struct _IOP_DMA_HOLD *PIOP_DMA_HOLD;

// One page of a transfer. Mdl NULL: nothing is mapped.
typedef struct _IOP_DMA_REGISTER {
    PMDL Mdl;          // the first of the chain
    ULONG64 Offset;    // of the first byte, from the beginning of the chain
    PFN_NUMBER Pfn;    // of the buffer
    PUCHAR Bounce;     // the first byte in the bounce page, or NULL: the device uses the frame
    USHORT ByteOffset; // in the frame
    USHORT ByteCount;
    BOOLEAN WriteToDevice;
} IOP_DMA_REGISTER, *PIOP_DMA_REGISTER;

typedef enum _IOP_DMA_KIND {
    IopDmaChannel,   // has the channel, or waits for it
    IopDmaRegisters, // registers that a channel left
    IopDmaList,
    IopDmaKindCount,
} IOP_DMA_KIND;

// The driver's DMA_TRANSFER_CONTEXT_SIZE_V1 bytes.
typedef struct _IOP_DMA_CONTEXT {
    ULONG64 Signature;
    PIOP_DMA_ADAPTER Adapter;
    PIOP_DMA_HOLD Hold;           // that the request made, or NULL
    PIOP_DMA_ADAPTER IdleAdapter; // Adapter while there is no request
} IOP_DMA_CONTEXT, *PIOP_DMA_CONTEXT;

C_ASSERT(sizeof(IOP_DMA_CONTEXT) <= DMA_TRANSFER_CONTEXT_SIZE_V1);

// A piece of an MDL chain, and which way it goes.
typedef struct _IOP_DMA_SPAN {
    PMDL Mdl;
    ULONG64 Offset;
    ULONG ByteCount;
    BOOLEAN WriteToDevice;
    BOOLEAN IsZeroed; // a bounce page that the device writes begins with zeros
} IOP_DMA_SPAN;

typedef struct _IOP_DMA_HOLD {
    LIST_ENTRY Link; // Adapter->Waiting or Adapter->Holds
    ULONG64 Signature;
    PIOP_DMA_ADAPTER Adapter;
    IOP_DMA_KIND Kind;
    BOOLEAN IsWaiting;
    BOOLEAN IsExMapped; // MapTransferEx waits for its flush
    PDEVICE_OBJECT DeviceObject;
    PIOP_DMA_CONTEXT TransferContext;
    union {
        PDRIVER_CONTROL ControlRoutine; // NULL: nobody is called
        PDRIVER_LIST_CONTROL ListRoutine;
    };
    PVOID RoutineContext;
    PVOID Caller;
    ULONG64 Time;
    ULONG RegisterCount;
    ULONG FirstRegister;       // of the adapter's, when it has pages for them
    ULONG UsedCount;           // registers from 0 on that were mapped since all were free
    IOP_DMA_SPAN Span;         // of a list
    PSCATTER_GATHER_LIST List; // in this block, or in the driver's memory
    BOOLEAN HasMdl;            // BuildMdlFromScatterGatherList was here
    IOP_DMA_REGISTER Registers[];
} IOP_DMA_HOLD;

// A straight list's place. Most are in the adapter's table: who reports lists reads nothing else there, for
// the list's own memory may be the driver's, and go at any time.
typedef struct _IOP_DMA_SLOT {
    volatile PSCATTER_GATHER_LIST List; // NULL: the place is free
    PVOID Caller;
    ULONG64 PageCount;
    ULONG64 Unused; // 32 bytes: found by a shift
} IOP_DMA_SLOT, *PIOP_DMA_SLOT;

#define IOP_LIST_KEPT 1     // its memory goes back to the adapter
#define IOP_LIST_IN_CROWD 2 // its place in the table was taken

// What lies behind a straight list that a driver has.
typedef struct _IOP_DMA_STRAIGHT {
    PIOP_DMA_ADAPTER Adapter;
    PIOP_DMA_CONTEXT TransferContext; // or NULL
    PSCATTER_GATHER_LIST List;        // before this
    PIOP_DMA_SLOT Slot;               // in the table, or Own
    ULONG Signature;
    UCHAR Unusual;        // IOP_LIST_*, or 0
    BOOLEAN HasMdl;       // BuildMdlFromScatterGatherList was here
    IOP_DMA_SLOT Own;     // IOP_LIST_IN_CROWD
    LIST_ENTRY CrowdLink; // IOP_LIST_IN_CROWD: Adapter->Crowd
} IOP_DMA_STRAIGHT, *PIOP_DMA_STRAIGHT;

typedef struct _IOP_DMA_BUFFER {
    LIST_ENTRY Link;
    PVOID Block; // of contiguous memory
    PVOID Va;    // the driver's
    ULONG ByteCount;
    ULONG PageCount; // of the block
    PHYSICAL_ADDRESS LogicalAddress;
    BOOLEAN IsCacheKnown; // CacheEnabled counts
    BOOLEAN CacheEnabled;
    PVOID Caller;
    ULONG64 Time;
} IOP_DMA_BUFFER, *PIOP_DMA_BUFFER;

typedef struct _IOP_DMA_ADAPTER {
    DMA_ADAPTER Public;
    ULONG64 Signature;
    ULONG StraightSignature; // IOP_DMA_STRAIGHT_SIGNATURE: lists may be straight; else 0
    LIST_ENTRY Link;         // all adapters
    KI_LOCK Lock;
    volatile LONG ReferenceCount; // 1 for the driver, 1 for each call of a routine of his
    PDEVICE_OBJECT DeviceObject;  // may be NULL
    PVOID Caller;
    ULONG64 Time;
    ULONG Version; // of the description
    ULONG AddressBits;
    ULONG64 HighestAddress; // that the device reaches
    BOOLEAN ScatterGather;
    BOOLEAN ReachesAll; // nothing ever needs a bounce page
    BOOLEAN BouncesAll;
    BOOLEAN IsDraining;
    ULONG RegisterCount; // for one transfer
    ULONG TotalCount;
    ULONG FreeCount;
    ULONG LostCount;       // in quarantine
    PIOP_DMA_HOLD Channel; // who has it, or NULL
    ULONG64 ChannelNumber; // how often it was granted
    LIST_ENTRY Waiting;    // in order of arrival
    LIST_ENTRY Holds;
    LIST_ENTRY Buffers;
    ULONG WaitingCount;
    ULONG HoldCounts[IopDmaKindCount];
    ULONG BufferCount;
    ULONG64 BufferPages;
    ULONG64 TransferCount;
    ULONG64 TransferBytes;
    ULONG64 BouncedPages;
    PIOP_DMA_SLOT Slots; // of straight lists; NULL: there are none
    LIST_ENTRY Crowd;    // straight lists whose place in the table was taken
    PVOID KeptLists;     // blocks for straight lists; each begins with the next one's address
    // With pages for the registers:
    PVOID Block;      // of contiguous memory: RegisterCount + 2 pages
    PUCHAR Registers; // the page of register 0
    ULONG64 RegistersPa;
    RTL_BITS Bits;
    ULONG64 Words[];
} IOP_DMA_ADAPTER;

#define IOP_DMA_ADAPTER_SIGNATURE 0x6470416D44706F49ull
#define IOP_DMA_HOLD_SIGNATURE 0x646C486D44706F49ull
#define IOP_DMA_STRAIGHT_SIGNATURE 0x72745344u
#define IOP_DMA_CONTEXT_SIGNATURE 0x7874436D44706F49ull

//
// dma.c
//

// How many pages of transfers that never ended nobody will ever get again.
extern ULONG64 IopDmaQuarantinedPages;

VOID IopReferenceAdapter(_In_ PIOP_DMA_ADAPTER Adapter);
VOID IopDereferenceAdapter(_In_ PIOP_DMA_ADAPTER Adapter);

//
// dmaquarantine.c
//

// Everything that the adapter has out, for a driver that released it nevertheless.
VOID IopQuarantineAdapter(_In_ PIOP_DMA_ADAPTER Adapter);

//
// dmahold.c: map registers.
//

// A hold for RegisterCount registers, with room for ExtraBytes behind them; not yet asked for. NULL: no
// pool.
_Must_inspect_result_ PIOP_DMA_HOLD IopAllocateHold(_In_ PIOP_DMA_ADAPTER Adapter,
                                                    _In_ IOP_DMA_KIND Kind,
                                                    _In_ ULONG RegisterCount,
                                                    _In_ SIZE_T ExtraBytes, _In_ PVOID Caller);

// Frees a hold that was never granted.
VOID IopFreeHold(_In_ PIOP_DMA_HOLD Hold);

// Takes the registers now, or gets in line. TRUE: taken, and the caller goes on with
// IopRunHold. FALSE and CanWait: in line; without CanWait: not taken.
_Must_inspect_result_ BOOLEAN IopRequestHold(_In_ PIOP_DMA_HOLD Hold, _In_ BOOLEAN CanWait);

// Serves who can be served, unless somebody does so already.
VOID IopServeLine(_In_ PIOP_DMA_ADAPTER Adapter);

// Calls the hold's routine, at DISPATCH_LEVEL, and does what it says.
VOID IopRunHold(_In_ PIOP_DMA_HOLD Hold);

// The hold of the context's request, if it still waits: out of the line now. NULL: it does not.
_Must_inspect_result_ PIOP_DMA_HOLD IopTakeOutOfLine(_In_ PIOP_DMA_ADAPTER Adapter,
                                                     _In_ PIOP_DMA_CONTEXT Context);

// Gives the registers back, and serves who waits for them.
VOID IopReleaseHold(_In_ PIOP_DMA_HOLD Hold);

// The same, but registers with pages never come back.
VOID IopLoseHold(_In_ PIOP_DMA_HOLD Hold);

// The hold of this address, which is no list's; anything else stops the machine with Code.
PIOP_DMA_HOLD IopFindHold(_In_ PIOP_DMA_ADAPTER Adapter, _In_opt_ PVOID MapRegisterBase,
                          _In_ ULONG Code, _In_ PCSTR Routine, _In_ PVOID Caller);

// The context's request is over. Under the adapter's lock once the request was made.
VOID IopFreeContext(_In_ PIOP_DMA_CONTEXT Context);

// Whether the context may begin a request; marks it. FALSE: it is none, or in use.
_Must_inspect_result_ BOOLEAN IopClaimContext(_In_ PIOP_DMA_HOLD Hold, _In_opt_ PVOID Context);

//
// dmachannel.c, dmalist.c: what becomes of a hold that was granted.
//

VOID IopRunChannel(_In_ PIOP_DMA_HOLD Hold);
VOID IopRunList(_In_ PIOP_DMA_HOLD Hold);

//
// dmabuffer.c, dmaput.c: what a driver has, found and taken from the adapter.
//

// NULL: it is no common buffer of the adapter.
PIOP_DMA_BUFFER IopRemoveBuffer(_In_ PIOP_DMA_ADAPTER Adapter, _In_ const VOID *Va);

// The straight list that this is, found among all: it is not looked at. NULL: it is none.
PIOP_DMA_STRAIGHT IopFindAmongStraight(_In_ PIOP_DMA_ADAPTER Adapter,
                                       _In_ const SCATTER_GATHER_LIST *List);

// The hold of a list that a driver has; anything else stops the machine.
PIOP_DMA_HOLD IopFindList(_In_ PIOP_DMA_ADAPTER Adapter, _In_opt_ PSCATTER_GATHER_LIST List,
                          _In_ PCSTR Routine, _In_ PVOID Caller);

//
// dmamap.c: transfers.
//

// Windows through which the processor sees frames; the boot option dma. To be called once.
VOID IopInitializeDma(VOID);
extern BOOLEAN IopDmaBouncesAll;
BOOLEAN IopCanBounce(VOID);

// Bytes of a chain.
ULONG64 IopChainByteCount(_In_ const MDL *Mdl);

// How many pages Span touches: one register each. Span must lie within the chain.
ULONG IopCountPages(_In_ const IOP_DMA_SPAN *Span);

// Bytes of a driver's buffer for a list of that many pages: elements, and what a straight list has
// behind them.
static inline SIZE_T IopListByteCount(ULONG PageCount)
{
    return sizeof(SCATTER_GATHER_LIST) + (SIZE_T)PageCount * sizeof(SCATTER_GATHER_ELEMENT) +
           sizeof(IOP_DMA_STRAIGHT);
}

// Counters for people; without a lock.
static inline VOID IopCountTransfer(PIOP_DMA_ADAPTER Adapter, ULONG ByteCount)
{
    (VOID) __atomic_add_fetch(&Adapter->TransferCount, 1, __ATOMIC_RELAXED);
    (VOID) __atomic_add_fetch(&Adapter->TransferBytes, ByteCount, __ATOMIC_RELAXED);
}

// How many elements a list of Span has.
ULONG IopCountElements(_In_ PIOP_DMA_ADAPTER Adapter, _In_ const IOP_DMA_SPAN *Span);

// STATUS_INSUFFICIENT_RESOURCES: a page of Span cannot be reached, nor bounced; or, with CanBounce
// FALSE, must be bounced.
_Must_inspect_result_ NTSTATUS IopCheckReach(_In_ PIOP_DMA_ADAPTER Adapter,
                                             _In_ const IOP_DMA_SPAN *Span, _In_ BOOLEAN CanBounce);

// Maps the beginning of Span, as much as registers and MaximumElements allow. Returns the bytes.
ULONG IopMapSpan(_In_ PIOP_DMA_HOLD Hold, _In_ const IOP_DMA_SPAN *Span,
                 _Out_ PSCATTER_GATHER_LIST List, _In_ ULONG MaximumElements);

// Ends what is mapped of Span; data that the device wrote are the driver's then. Returns the pages.
ULONG IopFlushSpan(_In_ PIOP_DMA_HOLD Hold, _In_ const IOP_DMA_SPAN *Span, _In_ PVOID Caller);

// Bytes that are still mapped.
ULONG64 IopMappedByteCount(_In_ const IOP_DMA_HOLD *Hold);

// Forgets what is mapped; what the device wrote is lost.
VOID IopForgetMapped(_In_ PIOP_DMA_HOLD Hold);

//
// dma.c: the tables of operations. Each operation is in the file of its subject.
//

DMA_OPERATIONS *IopDmaOperations(_In_ ULONG Version);

#define IOP_DMA_OPERATION(Type) __typeof__(*(Type)0)

IOP_DMA_OPERATION(PALLOCATE_COMMON_BUFFER) IopAllocateCommonBuffer;
IOP_DMA_OPERATION(PFREE_COMMON_BUFFER) IopFreeCommonBuffer;
IOP_DMA_OPERATION(PALLOCATE_COMMON_BUFFER_EX) IopAllocateCommonBufferEx;
IOP_DMA_OPERATION(PALLOCATE_COMMON_BUFFER_WITH_BOUNDS) IopAllocateCommonBufferWithBounds;
IOP_DMA_OPERATION(PALLOCATE_ADAPTER_CHANNEL) IopAllocateAdapterChannel;
IOP_DMA_OPERATION(PALLOCATE_ADAPTER_CHANNEL_EX) IopAllocateAdapterChannelEx;
IOP_DMA_OPERATION(PINITIALIZE_DMA_TRANSFER_CONTEXT) IopInitializeDmaTransferContext;
IOP_DMA_OPERATION(PCANCEL_ADAPTER_CHANNEL) IopCancelAdapterChannel;
IOP_DMA_OPERATION(PMAP_TRANSFER) IopMapTransfer;
IOP_DMA_OPERATION(PMAP_TRANSFER_EX) IopMapTransferEx;
IOP_DMA_OPERATION(PFLUSH_ADAPTER_BUFFERS) IopFlushAdapterBuffers;
IOP_DMA_OPERATION(PFLUSH_ADAPTER_BUFFERS_EX) IopFlushAdapterBuffersEx;
IOP_DMA_OPERATION(PFREE_ADAPTER_CHANNEL) IopFreeAdapterChannel;
IOP_DMA_OPERATION(PFREE_ADAPTER_OBJECT) IopFreeAdapterObject;
IOP_DMA_OPERATION(PFREE_MAP_REGISTERS) IopFreeMapRegisters;
IOP_DMA_OPERATION(PGET_SCATTER_GATHER_LIST) IopGetScatterGatherList;
IOP_DMA_OPERATION(PGET_SCATTER_GATHER_LIST_EX) IopGetScatterGatherListEx;
IOP_DMA_OPERATION(PPUT_SCATTER_GATHER_LIST) IopPutScatterGatherList;
IOP_DMA_OPERATION(PCALCULATE_SCATTER_GATHER_LIST_SIZE) IopCalculateScatterGatherList;
IOP_DMA_OPERATION(PBUILD_SCATTER_GATHER_LIST) IopBuildScatterGatherList;
IOP_DMA_OPERATION(PBUILD_SCATTER_GATHER_LIST_EX) IopBuildScatterGatherListEx;
IOP_DMA_OPERATION(PBUILD_MDL_FROM_SCATTER_GATHER_LIST) IopBuildMdlFromScatterGatherList;

//
// dmastraight.h, dmastraight.c: straight lists.
//

// Lists in the system's memory: each adapter has a few blocks, for IOP_KEPT_LIST_PAGES pages at most: 128
// KiB at any offset. More of them, and longer ones, go the long way.
#define IOP_KEPT_LIST_COUNT 2
#define IOP_KEPT_LIST_PAGES 33

#define IOP_DMA_SLOT_COUNT 256u // a power of two

// Makes the adapter's table and blocks. Without pool for them, it has no straight lists.
VOID IopPrepareStraightLists(_Inout_ PIOP_DMA_ADAPTER Adapter);

// The straight list's slot behind Slot. NULL: the first; and when there is none. With the adapter's lock.
PIOP_DMA_SLOT IopNextSlot(_In_ const IOP_DMA_ADAPTER *Adapter, _In_opt_ PIOP_DMA_SLOT Slot);

ULONG IopCountStraightLists(_In_ PIOP_DMA_ADAPTER Adapter);

//
// dmaverify.c: the verifier's rules, and reports.
//

typedef enum _IOP_DMA_ROUTINE {
    IopDmaPut,
    IopDmaAllocateBuffer,
    IopDmaAllocateBufferEx,
    IopDmaAllocateBufferWithBounds,
    IopDmaFreeBuffer,
    IopDmaAllocateChannel,
    IopDmaFlush,
    IopDmaFreeChannel,
    IopDmaFreeRegisters,
    IopDmaMap,
    IopDmaGetAlignment,
    IopDmaReadCounter,
    IopDmaGetList,
    IopDmaPutList,
    IopDmaCalculateList,
    IopDmaBuildList,
    IopDmaBuildMdl,
    IopDmaGetAdapterInfo,
    IopDmaGetTransferInfo,
    IopDmaInitializeContext,
    IopDmaAllocateChannelEx,
    IopDmaConfigureChannel,
    IopDmaCancelChannel,
    IopDmaMapEx,
    IopDmaGetListEx,
    IopDmaBuildListEx,
    IopDmaFlushEx,
    IopDmaFreeObject,
    IopDmaCancelMapped,
    IopDmaDomain,
    IopDmaFlushBuffer,
    IopDmaQuarantineList,
    IopDmaQuarantineBuffer,
    IopDmaRoutineCount,
} IOP_DMA_ROUTINE;

// What every operation begins with: the adapter must be one, and at level 1 the IRQL right.
PIOP_DMA_ADAPTER IopEnterDma(_In_opt_ PDMA_ADAPTER DmaAdapter, _In_ IOP_DMA_ROUTINE Routine,
                             _In_ PVOID Caller);

// Stops with DRIVER_VERIFIER_DMA_VIOLATION and the sentence, which ends with who called.
DECLSPEC_NORETURN VOID NTAPI IopStopDma(_In_ ULONG Code, _In_ ULONG64 Parameter2,
                                        _In_ ULONG64 Parameter3, _In_ ULONG64 Parameter4,
                                        _In_ PVOID Caller, _In_ PCSTR Format, ...);

static inline BOOLEAN IopIsVerifyingDma(VOID)
{
    return MmVerifierLevel != 0;
}

// The verifier's look at a transfer: the buffer is locked, and Span lies within it. OutsideCode: what
// the violation is called; Va is printed.
VOID IopVerifySpan(_In_ const IOP_DMA_SPAN *Span, _In_ ULONG OutsideCode, _In_ ULONG64 Va,
                   _In_ PCSTR Routine, _In_ PVOID Caller);

// Whether all bytes have IOP_DMA_PADDING; if not, stops: who wrote there, by Where.
typedef enum _IOP_DMA_PLACE {
    IopDmaTagBefore = 1,
    IopDmaTagAfter,
    IopDmaFreeRegister,
    IopDmaPaddingBefore,
    IopDmaPaddingAfter,
} IOP_DMA_PLACE;

VOID IopCheckPadding(_In_ const UCHAR *Bytes, _In_ SIZE_T ByteCount, _In_ IOP_DMA_PLACE Place,
                     _In_ PVOID Caller);
VOID IopSetPadding(_Out_ PUCHAR Bytes, _In_ SIZE_T ByteCount);

// The pages before and behind a block. Each has its tag throughout.
VOID IopSetGuardPages(_Out_ PUCHAR FirstPage, _Out_ PUCHAR LastPage);
VOID IopCheckGuardPages(_In_ const UCHAR *FirstPage, _In_ const UCHAR *LastPage, _In_ PVOID Caller);

extern KI_LOCK IopDmaListLock;
extern LIST_ENTRY IopDmaAdapters;
