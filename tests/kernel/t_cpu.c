// The processor: every protection that it offers is on, its cache types are what mm counts on, and
// the small services that everything else stands on (IRQL, locks, time, probes) do what they say.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "tests/kernel/reference.h"
#include "tests/kernel/tests.h"

// A protection that CPUID offers, and the register bit that turns it on.
static const struct {
    PCSTR Name;
    ULONG Leaf;
    UCHAR Register; // of CPUID: 'b', 'c' or 'd'
    ULONG CpuidBit;
    ULONG64 Cr4Bit;
} Protections[] = {
    {"SMEP", 7, 'b', 1u << 7, REF_CR4_SMEP},         {"SMAP", 7, 'b', 1u << 20, REF_CR4_SMAP},
    {"UMIP", 7, 'c', 1u << 2, REF_CR4_UMIP},         {"PKS", 7, 'c', 1u << 31, REF_CR4_PKS},
    {"global pages", 1, 'd', 1u << 13, REF_CR4_PGE},
};

#define CPUID_MAXIMUM_LEAF 0
#define CPUID_EXTENDED_LEAF 0x80000001u
#define CPUID_EXTENDED_NX (1u << 20)
#define CPUID_EXTENDED_1G (1u << 26)
#define CPUID_ADDRESS_LEAF 0x80000008u
#define PAT_AS_DESIGNED 0x0007010600070106ull

static BOOLEAN IsOffered(ULONG Leaf, UCHAR Register, ULONG Bit)
{
    if (RefCpuid(CPUID_MAXIMUM_LEAF).Eax < Leaf) {
        return FALSE;
    }
    const REF_CPUID Result = RefCpuid(Leaf);
    const ULONG Value = Register == 'b' ? Result.Ebx : Register == 'c' ? Result.Ecx : Result.Edx;
    return (Value & Bit) != 0;
}

static VOID OfferedProtectionsAreOn(VOID)
{
    const ULONG64 Cr4 = RefReadCr4();
    for (ULONG Row = 0; Row < ARRAYSIZE(Protections); Row += 1) {
        KtSetContext("%s", Protections[Row].Name);
        const BOOLEAN Offered =
            IsOffered(Protections[Row].Leaf, Protections[Row].Register, Protections[Row].CpuidBit);
        KT_EQUAL((Cr4 & Protections[Row].Cr4Bit) != 0, Offered);
    }
}

static VOID WriteProtectHoldsInKernelMode(VOID)
{
    KT_CHECK((RefReadCr0() & REF_CR0_WP) != 0);
}

static VOID NoExecuteIsOn(VOID)
{
    const BOOLEAN Offered = (RefCpuid(CPUID_EXTENDED_LEAF).Edx & CPUID_EXTENDED_NX) != 0;
    KT_EQUAL((KeArchReadMsr(REF_MSR_EFER) & REF_EFER_NXE) != 0, Offered);
    KT_EQUAL(KeFeatures.Nx, Offered);
}

static VOID FeaturesAgreeWithRegisters(VOID)
{
    const ULONG64 Cr4 = RefReadCr4();
    KT_EQUAL(KeFeatures.Smep, (Cr4 & REF_CR4_SMEP) != 0);
    KT_EQUAL(KeFeatures.Smap, (Cr4 & REF_CR4_SMAP) != 0);
    KT_EQUAL(KeFeatures.Umip, (Cr4 & REF_CR4_UMIP) != 0);
    KT_EQUAL(KeFeatures.Pks, (Cr4 & REF_CR4_PKS) != 0);
    KT_EQUAL(KeFeatures.GlobalPages, (Cr4 & REF_CR4_PGE) != 0);
    KT_EQUAL(KeFeatures.WriteProtect, (RefReadCr0() & REF_CR0_WP) != 0);
    KT_EQUAL(KeFeatures.Page1G, (RefCpuid(CPUID_EXTENDED_LEAF).Edx & CPUID_EXTENDED_1G) != 0);
    KT_EQUAL(KeFeatures.PhysicalBits, RefCpuid(CPUID_ADDRESS_LEAF).Eax & 0xFF);
}

static VOID PatIsAsDesigned(VOID)
{
    if (!KeFeatures.Pat) {
        KT_SKIP("the processor has no PAT");
    }
    KT_EQUAL(KeArchReadMsr(REF_MSR_PAT), PAT_AS_DESIGNED);
}

static VOID ProcessorRegionIsInPlace(VOID)
{
    KtStayOnOneProcessor();
    const PKPCR Pcr = KeArchGetPcr();
    KT_EQUAL(Pcr->Self, Pcr);
    KT_EQUAL(Pcr->Number, 0);
    KT_EQUAL(KiGetCurrentProcessor(), 0);
}

