// The dump of a crash: where, why, registers, the translation of the address, the stack with names.
//
// Everything that may be damaged (stack, tables, code bytes) is read through probes, so the dump
// comes to its end even when the crash took the stack with it.

#include "arch/x64/unwind.h"
#include "arch/x64/x64.h"

#include "kernel/inc/ke.h"
#include "mm/miarch.h"

#define STACK_TRACE_MAX_LINES 24
#define GUESSED_WORDS 256
#define GUESSES 8
#define SELECTOR_ERROR_EXTERNAL 1u
#define SELECTOR_ERROR_IDT 2u

// Named by linker.ld.
extern const UCHAR KiImageStart[], KiTextStart[];

typedef struct _KI_BIT_WORD {
    ULONG64 Bit;
    PCSTR Set;
    PCSTR Clear;
} KI_BIT_WORD;

static const KI_BIT_WORD KiPageFaultWords[] = {
    {PF_FETCH, "instruction fetch", NULL},
    {PF_WRITE, "write", NULL},
    {PF_PRESENT, "the page is present but forbids it", "the page is not present"},
    {PF_USER, "from user mode", "from the kernel"},
    {PF_RESERVED, "a reserved bit is set in an entry", NULL},
    {PF_PROTECTION_KEY, "a protection key forbids it", NULL},
};

static VOID KiPrintPageFaultError(ULONG64 ErrorCode)
{
    PCSTR Separator = "";
    if (!(ErrorCode & (PF_FETCH | PF_WRITE))) {
        DbgPrint("read");
        Separator = ", ";
    }
    for (ULONG Index = 0; Index < sizeof(KiPageFaultWords) / sizeof(KiPageFaultWords[0]);
         Index += 1) {
        const KI_BIT_WORD *Row = &KiPageFaultWords[Index];
        PCSTR Word = ErrorCode & Row->Bit ? Row->Set : Row->Clear;
        if (Word != NULL) {
            DbgPrint("%s%s", Separator, Word);
            Separator = ", ";
        }
    }
}

static VOID KiPrintSelectorError(ULONG64 ErrorCode)
{
    if (ErrorCode == 0) {
        DbgPrint("no selector involved");
        return;
    }
    DbgPrint("%s 0x%llx%s", ErrorCode & SELECTOR_ERROR_IDT ? "interrupt vector" : "selector",
             ErrorCode >> 3,
             ErrorCode & SELECTOR_ERROR_EXTERNAL ? ", raised by an event outside the program" : "");
}

// Prints Address with the name of what contains Inside, which is Address or lies just before it.
static VOID KiPrintNamed(PCSTR Label, ULONG64 Address, ULONG64 Inside)
{
    ULONG_PTR Offset;
    PCSTR Name = KiFindSymbol(Inside, &Offset);
    if (Name == NULL) {
        DbgPrint("%s0x%016llx\n", Label, Address);
    } else {
        DbgPrint("%s0x%016llx %s+0x%llx\n", Label, Address, Name, Offset + (Address - Inside));
    }
}

static VOID KiPrintAddress(PCSTR Label, ULONG64 Address)
{
    KiPrintNamed(Label, Address, Address);
}

// A call that never returns may be the last instruction of its function: the return address then
// lies in the next one, but the byte before it never does.
static VOID KiPrintReturnAddress(PCSTR Label, ULONG64 Address)
{
    KiPrintNamed(Label, Address, Address - 1);
}

static VOID KiPrintTrapReason(const KTRAP_FRAME *Frame)
{
    DbgPrint("  trap %llu (%s), error code 0x%llx: ", Frame->Vector,
             KiFindException(Frame->Vector)->Name, Frame->ErrorCode);
    if (Frame->Vector == VECTOR_PAGE_FAULT) {
        KiPrintPageFaultError(Frame->ErrorCode);
    } else {
        KiPrintSelectorError(Frame->ErrorCode);
    }
    DbgPrint("\n");
}

