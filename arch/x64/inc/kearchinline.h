// The inline part of "kernel/inc/kearch.h" for x64: what every spin lock needs. Included by that
// header only.
#pragma once

#include "kernel/inc/kearch.h"

// [x64] CR8 is the task-priority register: interrupts whose vector / 16 is not higher wait.
static inline KIRQL KeArchReadIrql(VOID)
{
    ULONG64 Irql;
    __asm__ volatile("movq %%cr8, %0" : "=r"(Irql) : : "memory");
    return (KIRQL)Irql;
}

static inline VOID KeArchWriteIrql(KIRQL Irql)
{
    __asm__ volatile("movq %0, %%cr8" : : "r"((ULONG64)Irql) : "memory");
}

#define KI_FLAG_INTERRUPTS 0x200ull

// Turns interrupts off, and back to what they were: for a few instructions.
static inline ULONG64 KeArchHoldInterrupts(VOID)
{
    ULONG64 Flags;
    __asm__ volatile("pushfq; popq %0; cli" : "=r"(Flags) : : "memory");
    return Flags;
}

static inline BOOLEAN KeArchAreInterruptsOn(VOID)
{
    ULONG64 Flags;
    __asm__ volatile("pushfq; popq %0" : "=r"(Flags) : : "memory");
    return (Flags & KI_FLAG_INTERRUPTS) != 0;
}

static inline VOID KeArchReleaseInterrupts(ULONG64 Flags)
{
    __asm__ volatile("pushq %0; popfq" : : "r"(Flags) : "memory", "cc");
}

static inline PKPCR KeArchGetPcr(VOID)
{
    PKPCR Pcr;
    __asm__ volatile("movq %%gs:%c1, %0" : "=r"(Pcr) : "i"(FIELD_OFFSET(KPCR, Self)));
    return Pcr;
}

static inline PKTHREAD KeArchGetCurrentThread(VOID)
{
    PKTHREAD Thread;
    __asm__ volatile("movq %%gs:%c1, %0" : "=r"(Thread) : "i"(FIELD_OFFSET(KPCR, CurrentThread)));
    return Thread;
}

// Calls KiWaitWhileTaken, and saves all registers first (spin.S): whoever finds a lock free does not pay for
// the call that he does not make.
static inline VOID KeArchWaitWhileTaken(const KSPIN_LOCK *Word)
{
    __asm__ volatile("call KiSaveAllAndWait" : : "D"(Word) : "memory", "cc");
}

static inline VOID KeArchPause(VOID)
{
    __asm__ volatile("pause" : : : "memory");
}