//
// Probes: each kind of fault comes back as a value.
//

#define NON_CANONICAL ((PVOID)0x0000900000000000)
#define UNMAPPED ((PVOID)0xFFFFA00000000000) // canonical, and no region of the kernel lies there

static const ULONG64 ReadOnlyWord = 0x1122334455667788;

static VOID ProbesReadWhatIsThere(VOID)
{
    ULONG64 Value = 0;
    KT_EQUAL(KeProbeRead(&ReadOnlyWord, &Value).Faulted, FALSE);
    KT_EQUAL(Value, ReadOnlyWord);
    UCHAR Byte = 0;
    KT_EQUAL(KeProbeWrite(&Byte, 0x5A).Faulted, FALSE);
    KT_EQUAL(Byte, 0x5A);
}

static VOID CheckPageFault(KE_PROBE_RESULT Result, const VOID *Va, ULONG ErrorCode)
{
    KT_EQUAL(Result.Faulted, TRUE);
    KT_EQUAL(Result.Vector, REF_VECTOR_PAGE_FAULT);
    KT_EQUAL(Result.ErrorCode, ErrorCode);
    KT_EQUAL(Result.FaultAddress, Va);
}

static VOID UnmappedPagesFault(VOID)
{
    ULONG64 Value;
    const ULONG FetchBit = KeFeatures.Nx || KeFeatures.Smep ? REF_FAULT_FETCH : 0;
    CheckPageFault(KeProbeRead(UNMAPPED, &Value), UNMAPPED, 0);
    CheckPageFault(KeProbeWrite(UNMAPPED, 0), UNMAPPED, REF_FAULT_WRITE);
    CheckPageFault(KeProbeExecute(UNMAPPED), UNMAPPED, FetchBit);
}

static VOID ReadOnlyDataFaultsOnWrite(VOID)
{
    PVOID Va = (PVOID)(ULONG_PTR)&ReadOnlyWord;
    CheckPageFault(KeProbeWrite(Va, 0), Va, REF_FAULT_PRESENT | REF_FAULT_WRITE);
    KT_EQUAL(*(const volatile ULONG64 *)&ReadOnlyWord, 0x1122334455667788);
}

static VOID DataFaultsOnExecute(VOID)
{
    if (!KeFeatures.Nx) {
        KT_SKIP("the processor has no NX");
    }
    static UCHAR Code[16] = {0xC3}; // ret
    CheckPageFault(KeProbeExecute(Code), Code, REF_FAULT_PRESENT | REF_FAULT_FETCH);
}

static VOID NonCanonicalAddressesFault(VOID)
{
    ULONG64 Value;
    const KE_PROBE_RESULT Results[] = {
        KeProbeRead(NON_CANONICAL, &Value),
        KeProbeWrite(NON_CANONICAL, 0),
        KeProbeExecute(NON_CANONICAL),
    };
    for (ULONG Index = 0; Index < ARRAYSIZE(Results); Index += 1) {
        KtSetContext("access %u", Index);
        KT_EQUAL(Results[Index].Faulted, TRUE);
        KT_EQUAL(Results[Index].Vector, REF_VECTOR_GENERAL_PROTECTION);
        KT_EQUAL(Results[Index].FaultAddress, 0);
    }
}

static VOID ProbesWorkAgainAndAtAnyIrql(VOID)
{
    ULONG64 Value;
    KIRQL OldIrql;
    KeRaiseIrql(HIGH_LEVEL, &OldIrql);
    for (ULONG Round = 0; Round < 100; Round += 1) {
        KT_EQUAL(KeProbeRead(UNMAPPED, &Value).Faulted, TRUE);
        KT_EQUAL(KeProbeRead(&ReadOnlyWord, &Value).Faulted, FALSE);
    }
    KT_EQUAL(KeGetCurrentIrql(), HIGH_LEVEL);
    KeLowerIrql(OldIrql);
}

//
// IRQL, locks, time.
//

static VOID IrqlIsTheTaskPriority(VOID)
{
    KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
    for (ULONG Irql = PASSIVE_LEVEL; Irql <= HIGH_LEVEL; Irql += 1) {
        KIRQL OldIrql;
        KeRaiseIrql((KIRQL)Irql, &OldIrql);
        KT_EQUAL(OldIrql, PASSIVE_LEVEL);
        KT_EQUAL(KeGetCurrentIrql(), Irql);
        KT_EQUAL(RefReadCr8(), Irql);
        KeLowerIrql(OldIrql);
    }
    KT_EQUAL(RefReadCr8(), PASSIVE_LEVEL);
}

