// The inline part of "kernel/inc/kearch.h" on the build machine: there is one processor, and
// nothing interrupts it.
#pragma once

static inline KIRQL KeArchReadIrql(VOID)
{
    return PASSIVE_LEVEL;
}

static inline VOID KeArchWriteIrql(KIRQL Irql)
{
    UNREFERENCED_PARAMETER(Irql);
}

extern KPCR FakePcr; // fakeke.c

static inline PKPCR KeArchGetPcr(VOID)
{
    return &FakePcr;
}

static inline PKTHREAD KeArchGetCurrentThread(VOID)
{
    return FakePcr.CurrentThread;
}

static inline VOID KeArchPause(VOID)
{
}
