// The kernel's half of the address space, and the sections of its image.

#include "arch/x64/mm/mmx64.h"

#define GIB (1ull << 30)
#define TIB (1ull << 40)

#define SELF_MAP_SLOT 0x1EDu
#define IMAGE_BASE_VA 0xFFFFFFFF80000000 // where the image is linked for physical address 0

// [x64] The top of the address space is left out of the image's region, so that its end does not
// wrap to zero.
const MI_VIRTUAL_REGION MiArchLayout[MiRegionCount] = {
    [MiRegionDirectMap] = {0xFFFF800000000000, 64 * TIB, "direct map"},
    [MiRegionSelfMap] = {0xFFFFF68000000000, 512 * GIB, "self-map"},
    [MiRegionSystemPtes] = {0xFFFFF88000000000, 16 * GIB, "system PTEs"},
    [MiRegionLargeSystemPtes] = {0xFFFFF90000000000, 4 * TIB, "large system PTEs"},
    [MiRegionPool] = {0xFFFFF8A000000000, 16 * GIB, "pool"},
    [MiRegionDriverImages] = {0xFFFFF80000000000, 1 * GIB, "driver images"},
    [MiRegionSharedData] = {KI_USER_SHARED_DATA, PAGE_SIZE, "shared data"},
    [MiRegionKernelImage] = {IMAGE_BASE_VA, 1 * GIB, "kernel image"},
};

C_ASSERT((0xFFFFF68000000000 >> (PAGE_SHIFT + 3 * MI_PTE_INDEX_BITS) & (MI_PTES_PER_TABLE - 1)) ==
         SELF_MAP_SLOT);

ULONG MiArchSelfMapSlot(VOID)
{
    return SELF_MAP_SLOT;
}

// Named by linker.ld; each is page-aligned.
extern const UCHAR KiTextStart[], KiTextEnd[];
extern const UCHAR KiRodataStart[], KiRodataEnd[];
extern const UCHAR KiDataStart[], KiDataEnd[];

#define IMAGE_SECTION(Start, End, Access, Name)                                                    \
    {                                                                                              \
        (ULONG_PTR)(Start), (ULONG_PTR)(End), (ULONG_PTR)(Start)-IMAGE_BASE_VA, Access, Name       \
    }

static const MI_IMAGE_SECTION KiImageSections[] = {
    IMAGE_SECTION(KiTextStart, KiTextEnd, MiAccessExecuteRead, "text"),
    IMAGE_SECTION(KiRodataStart, KiRodataEnd, MiAccessRead, "read-only data"),
    IMAGE_SECTION(KiDataStart, KiDataEnd, MiAccessReadWrite, "data"),
};

ULONG MiArchImageSections(const MI_IMAGE_SECTION **Sections)
{
    *Sections = KiImageSections;
    return ARRAYSIZE(KiImageSections);
}
