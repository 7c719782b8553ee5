// What drivers ask the executive about the system: features, products, local time, unique numbers.

#include <exddk.h>
#include <rtlddk.h>

#include "kernel/inc/ke.h"

// PF_* numbers of what every x64 processor has that runs this kernel.
static const UCHAR ExpFeatures[] = {
    2,  // PF_COMPARE_EXCHANGE_DOUBLE
    3,  // PF_MMX_INSTRUCTIONS_AVAILABLE
    6,  // PF_XMMI_INSTRUCTIONS_AVAILABLE
    8,  // PF_RDTSC_INSTRUCTION_AVAILABLE
    9,  // PF_PAE_ENABLED
    10, // PF_XMMI64_INSTRUCTIONS_AVAILABLE
    12, // PF_NX_ENABLED
    14, // PF_COMPARE_EXCHANGE128
};

BOOLEAN NTAPI ExIsProcessorFeaturePresent(ULONG ProcessorFeature)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(ExpFeatures); Index += 1) {
        if (ExpFeatures[Index] == ProcessorFeature) {
            return TRUE;
        }
    }
    return FALSE;
}

BOOLEAN NTAPI ExVerifySuite(SUITE_TYPE SuiteType)
{
    UNREFERENCED_PARAMETER(SuiteType);
    return FALSE;
}

KPROCESSOR_MODE NTAPI ExGetPreviousMode(VOID)
{
    return KernelMode;
}

VOID NTAPI ExSystemTimeToLocalTime(PLARGE_INTEGER SystemTime, PLARGE_INTEGER LocalTime)
{
    *LocalTime = *SystemTime;
}

VOID NTAPI ExLocalTimeToSystemTime(PLARGE_INTEGER LocalTime, PLARGE_INTEGER SystemTime)
{
    *SystemTime = *LocalTime;
}

// Stirs a number that counts up into one that looks random: the finaliser of MurmurHash3.
static ULONG64 ExpStir(ULONG64 Value)
{
    Value = (Value ^ (Value >> 33)) * 0xFF51AFD7ED558CCDull;
    Value = (Value ^ (Value >> 33)) * 0xC4CEB9FE1A85EC53ull;
    return Value ^ (Value >> 33);
}

NTSTATUS NTAPI ExUuidCreate(GUID *Uuid)
{
    static ULONG64 Counter;
    const ULONG64 Unique = __atomic_add_fetch(&Counter, 1, __ATOMIC_RELAXED);
    const ULONG64 Halves[2] = {ExpStir(KeReadCycles() ^ Unique << 48),
                               ExpStir(~KeReadCycles()) + Unique};
    C_ASSERT(sizeof(Halves) == sizeof(*Uuid));
    RtlCopyMemory(Uuid, Halves, sizeof(*Uuid));
    Uuid->Data3 = (USHORT)((Uuid->Data3 & 0x0FFF) | 0x4000);
    Uuid->Data4[0] = (UCHAR)((Uuid->Data4[0] & 0x3F) | 0x80);
    return STATUS_SUCCESS;
}
