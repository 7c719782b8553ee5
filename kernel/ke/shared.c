// KUSER_SHARED_DATA: times, version and features, which drivers read at a fixed address without a call.
//
// The page is part of the kernel's data. Drivers see it at KI_USER_SHARED_DATA, where it cannot be
// written to (MmMapSharedData).
//
// Invariant:
//   H1  A time is three words: High2Time is written before the lower 64 bits, which are written at once.
//       Who reads it in halves reads again until both high halves agree.
// Lock: none; the clock of the first processor writes.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"

#define KI_MACHINE_AMD64 0x8664
#define KI_PRODUCT_WORKSTATION 1
#define KI_BUILD_NUMBER_INDEX 6 // in Reserved2
#define KI_MULTIPLIER_SHIFT 24
#define KI_LARGE_PAGE_BYTES 0x200000

static union {
    KUSER_SHARED_DATA Data;
    UCHAR Page[PAGE_SIZE];
} KiSharedPage __attribute__((aligned(PAGE_SIZE)));

C_ASSERT(sizeof(KiSharedPage) == PAGE_SIZE);

static VOID KiWriteTime(volatile KSYSTEM_TIME *Time, ULONG64 Value)
{
    Time->High2Time = (LONG)(Value >> 32);
    // [x64] Within a cache line a store of 64 bits is one, aligned or not.
    *(volatile ULONG64 *)(volatile VOID *)&Time->LowPart = Value;
}

VOID KiShowTime(ULONG64 InterruptTime)
{
    KUSER_SHARED_DATA *Data = &KiSharedPage.Data;
    const ULONG64 Ticks = InterruptTime / KI_TIME_INCREMENT;
    KiWriteTime(&Data->InterruptTime, InterruptTime);
    KiWriteTime(&Data->SystemTime, KiSystemTimeAtStart() + InterruptTime);
    KiWriteTime(&Data->TickCount, Ticks);
    Data->TickCountLowDeprecated = (ULONG)Ticks;
}

static VOID KiShowFeatures(BOOLEAN *Features)
{
    static const UCHAR Always[] = {
        PF_COMPARE_EXCHANGE_DOUBLE,
        PF_MMX_INSTRUCTIONS_AVAILABLE,
        PF_XMMI_INSTRUCTIONS_AVAILABLE,
        PF_RDTSC_INSTRUCTION_AVAILABLE,
        PF_PAE_ENABLED,
        PF_XMMI64_INSTRUCTIONS_AVAILABLE,
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Always); Row += 1) {
        Features[Always[Row]] = TRUE;
    }
    Features[PF_NX_ENABLED] = KeFeatures.Nx;
    Features[PF_SSE3_INSTRUCTIONS_AVAILABLE] = KeFeatures.Sse3;
    Features[PF_COMPARE_EXCHANGE128] = KeFeatures.CompareExchange16;
}

const VOID *KeInitializeSharedData(VOID)
{
    static const WCHAR Root[] = u"C:\\Windows";
    KUSER_SHARED_DATA *Data = &KiSharedPage.Data;
    Data->TickCountMultiplier = 1u << KI_MULTIPLIER_SHIFT; // a tick is a millisecond
    Data->ImageNumberLow = KI_MACHINE_AMD64;
    Data->ImageNumberHigh = KI_MACHINE_AMD64;
    RtlCopyMemory(Data->NtSystemRoot, Root, sizeof(Root));
    Data->LargePageMinimum = KI_LARGE_PAGE_BYTES;
    Data->Reserved2[KI_BUILD_NUMBER_INDEX] = KI_BUILD_NUMBER;
    Data->NtProductType = KI_PRODUCT_WORKSTATION;
    Data->ProductTypeIsValid = TRUE;
    Data->NtMajorVersion = 10;
    Data->NtMinorVersion = 0;
    KiShowFeatures(Data->ProcessorFeatures);
    KiShowTime(KiInterruptTimeNow());
    return &KiSharedPage;
}
