// The loaded images.
//
// Records are in one array and are never freed, only used again, so that LdrFindImage, which an
// unwinder or a crash dump calls wherever it is, can read them without a lock: a record that changes
// meanwhile has an odd version, or another one afterwards, and is passed over.
//
// Invariant:
//   N1  A record's version is even whenever its writer is not between LdrpBeginChange and
//       LdrpEndChange; with an even version, all of its fields belong together.
// Lock: the loader's (load.c) for writers.
#include "kernel/inc/ldr.h"
#include "kernel/inc/rtl.h"
#include "kernel/ldr/ldrp.h"

static LDR_IMAGE LdrpImages[LDR_MAXIMUM_IMAGES];
static ULONG LdrpImageEnd; // behind the last record that was ever used

const LDR_IMAGE *LdrFindImage(ULONG_PTR Address)
{
    const ULONG End = __atomic_load_n(&LdrpImageEnd, __ATOMIC_ACQUIRE);
    for (ULONG Index = 0; Index < End; Index += 1) {
        const LDR_IMAGE *Image = &LdrpImages[Index];
        const ULONG Version = __atomic_load_n(&Image->Version, __ATOMIC_ACQUIRE);
        const ULONG_PTR Base = __atomic_load_n(&Image->Base, __ATOMIC_RELAXED);
        const SIZE_T ByteCount = __atomic_load_n(&Image->ByteCount, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (Address - Base < ByteCount && Version % 2 == 0 &&
            __atomic_load_n(&Image->Version, __ATOMIC_RELAXED) == Version) {
            return Image;
        }
    }
    return NULL;
}

static VOID LdrpBeginChange(PLDR_IMAGE Image)
{
    __atomic_store_n(&Image->Version, Image->Version + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

static VOID LdrpEndChange(PLDR_IMAGE Image)
{
    __atomic_store_n(&Image->Version, Image->Version + 1, __ATOMIC_RELEASE);
}

PLDR_IMAGE LdrpPublishImage(const LDR_IMAGE *Contents)
{
    ULONG Index = 0;
    while (Index < LDR_MAXIMUM_IMAGES && LdrpImages[Index].ByteCount != 0) {
        Index += 1;
    }
    if (Index == LDR_MAXIMUM_IMAGES) {
        return NULL;
    }
    const PLDR_IMAGE Image = &LdrpImages[Index];
    LDR_IMAGE New = *Contents;
    LdrpBeginChange(Image);
    New.Version = Image->Version; // odd, while the rest is copied
    *Image = New;
    LdrpEndChange(Image);
    if (Index >= LdrpImageEnd) {
        __atomic_store_n(&LdrpImageEnd, Index + 1, __ATOMIC_RELEASE);
    }
    return Image;
}

VOID LdrpWithdrawImage(PLDR_IMAGE Image)
{
    LdrpBeginChange(Image);
    Image->ByteCount = 0;
    LdrpEndChange(Image);
}

PLDR_IMAGE LdrpNextImage(const LDR_IMAGE *Previous)
{
    ULONG Index = Previous == NULL ? 0 : LdrpIndexOfImage(Previous) + 1;
    while (Index < LdrpImageEnd && LdrpImages[Index].ByteCount == 0) {
        Index += 1;
    }
    return Index < LdrpImageEnd ? &LdrpImages[Index] : NULL;
}

ULONG LdrpIndexOfImage(const LDR_IMAGE *Image)
{
    return (ULONG)(Image - LdrpImages);
}

PLDR_IMAGE LdrpImageOfIndex(ULONG Index)
{
    return &LdrpImages[Index];
}
