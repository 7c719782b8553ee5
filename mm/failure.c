// Failures on purpose: makes chosen allocations fail, so that the paths which real memory almost
// never takes are walked by tests. Every allocator of mm asks MiMustFail once, at its beginning;
// nothing else fails for lack of memory.
#include "mm/mi.h"

static struct {
    ULONG Kinds; // 0: off
    ULONG SkipCount;
    ULONG FailCount;
    ULONG FailedCount;
} MiFailure;

BOOLEAN MiMustFail(ULONG Kind)
{
    if ((MiFailure.Kinds & Kind) == 0) {
        return FALSE;
    }
    if (MiFailure.SkipCount > 0) {
        MiFailure.SkipCount -= 1;
        return FALSE;
    }
    if (MiFailure.FailCount == 0) {
        return FALSE;
    }
    if (MiFailure.FailCount != MAXULONG) {
        MiFailure.FailCount -= 1;
    }
    MiFailure.FailedCount += 1;
    return TRUE;
}

VOID MmStartFailures(ULONG Kinds, ULONG SkipCount, ULONG FailCount)
{
    MiFailure.SkipCount = SkipCount;
    MiFailure.FailCount = FailCount;
    MiFailure.FailedCount = 0;
    MiFailure.Kinds = Kinds;
}

ULONG MmStopFailures(VOID)
{
    MiFailure.Kinds = 0;
    return MiFailure.FailedCount;
}
