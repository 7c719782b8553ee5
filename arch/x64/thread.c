// The stack of a thread that has not run yet, and the processor's rest.

#include "arch/x64/x64.h"

#include "kernel/inc/ps.h"

// As KeArchSwitchStack leaves it.
typedef struct _KI_SWITCH_FRAME {
    UCHAR Xmm[10][16];
    ULONG MxCsr;
    ULONG Padding;
    ULONG64 R15, R14, R13, R12, Rbx, Rbp;
    ULONG64 Rip;
    ULONG64 Bottom; // where a return address would be: 0
} KI_SWITCH_FRAME;

C_ASSERT(FIELD_OFFSET(KI_SWITCH_FRAME, MxCsr) == 10 * 16);
C_ASSERT(sizeof(KI_SWITCH_FRAME) % 16 == 8);

extern const UCHAR KiThreadBottom[]; // switch.S

ULONG64 KeArchPrepareStack(ULONG_PTR StackBase)
{
    // Eight bytes more, so that the frame begins at a multiple of 16 and KiThreadBottom finds the
    // stack aligned for its call.
    KI_SWITCH_FRAME *Frame = (KI_SWITCH_FRAME *)(StackBase - sizeof(ULONG64)) - 1;
    NT_ASSERT((ULONG_PTR)Frame % 16 == 0);
    *Frame = (KI_SWITCH_FRAME){.MxCsr = MXCSR_ALL_MASKED, .Rip = (ULONG64)KiThreadBottom};
    return (ULONG64)Frame;
}

VOID KeArchIdle(VOID)
{
    __asm__ volatile("sti; hlt" : : : "memory"); // no interrupt comes between the two
}
