// The dump of a crash: where, why, registers, the translation of the address, the stack with names.
//
// Everything that may be damaged (stack, tables, code bytes) is read through probes, so the dump
// comes to its end even when the crash took the stack with it.

#include "arch/x64/x64.h"

#include "kernel/inc/ke.h"
#include "mm/miarch.h"

#define STACK_TRACE_MAX_LINES 24
#define SELECTOR_ERROR_EXTERNAL 1u
#define SELECTOR_ERROR_IDT 2u

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

typedef struct _KI_STACK_FRAME {
    ULONG64 Caller; // its frame
    ULONG64 ReturnAddress;
} KI_STACK_FRAME;

// At [rbp] lies the caller's rbp, at [rbp + 8] the return address.
static BOOLEAN KiReadStackFrame(ULONG64 FramePointer, KI_STACK_FRAME *Frame)
{
    const ULONG64 *Words = (const ULONG64 *)FramePointer;
    return FramePointer != 0 && FramePointer % sizeof(ULONG64) == 0 &&
           !KeProbeRead(&Words[0], &Frame->Caller).Faulted &&
           !KeProbeRead(&Words[1], &Frame->ReturnAddress).Faulted && Frame->ReturnAddress != 0;
}

static VOID KiPrintRepeats(ULONG Repeats)
{
    if (Repeats > 0) {
        DbgPrint("    (%u times more)\n", Repeats);
    }
}

// Follows the chain of frames. One that does not rise is damaged, and ends the trace; equal ones in
// a row, as endless recursion leaves them, are counted.
static VOID KiPrintStack(ULONG64 FramePointer)
{
    ULONG64 LastAddress = 0;
    ULONG Repeats = 0;
    ULONG Printed = 0;
    KI_STACK_FRAME Frame;
    DbgPrint("  stack:\n");
    while (Printed < STACK_TRACE_MAX_LINES && KiReadStackFrame(FramePointer, &Frame)) {
        if (Frame.ReturnAddress == LastAddress) {
            ++Repeats;
        } else {
            KiPrintRepeats(Repeats);
            KiPrintReturnAddress("    ", Frame.ReturnAddress);
            LastAddress = Frame.ReturnAddress;
            Repeats = 0;
            ++Printed;
        }
        if (Frame.Caller <= FramePointer) {
            break;
        }
        FramePointer = Frame.Caller;
    }
    KiPrintRepeats(Repeats);
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
    KiPrintStack(Frame->Rbp);
}

VOID KeArchPrintDump(VOID)
{
    const KTRAP_FRAME *Frame = KiGetFatalFrame();
    if (Frame != NULL) {
        KiDumpTrap(Frame);
        return;
    }
    KiPrintControlRegisters();
    KiPrintStack((ULONG64)__builtin_frame_address(0));
}
