// How many processors there are, and where threads and DPCs are to run. All are of one group, 0, and of
// one node.
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"

#define KI_ONLY_GROUP 0

CCHAR KeNumberProcessors = 1;

static KAFFINITY KiActiveProcessors(VOID)
{
    return ((KAFFINITY)1 << __atomic_load_n(&KeNumberProcessors, __ATOMIC_ACQUIRE)) - 1;
}

static BOOLEAN KiIsGroup(USHORT GroupNumber)
{
    return GroupNumber == KI_ONLY_GROUP || GroupNumber == ALL_PROCESSOR_GROUPS;
}

// -------------------------------------------------------------------------------------------------
// Questions.

ULONG NTAPI KeGetCurrentProcessorNumber(VOID)
{
    return KeArchGetPcr()->Number;
}

ULONG NTAPI KeGetCurrentProcessorNumberEx(PPROCESSOR_NUMBER ProcNumber)
{
    const ULONG Number = KeArchGetPcr()->Number;
    if (ProcNumber != NULL) {
        *ProcNumber = (PROCESSOR_NUMBER){.Group = KI_ONLY_GROUP, .Number = (UCHAR)Number};
    }
    return Number;
}

KAFFINITY NTAPI KeQueryActiveProcessors(VOID)
{
    return KiActiveProcessors();
}

KAFFINITY NTAPI KeQueryGroupAffinity(USHORT GroupNumber)
{
    return GroupNumber == KI_ONLY_GROUP ? KiActiveProcessors() : 0;
}

ULONG NTAPI KeQueryActiveProcessorCount(PKAFFINITY ActiveProcessors)
{
    if (ActiveProcessors != NULL) {
        *ActiveProcessors = KiActiveProcessors();
    }
    return (ULONG)KeNumberProcessors;
}

ULONG NTAPI KeQueryActiveProcessorCountEx(USHORT GroupNumber)
{
    return KiIsGroup(GroupNumber) ? (ULONG)KeNumberProcessors : 0;
}

ULONG NTAPI KeQueryMaximumProcessorCount(VOID)
{
    return (ULONG)KeNumberProcessors;
}

ULONG NTAPI KeQueryMaximumProcessorCountEx(USHORT GroupNumber)
{
    return KeQueryActiveProcessorCountEx(GroupNumber);
}

USHORT NTAPI KeQueryActiveGroupCount(VOID)
{
    return 1;
}

USHORT NTAPI KeQueryMaximumGroupCount(VOID)
{
    return 1;
}

USHORT NTAPI KeQueryHighestNodeNumber(VOID)
{
    return 0;
}

USHORT NTAPI KeGetCurrentNodeNumber(VOID)
{
    return 0;
}

NTSTATUS NTAPI KeGetProcessorNumberFromIndex(ULONG ProcIndex, PPROCESSOR_NUMBER ProcNumber)
{
    if (ProcIndex >= (ULONG)KeNumberProcessors) {
        return STATUS_INVALID_PARAMETER;
    }
    *ProcNumber = (PROCESSOR_NUMBER){.Group = KI_ONLY_GROUP, .Number = (UCHAR)ProcIndex};
    return STATUS_SUCCESS;
}

static BOOLEAN KiIsProcessor(const PROCESSOR_NUMBER *ProcNumber)
{
    return ProcNumber->Group == KI_ONLY_GROUP && ProcNumber->Number < KeNumberProcessors &&
           ProcNumber->Reserved == 0;
}

ULONG NTAPI KeGetProcessorIndexFromNumber(PPROCESSOR_NUMBER ProcNumber)
{
    return KiIsProcessor(ProcNumber) ? ProcNumber->Number : INVALID_PROCESSOR_INDEX;
}

NTSTATUS NTAPI KeSetTargetProcessorDpcEx(PKDPC Dpc, PPROCESSOR_NUMBER ProcNumber)
{
    if (!KiIsProcessor(ProcNumber)) {
        return STATUS_INVALID_PARAMETER;
    }
    KeSetTargetProcessorDpc(Dpc, (CCHAR)ProcNumber->Number);
    return STATUS_SUCCESS;
}

// -------------------------------------------------------------------------------------------------
// Where a thread runs.

KAFFINITY NTAPI KeSetSystemAffinityThreadEx(KAFFINITY Affinity)
{
    const KAFFINITY Old = KeArchGetCurrentThread()->Affinity;
    if ((Affinity & KiActiveProcessors()) != 0) {
        KiSetCurrentAffinity(Affinity & KiActiveProcessors());
    }
    return Old;
}

VOID NTAPI KeSetSystemAffinityThread(KAFFINITY Affinity)
{
    (VOID) KeSetSystemAffinityThreadEx(Affinity);
}

VOID NTAPI KeRevertToUserAffinityThreadEx(KAFFINITY Affinity)
{
    KiSetCurrentAffinity(Affinity & KiActiveProcessors());
}

VOID NTAPI KeRevertToUserAffinityThread(VOID)
{
    KiSetCurrentAffinity(KI_NO_AFFINITY);
}

VOID NTAPI KeSetSystemGroupAffinityThread(PGROUP_AFFINITY Affinity,
                                          PGROUP_AFFINITY PreviousAffinity)
{
    const KAFFINITY Old = Affinity->Group == KI_ONLY_GROUP
                              ? KeSetSystemAffinityThreadEx(Affinity->Mask)
                              : KeArchGetCurrentThread()->Affinity;
    if (PreviousAffinity != NULL) {
        *PreviousAffinity = (GROUP_AFFINITY){.Mask = Old, .Group = KI_ONLY_GROUP};
    }
}

VOID NTAPI KeRevertToUserGroupAffinityThread(PGROUP_AFFINITY PreviousAffinity)
{
    KeRevertToUserAffinityThreadEx(PreviousAffinity->Mask);
}
