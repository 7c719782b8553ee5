// Quarantine: frames that a device may write to for ever.
//
// A driver whose device never answers gives up, and so does whoever waits for the driver: the memory of
// the transfer is freed like any other. If it were used again, the device could wake up and write into
// what is somebody else's by then. So the frames are marked while they are still in use. The mark shows
// when they are freed: a frame goes to the state MiPfnQuarantine, and a small pool block stays out,
// with the page that it lies in. Nothing leaves quarantine.
//
// The mark stands in MMPFN.UsedBlockCount, which the pool's pages count their blocks with, under the
// pool's lock.
#include "mm/mi.h"

ULONG64 MmQuarantineFrames(const PFN_NUMBER *Pfns, ULONG64 PageCount)
{
    ULONG64 NewCount = 0;
    for (ULONG64 Page = 0; Page < PageCount; Page += 1) {
        const PMMPFN Element = MiPfnElement(Pfns[Page]);
        const MI_PFN_STATE State = MiPfnState(Pfns[Page]);
        if (Element != NULL && !MiIsFree(State) && State != MiPfnQuarantine) {
            NewCount += MiMarkQuarantined(Element) ? 1 : 0;
        }
    }
    return NewCount;
}
