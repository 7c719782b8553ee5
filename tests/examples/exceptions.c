// A job of several steps. A step that can't be done raises, from however deep; the one handler
// undoes the steps before it.
#include "examples.h"

static VOID DoStep(ULONG Step, ULONG FailingStep)
{
    if (Step == FailingStep) {
        ExRaiseStatus(STATUS_DEVICE_NOT_READY);
    }
}

NTSTATUS ExampleTryAll(ULONG StepCount, ULONG FailingStep, PULONG UndoneCount)
{
    volatile ULONG DoneCount = 0; // changed in the body and read in the catch
    *UndoneCount = 0;
    KmTry {
        for (ULONG Step = 0; Step < StepCount; Step += 1) {
            DoStep(Step, FailingStep);
            DoneCount += 1;
        }
    }
    KmCatch (Status) {
        *UndoneCount = DoneCount;
        return Status;
    }
    return STATUS_SUCCESS;
}