static VOID SpinLocksRaiseToDispatch(VOID)
{
    KSPIN_LOCK Lock;
    KeInitializeSpinLock(&Lock);
    const KIRQL OldIrql = KeAcquireSpinLockRaiseToDpc(&Lock);
    KT_EQUAL(OldIrql, PASSIVE_LEVEL);
    KT_EQUAL(KeGetCurrentIrql(), DISPATCH_LEVEL);
    KeReleaseSpinLock(&Lock, OldIrql);
    KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

static VOID RankedLocksNestUpwards(VOID)
{
    static KI_LOCK Lower = KI_LOCK_INITIALIZER(20, "Lower");
    static KI_LOCK Upper = KI_LOCK_INITIALIZER(21, "Upper");
    const KIRQL OldIrql = KiAcquireLock(&Lower);
    KT_CHECK(KiIsLockHeld(&Lower));
    KT_CHECK(!KiIsLockHeld(&Upper));
    const KIRQL MiddleIrql = KiAcquireLock(&Upper);
    KT_EQUAL(MiddleIrql, DISPATCH_LEVEL);
    KT_CHECK(KiIsLockHeld(&Upper));
    KiReleaseLock(&Upper, MiddleIrql);
    KT_EQUAL(KeGetCurrentIrql(), DISPATCH_LEVEL);
    KiReleaseLock(&Lower, OldIrql);
    KT_CHECK(!KiIsLockHeld(&Lower));
    KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

static VOID TimeNeverGoesBack(VOID)
{
    LONG64 Last = KeQueryPerformanceCounter(NULL).QuadPart;
    BOOLEAN IsMonotonic = TRUE;
    for (ULONG Round = 0; Round < 1000; Round += 1) {
        const LONG64 Now = KeQueryPerformanceCounter(NULL).QuadPart;
        IsMonotonic = IsMonotonic && Now >= Last;
        Last = Now;
    }
    KT_CHECK(IsMonotonic);
    KT_CHECK(KeGetCyclesPerSecond() != 0);
}

#define MICROSECONDS_PER_SECOND 1000000

static VOID StallsLastAtLeastAsLongAsAsked(VOID)
{
    static const ULONG Microseconds[] = {0, 1, 50, 1000};
    for (ULONG Row = 0; Row < ARRAYSIZE(Microseconds); Row += 1) {
        KtSetContext("%u us", Microseconds[Row]);
        LARGE_INTEGER Frequency;
        const LONG64 Start = KeQueryPerformanceCounter(&Frequency).QuadPart;
        KeStallExecutionProcessor(Microseconds[Row]);
        const LONG64 Elapsed = KeQueryPerformanceCounter(NULL).QuadPart - Start;
        KT_CHECK(Frequency.QuadPart > 0);
        KT_CHECK((ULONG64)Elapsed * MICROSECONDS_PER_SECOND >=
                 (ULONG64)Microseconds[Row] * (ULONG64)Frequency.QuadPart);
    }
}

static const KT_TEST Tests[] = {
    {"every protection that CPUID offers is on [13.9.2]", OfferedProtectionsAreOn},
    {"CR0.WP makes read-only pages read-only for the kernel, too [4.2.2, 13.9.1]",
     WriteProtectHoldsInKernelMode},
    {"EFER.NXE is on where CPUID offers it [13.9.1]", NoExecuteIsOn},
    {"KeFeatures says what the registers say", FeaturesAgreeWithRegisters},
    {"the PAT holds WB, WC, UC-, UC, twice [12.1.1]", PatIsAsDesigned},
    {"the processor control region points to itself and is number 0 [20.4.3]",
     ProcessorRegionIsInPlace},
    {"a probe of good memory reads and writes it", ProbesReadWhatIsThere},
    {"an unmapped page faults on read, write and execute", UnmappedPagesFault},
    {"read-only data faults on write and keeps its value", ReadOnlyDataFaultsOnWrite},
    {"data faults on execute", DataFaultsOnExecute},
    {"a non-canonical address raises a general protection fault", NonCanonicalAddressesFault},
    {"probes work repeatedly and at HIGH_LEVEL", ProbesWorkAgainAndAtAnyIrql},
    {"IRQL is the task priority and goes up and down [1.3.1, 1.3.2]", IrqlIsTheTaskPriority},
    {"a spin lock raises to DISPATCH_LEVEL and back", SpinLocksRaiseToDispatch},
    {"ranked locks nest from low to high rank", RankedLocksNestUpwards},
    {"the performance counter never goes back", TimeNeverGoesBack},
    {"a stall lasts at least as long as asked", StallsLastAtLeastAsLongAsAsked},
};

const KT_SUITE KtCpuSuite = {"cpu", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
