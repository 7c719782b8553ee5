// This processor's translations: forgetting them, changing the root, and flushing data caches by
// address.
//
// [x64] A load of CR3 keeps global translations, and this kernel's are all global, so forgetting
// everything means switching CR4.PGE off and on again, or one INVPCID where there is that. INVLPG also forgets all
// that the processor remembers of upper tables.

#include "arch/x64/mm/mmx64.h"

#define DEFAULT_CACHE_LINE_BYTES 64

C_ASSERT(MI_ARCH_PROCESSORS == KE_MAXIMUM_PROCESSORS);

// [x64] INVPCID of this type forgets the translations of all process-context identifiers, global ones
// included; CR4.PCIDE need not be on.
#define INVPCID_EVERYTHING 2ull

static VOID KiInvalidateEverything(VOID)
{
    static const ULONG64 Descriptor[2]; // which this type has no use for
    __asm__ volatile("invpcid %0, %1" : : "m"(Descriptor), "r"(INVPCID_EVERYTHING) : "memory");
}

VOID MiArchFlushAll(VOID)
{
    if (KeFeatures.Invpcid) {
        KiInvalidateEverything();
        return;
    }
    const ULONG64 Flags = KeArchHoldInterrupts(); // both writes on one processor
    const ULONG64 Cr4 = X64ReadCr4();
    if (Cr4 & CR4_PGE) {
        X64WriteCr4(Cr4 & ~CR4_PGE);
        X64WriteCr4(Cr4);
    } else {
        X64WriteCr3(X64ReadCr3());
    }
    KeArchReleaseInterrupts(Flags);
}

VOID KeArchForgetTranslations(VOID)
{
    MiArchFlushAll();
}

VOID MiArchLoadRoot(PFN_NUMBER RootPfn)
{
    X64WriteCr3(RootPfn << PAGE_SHIFT);
    MiArchFlushAll();
}

PFN_NUMBER MiArchReadRoot(VOID)
{
    return (X64ReadCr3() & PTE_FRAME) >> PAGE_SHIFT;
}

VOID MiArchFlushCacheRange(const VOID *Va, SIZE_T ByteCount)
{
    if (ByteCount == 0) {
        return;
    }
    if (!KeFeatures.ClFlush) {
        __asm__ volatile("wbinvd" : : : "memory");
        return;
    }
    const ULONG_PTR LineBytes =
        KeFeatures.CacheLineBytes != 0 ? KeFeatures.CacheLineBytes : DEFAULT_CACHE_LINE_BYTES;
    const ULONG_PTR LastLine = ((ULONG_PTR)Va + ByteCount - 1) & ~(LineBytes - 1);
    // The flush is ordered by fences only: stores before it must be in the cache, and the caller
    // may go on when done.
    __asm__ volatile("mfence" : : : "memory");
    for (ULONG_PTR Line = (ULONG_PTR)Va & ~(LineBytes - 1);; Line += LineBytes) {
        __asm__ volatile("clflush (%0)" : : "r"(Line) : "memory");
        if (Line == LastLine) {
            break;
        }
    }
    __asm__ volatile("mfence" : : : "memory");
}
