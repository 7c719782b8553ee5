// Memory for a device that can address 32 bits: one piece below 4 GiB, with an address for the
// driver.
#include "examples.h"

#define HIGHEST_BYTE 0xFFFFFFFF

PMDL ExampleAllocateLowPages(ULONG ByteCount, PHYSICAL_ADDRESS *Address)
{
    const PHYSICAL_ADDRESS Lowest = {.QuadPart = 0};
    const PHYSICAL_ADDRESS Highest = {.QuadPart = HIGHEST_BYTE};
    const PHYSICAL_ADDRESS OneWindow = {.QuadPart = 0};
    const PMDL Mdl =
        MmAllocatePagesForMdlEx(Lowest, Highest, OneWindow, ByteCount, MmCached,
                                MM_ALLOCATE_FULLY_REQUIRED | MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);
    if (Mdl == NULL) {
        return NULL;
    }
    if (MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority | MdlMappingNoExecute) == NULL) {
        ExampleFreeLowPages(Mdl);
        return NULL;
    }
    Address->QuadPart = (LONGLONG)(*MmGetMdlPfnArray(Mdl) << PAGE_SHIFT);
    return Mdl;
}

VOID ExampleFreeLowPages(PMDL Mdl)
{
    MmFreePagesFromMdl(Mdl); // unmaps, and gives the frames back
    ExFreePool(Mdl);
}
