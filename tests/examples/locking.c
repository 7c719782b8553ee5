// Makes a caller's buffer safe for a device that will write into it: describes it, and locks its
// pages. Locking does not return a status, it raises one.
#include "examples.h"

NTSTATUS ExampleLockBuffer(PVOID Buffer, ULONG ByteCount, PMDL *Mdl)
{
    *Mdl = IoAllocateMdl(Buffer, ByteCount, FALSE, FALSE, NULL);
    if (*Mdl == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    KmTry {
        MmProbeAndLockPages(*Mdl, KernelMode, IoWriteAccess);
    }
    KmCatch (Status) {
        IoFreeMdl(*Mdl); // nothing is locked
        *Mdl = NULL;
        return Status;
    }
    return STATUS_SUCCESS;
}

// After the device is done. Unlocking also unmaps.
VOID ExampleUnlockBuffer(PMDL Mdl)
{
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
}
