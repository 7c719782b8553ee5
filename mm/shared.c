// The page of shared data: written by the kernel in its own image, read by everybody at a fixed
// address.
#include "mm/mi.h"

VOID MmMapSharedData(const VOID *KernelPage)
{
    const ULONG_PTR Va = MiArchLayout[MiRegionSharedData].BaseVa;
    PFN_NUMBER Pfn = MI_NO_PFN;
    (VOID) MiTranslate((ULONG_PTR)KernelPage, &Pfn);
    NT_ASSERT(MiPfnState(Pfn) == MiPfnKernel);
    if (!NT_SUCCESS(MiPreparePages(Va, 1))) {
        MiBugCheck(INSTALL_MORE_MEMORY, 1, 0, 0, 0, "no memory for the tables of the shared page");
    }
    MiCommitPages(Va, &Pfn, 1, (MI_PROTECTION){MiAccessRead, MiCacheWriteBack});
}
