// A walk over the frames of the stack, from the inside out: the kernel's and drivers' mixed.
//
// Which tables describe a frame follows from its instruction pointer: an image's, or the kernel's.
// Code that belongs to nobody ends the walk. So does the entry of an interrupt, unless a trace is
// wanted: what was interrupted has nothing to do with what its interruption does.
//
// Invariants:
//   F1  A walk ends: every frame that was called or that trapped lies above the one that it leads to.
// Lock: none. Any IRQL.
#include "arch/x64/unwind.h"

#include "arch/x64/x64.h"

#include "kernel/inc/ke.h"

// Named by linker.ld.
extern const UCHAR KiTextStart[], KiTextEnd[], KiFrameHeaderStart[], KiFrameHeaderEnd[],
    KiFramesStart[], KiFramesEnd[];

// In interrupt.S.
extern const UCHAR KiInterruptCommon[], KiInterruptCommonEnd[];

static const KI_CFI_TABLES KiKernelTables = {
    .Header = KiFrameHeaderStart,
    .HeaderEnd = KiFrameHeaderEnd,
    .Frames = KiFramesStart,
    .FramesEnd = KiFramesEnd,
};

// Eight bytes at a time, each aligned, so that no read crosses a page.
BOOLEAN KiUnwindRead(ULONG64 Va, PVOID Buffer, SIZE_T ByteCount)
{
    PUCHAR Target = Buffer;
    while (ByteCount > 0) {
        const ULONG64 Word = Va & ~7ull;
        const SIZE_T Skipped = Va - Word;
        const SIZE_T Part = ByteCount < 8 - Skipped ? ByteCount : 8 - Skipped;
        ULONG64 Value;
        if (KeProbeRead((const VOID *)Word, &Value).Faulted) {
            return FALSE;
        }
        RtlCopyMemory(Target, (const UCHAR *)&Value + Skipped, Part);
        Target += Part;
        Va += Part;
        ByteCount -= Part;
    }
    return TRUE;
}

static BOOLEAN KiIsKernelCode(ULONG64 Address)
{
    return Address >= (ULONG64)KiTextStart && Address < (ULONG64)KiTextEnd;
}

BOOLEAN KiIsCode(ULONG64 Address)
{
    return KiIsKernelCode(Address) || LdrFindImage(Address) != NULL;
}

static BOOLEAN KiIsInterruptEntry(ULONG64 Address)
{
    return Address >= (ULONG64)KiInterruptCommon && Address < (ULONG64)KiInterruptCommonEnd;
}

static BOOLEAN KiLeaveKernelFrame(PKI_FRAME_WALK Walk)
{
    // A call that never returns may be the last of its function: what follows is another one.
    const ULONG64 Lookup = Walk->Context.Rip - (Walk->IsRipExact ? 0 : 1);
    return KiUnwindByCfi(&KiKernelTables, Lookup, &Walk->Context, &Walk->IsRipExact);
}

static BOOLEAN KiLeaveImageFrame(PKI_FRAME_WALK Walk, ULONG HandlerType, PKI_FRAME Frame)
{
    Frame->FunctionEntry = KiFindFunction(Frame->Image, Frame->ControlPc);
    Walk->IsRipExact = FALSE;
    return KiUnwindImageFrame(Frame->Image, Frame->ControlPc, Frame->FunctionEntry, HandlerType,
                              &Walk->Context, &Frame->Handler, &Frame->EstablisherFrame, NULL);
}

// Code that is none: a call went wrong there, and left its return address on top of the stack.
static BOOLEAN KiLeaveBadCall(PKI_FRAME_WALK Walk)
{
    const ULONG64 Rsp = Walk->Context.Rsp;
    if (!Walk->IsRipExact) {
        return FALSE;
    }
    Walk->IsRipExact = FALSE;
    Walk->Context.Rsp += sizeof(ULONG64);
    return KiUnwindRead(Rsp, &Walk->Context.Rip, sizeof(ULONG64));
}

static BOOLEAN KiLeave(PKI_FRAME_WALK Walk, ULONG HandlerType, PKI_FRAME Frame)
{
    const ULONG64 Rsp = Walk->Context.Rsp;
    *Frame = (KI_FRAME){
        .ControlPc = Walk->Context.Rip,
        .Image = LdrFindImage(Walk->Context.Rip),
        .EstablisherFrame = Rsp,
    };
    BOOLEAN Left;
    if (Frame->Image != NULL) {
        Left = KiLeaveImageFrame(Walk, HandlerType, Frame);
    } else if (KiIsKernelCode(Frame->ControlPc)) {
        Left = KiLeaveKernelFrame(Walk);
    } else {
        Left = KiLeaveBadCall(Walk);
    }
    return Left && Walk->Context.Rsp > Rsp; // F1
}

BOOLEAN KiLeaveFrame(PKI_FRAME_WALK Walk, ULONG HandlerType, PKI_FRAME Frame)
{
    return KiLeave(Walk, HandlerType, Frame) && !KiIsInterruptEntry(Frame->ControlPc);
}

BOOLEAN KiLeaveFrameOrInterrupt(PKI_FRAME_WALK Walk, PKI_FRAME Frame)
{
    return KiLeave(Walk, UNW_FLAG_NHANDLER, Frame);
}

// -------------------------------------------------------------------------------------------------
// What drivers call.