static VOID KiPrintGeneralRegisters(const KTRAP_FRAME *Frame)
{
    DbgPrint("  rax %016llx  rbx %016llx  rcx %016llx  rdx %016llx\n", Frame->Rax, Frame->Rbx,
             Frame->Rcx, Frame->Rdx);
    DbgPrint("  rsi %016llx  rdi %016llx  rbp %016llx  rsp %016llx\n", Frame->Rsi, Frame->Rdi,
             Frame->Rbp, Frame->Rsp);
    DbgPrint("  r8  %016llx  r9  %016llx  r10 %016llx  r11 %016llx\n", Frame->R8, Frame->R9,
             Frame->R10, Frame->R11);
    DbgPrint("  r12 %016llx  r13 %016llx  r14 %016llx  r15 %016llx\n", Frame->R12, Frame->R13,
             Frame->R14, Frame->R15);
    DbgPrint("  cs %04llx  ss %04llx  rflags %08llx\n", Frame->Cs, Frame->Ss, Frame->Rflags);
}

static VOID KiPrintControlRegisters(VOID)
{
    DbgPrint("  cr0 %08llx  cr3 %012llx  cr4 %08llx  efer %04llx  gs %016llx\n", X64ReadCr0(),
             X64ReadCr3(), X64ReadCr4(), KeArchReadMsr(MSR_EFER), KeArchReadMsr(MSR_GS_BASE));
}

static VOID KiPrintRepeats(ULONG Repeats)
{
    if (Repeats > 0) {
        DbgPrint("    (%u times more)\n", Repeats);
    }
}

// A line for each caller; equal ones in a row, as endless recursion leaves them, are counted.
typedef struct _KI_TRACE {
    ULONG64 LastAddress;
    ULONG Repeats;
    ULONG Printed;
} KI_TRACE;

static VOID KiTraceAddress(KI_TRACE *Trace, ULONG64 ReturnAddress)
{
    if (ReturnAddress == Trace->LastAddress) {
        Trace->Repeats += 1;
        return;
    }
    KiPrintRepeats(Trace->Repeats);
    KiPrintReturnAddress("    ", ReturnAddress);
    Trace->LastAddress = ReturnAddress;
    Trace->Repeats = 0;
    Trace->Printed += 1;
}

// The boot code calls the kernel; a thread's first frame has no caller.
static BOOLEAN KiIsOutermost(const CONTEXT *Context)
{
    return Context->Rip == 0 ||
           (Context->Rip >= (ULONG64)KiImageStart && Context->Rip < (ULONG64)KiTextStart);
}

#define CALL_RELATIVE 0xE8
#define CALL_RELATIVE_BYTES 5
#define CALL_INDIRECT 0xFF
#define CALL_INDIRECT_MAXIMUM_BYTES 7

// Whether the instruction before the address is a call: 5 bytes with the target, or by a register or
// from memory, which has 2 to 7 bytes and one of two operations.
static BOOLEAN KiFollowsCall(ULONG64 Address)
{
    UCHAR Bytes[CALL_INDIRECT_MAXIMUM_BYTES];
    if (!KiUnwindRead(Address - sizeof(Bytes), Bytes, sizeof(Bytes))) {
        return FALSE;
    }
    for (ULONG Index = 0; Index + 1 < sizeof(Bytes); Index += 1) {
        const UCHAR Operation = Bytes[Index + 1] >> 3 & 7;
        if (Bytes[Index] == CALL_INDIRECT && Operation == 2) {
            return TRUE;
        }
    }
    return Bytes[sizeof(Bytes) - CALL_RELATIVE_BYTES] == CALL_RELATIVE;
}

// What on the stack looks like a return address. For stacks that are damaged: some of it was left by
// calls that have returned.
static VOID KiPrintGuesses(ULONG64 Rsp)
{
    const ULONG64 *Word = (const ULONG64 *)(Rsp & ~7ull);
    ULONG Printed = 0;
    DbgPrint("  the frames end here, or are damaged; perhaps these called, too:\n");
    for (ULONG Index = 0; Index < GUESSED_WORDS && Printed < GUESSES; Index += 1) {
        ULONG64 Value;
        if (KeProbeRead(&Word[Index], &Value).Faulted) {
            return;
        }
        if (KiIsCode(Value) && KiFollowsCall(Value)) {
            KiPrintReturnAddress("    ", Value);
            Printed += 1;
        }
    }
}