// All of the kernel's code as one function that does nothing to the stack, for walks of drivers: the
// tables of the compiler stand behind it.
static const struct {
    UCHAR VersionAndFlags;
    UCHAR PrologByteCount;
    UCHAR CodeCount;
    UCHAR Frame;
} KiKernelUnwindInfo = {1, 0, 0, 0};

static RUNTIME_FUNCTION KiKernelFunction;

static PRUNTIME_FUNCTION KiDescribeKernel(VOID)
{
    // Offsets of one object from another are no constants for the compiler.
    KiKernelFunction.EndAddress = (ULONG)((ULONG_PTR)KiTextEnd - (ULONG_PTR)KiTextStart);
    KiKernelFunction.UnwindData = (ULONG)((ULONG_PTR)&KiKernelUnwindInfo - (ULONG_PTR)KiTextStart);
    return &KiKernelFunction;
}

PRUNTIME_FUNCTION NTAPI RtlLookupFunctionEntry(ULONG64 ControlPc, PULONG64 ImageBase,
                                               PUNWIND_HISTORY_TABLE HistoryTable)
{
    UNREFERENCED_PARAMETER(HistoryTable);
    *ImageBase = 0;
    if (KiIsKernelCode(ControlPc)) {
        *ImageBase = (ULONG64)KiTextStart;
        return KiDescribeKernel();
    }
    const LDR_IMAGE *Image = LdrFindImage(ControlPc);
    if (Image == NULL) {
        return NULL;
    }
    *ImageBase = Image->Base;
    return KiFindFunction(Image, ControlPc);
}

static BOOLEAN KiVirtualUnwindImage(ULONG HandlerType, ULONG64 ImageBase, ULONG64 ControlPc,
                                    const RUNTIME_FUNCTION *FunctionEntry, PCONTEXT Context,
                                    PKI_FRAME_HANDLER Handler, PULONG64 EstablisherFrame,
                                    PKNONVOLATILE_CONTEXT_POINTERS Pointers)
{
    const LDR_IMAGE *Image = LdrFindImage(ImageBase);
    return Image != NULL && Image->Base == ImageBase && FunctionEntry != NULL &&
           KiUnwindImageFrame(Image, ControlPc, FunctionEntry, HandlerType, Context, Handler,
                              EstablisherFrame, Pointers);
}

PEXCEPTION_ROUTINE NTAPI RtlVirtualUnwind(ULONG HandlerType, ULONG64 ImageBase, ULONG64 ControlPc,
                                          PRUNTIME_FUNCTION FunctionEntry, PCONTEXT ContextRecord,
                                          PVOID *HandlerData, PULONG64 EstablisherFrame,
                                          PKNONVOLATILE_CONTEXT_POINTERS ContextPointers)
{
    KI_FRAME_HANDLER Handler = {NULL, NULL};
    *EstablisherFrame = ContextRecord->Rsp;
    BOOLEAN IsInterrupted;
    const BOOLEAN Left =
        FunctionEntry == &KiKernelFunction
            ? KiUnwindByCfi(&KiKernelTables, ControlPc - 1, ContextRecord, &IsInterrupted)
            : KiVirtualUnwindImage(HandlerType, ImageBase, ControlPc, FunctionEntry, ContextRecord,
                                   &Handler, EstablisherFrame, ContextPointers);
    if (!Left) {
        ContextRecord->Rip = 0;
    }
    *HandlerData = Handler.Data;
    return Left ? Handler.Routine : NULL;
}

PVOID NTAPI RtlPcToFileHeader(PVOID PcValue, PVOID *BaseOfImage)
{
    const LDR_IMAGE *Image = LdrFindImage((ULONG_PTR)PcValue);
    *BaseOfImage = Image != NULL ? (PVOID)Image->Base : NULL;
    return *BaseOfImage;
}

// Stores the return addresses from the Skip-th frame on; the walk begins in this routine's caller.
static DECLSPEC_NOINLINE ULONG KiCaptureCallers(ULONG Skip, ULONG Count, PVOID *Callers)
{
    KI_FRAME_WALK Walk;
    KI_FRAME Frame;
    ULONG Stored = 0;
    RtlCaptureContext(&Walk.Context);
    Walk.IsRipExact = FALSE;
    while (Stored < Count && KiLeaveFrameOrInterrupt(&Walk, &Frame)) {
        if (Skip > 0) {
            Skip -= 1;
        } else {
            Callers[Stored++] = (PVOID)Walk.Context.Rip;
        }
    }
    return Stored;
}

// The frames of this file: the capture's own and the exported routine's.
#define OWN_FRAMES 1

USHORT NTAPI RtlCaptureStackBackTrace(ULONG FramesToSkip, ULONG FramesToCapture, PVOID *BackTrace,
                                      PULONG BackTraceHash)
{
    const ULONG Count = FramesToCapture < MAXUSHORT ? FramesToCapture : MAXUSHORT;
    if (FramesToSkip > MAXULONG - OWN_FRAMES) {
        return 0;
    }
    const ULONG Stored = KiCaptureCallers(FramesToSkip + OWN_FRAMES, Count, BackTrace);
    if (BackTraceHash != NULL) {
        *BackTraceHash = 0;
        for (ULONG Index = 0; Index < Stored; Index += 1) {
            *BackTraceHash += (ULONG)(ULONG_PTR)BackTrace[Index];
        }
    }
    return (USHORT)Stored;
}

ULONG NTAPI RtlWalkFrameChain(PVOID *Callers, ULONG Count, ULONG Flags)
{
    return Flags != 0 ? 0 : KiCaptureCallers(OWN_FRAMES, Count, Callers);
}