// Takes a return address that lies at Va, if it is one.
static BOOLEAN KiReturnTo(PKI_FRAME_WALK Walk, ULONG64 Va)
{
    ULONG64 Address;
    if (!KiUnwindRead(Va, &Address, sizeof(Address)) || !KiIsCode(Address) ||
        !KiFollowsCall(Address)) {
        return FALSE;
    }
    Walk->Context.Rip = Address;
    Walk->Context.Rsp = Va + sizeof(Address);
    Walk->IsRipExact = FALSE;
    return TRUE;
}

// Code without tables (assembly): a leaf, or one that has left its caller's frame pointer alone.
static BOOLEAN KiLeaveWithoutTables(PKI_FRAME_WALK Walk)
{
    const ULONG64 Rbp = Walk->Context.Rbp;
    ULONG64 CallersRbp;
    if (Walk->IsRipExact && KiReturnTo(Walk, Walk->Context.Rsp)) {
        return TRUE;
    }
    if (Rbp % sizeof(ULONG64) != 0 || Rbp < Walk->Context.Rsp ||
        !KiUnwindRead(Rbp, &CallersRbp, sizeof(CallersRbp)) ||
        !KiReturnTo(Walk, Rbp + sizeof(CallersRbp))) {
        return FALSE;
    }
    Walk->Context.Rbp = CallersRbp;
    return TRUE;
}

// By the tables: drivers' and the compiler's of the kernel; else as well as can be. FALSE: the walk
// has come to its end.
static BOOLEAN KiLeaveAnyFrame(PKI_FRAME_WALK Walk)
{
    KI_FRAME Frame;
    KI_FRAME_WALK Before;
    RtlCopyMemory(&Before, Walk, sizeof(Before));
    if (KiLeaveFrameOrInterrupt(Walk, &Frame) && KiIsCode(Walk->Context.Rip)) {
        return TRUE;
    }
    if (KiIsOutermost(&Walk->Context)) {
        return FALSE;
    }
    RtlCopyMemory(Walk, &Before, sizeof(Before));
    return KiLeaveWithoutTables(Walk);
}

static VOID KiPrintStack(PKI_FRAME_WALK Walk)
{
    KI_TRACE Trace = {0};
    DbgPrint("  stack:\n");
    while (Trace.Printed < STACK_TRACE_MAX_LINES && KiLeaveAnyFrame(Walk)) {
        KiTraceAddress(&Trace, Walk->Context.Rip);
    }
    KiPrintRepeats(Trace.Repeats);
    if (Trace.Printed < STACK_TRACE_MAX_LINES && !KiIsOutermost(&Walk->Context)) {
        KiPrintGuesses(Walk->Context.Rsp);
    }
}

// A call to a wrong address leaves no frame; what it left is the return address on top of the
// stack.
static VOID KiPrintCallerOfBadCode(const KTRAP_FRAME *Frame)
{
    ULONG64 ReturnAddress;
    const BOOLEAN FetchFaulted =
        !MiArchIsCanonical(Frame->Rip) ||
        (Frame->Vector == VECTOR_PAGE_FAULT && (Frame->ErrorCode & PF_FETCH));
    if (FetchFaulted && !KeProbeRead((const VOID *)Frame->Rsp, &ReturnAddress).Faulted) {
        KiPrintReturnAddress("  perhaps called from ", ReturnAddress);
    }
}

static VOID KiDumpTrap(const KTRAP_FRAME *Frame)
{
    KiPrintAddress("  at ", Frame->Rip);
    KiPrintCallerOfBadCode(Frame);
    KiPrintTrapReason(Frame);
    KiPrintGeneralRegisters(Frame);
    KiPrintControlRegisters();
    // A double fault is mostly a page fault on the stack, whose address is still in CR2.
    if (Frame->Vector == VECTOR_PAGE_FAULT || Frame->Vector == VECTOR_DOUBLE_FAULT) {
        KiPrintPageTableWalk(Frame->Cr2);
    }
    KI_FRAME_WALK Walk = {.IsRipExact = TRUE};
    KiCaptureTrap(&Walk.Context, Frame);
    KiPrintStack(&Walk);
}

VOID KeArchPrintDump(VOID)
{
    const KTRAP_FRAME *Frame = KiGetFatalFrame();
    if (Frame != NULL) {
        KiDumpTrap(Frame);
        return;
    }
    KiPrintControlRegisters();
    KI_FRAME_WALK Walk = {.IsRipExact = FALSE};
    RtlCaptureContext(&Walk.Context);
    KiPrintStack(&Walk);
}
