// What drivers hang on driver objects, and routines for when all drivers have started.
#include "kernel/io/pnp.h"

//
// Extensions.
//

typedef struct _IOP_EXTENSION {
    LIST_ENTRY Link;
    PDRIVER_OBJECT Driver;
    PVOID Client;
    DECLSPEC_ALIGN(16) UCHAR Bytes[];
} IOP_EXTENSION, *PIOP_EXTENSION;

static KI_LOCK IopExtensionLock = KI_LOCK_INITIALIZER(IOP_RANK_EXTENSIONS, "IopExtensionLock");
static LIST_ENTRY IopExtensions = {&IopExtensions, &IopExtensions};

// Client NULL: of any. The lock is held.
static PIOP_EXTENSION IopFindExtension(const DRIVER_OBJECT *Driver, const VOID *Client)
{
    for (PLIST_ENTRY Link = IopExtensions.Flink; Link != &IopExtensions; Link = Link->Flink) {
        const PIOP_EXTENSION Extension = CONTAINING_RECORD(Link, IOP_EXTENSION, Link);
        if (Extension->Driver == Driver && (Client == NULL || Extension->Client == Client)) {
            return Extension;
        }
    }
    return NULL;
}

NTSTATUS NTAPI IoAllocateDriverObjectExtension(PDRIVER_OBJECT DriverObject,
                                               PVOID ClientIdentificationAddress,
                                               ULONG DriverObjectExtensionSize,
                                               PVOID *DriverObjectExtension)
{
    *DriverObjectExtension = NULL;
    PIOP_EXTENSION New = ExAllocatePool2(POOL_FLAG_NON_PAGED,
                                         sizeof(*New) + (SIZE_T)DriverObjectExtensionSize, IOP_TAG);
    if (New == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    New->Driver = DriverObject;
    New->Client = ClientIdentificationAddress;
    const KIRQL OldIrql = KiAcquireLock(&IopExtensionLock);
    const BOOLEAN IsNew = IopFindExtension(DriverObject, ClientIdentificationAddress) == NULL;
    if (IsNew) {
        InsertTailList(&IopExtensions, &New->Link);
    }
    KiReleaseLock(&IopExtensionLock, OldIrql);
    if (!IsNew) {
        ExFreePoolWithTag(New, IOP_TAG);
        return STATUS_OBJECT_NAME_COLLISION;
    }
    *DriverObjectExtension = New->Bytes;
    return STATUS_SUCCESS;
}

PVOID NTAPI IoGetDriverObjectExtension(PDRIVER_OBJECT DriverObject,
                                       PVOID ClientIdentificationAddress)
{
    const KIRQL OldIrql = KiAcquireLock(&IopExtensionLock);
    const PIOP_EXTENSION Found = IopFindExtension(DriverObject, ClientIdentificationAddress);
    KiReleaseLock(&IopExtensionLock, OldIrql);
    return Found != NULL ? Found->Bytes : NULL;
}

VOID IopFreeDriverExtensions(PDRIVER_OBJECT DriverObject)
{
    PIOP_EXTENSION Extension;
    do {
        const KIRQL OldIrql = KiAcquireLock(&IopExtensionLock);
        Extension = IopFindExtension(DriverObject, NULL);
        if (Extension != NULL) {
            RemoveEntryList(&Extension->Link);
        }
        KiReleaseLock(&IopExtensionLock, OldIrql);
        if (Extension != NULL) {
            ExFreePoolWithTag(Extension, IOP_TAG);
        }
    } while (Extension != NULL);
}

//
// Reinitialization. Under the PnP mutex: DriverEntry, and what this file calls, hold it.
//

typedef struct _IOP_REINITIALIZATION {
    LIST_ENTRY Link;
    PDRIVER_OBJECT Driver; // referenced
    PDRIVER_REINITIALIZE Routine;
    PVOID Context;
} IOP_REINITIALIZATION, *PIOP_REINITIALIZATION;

static LIST_ENTRY IopReinitializations = {&IopReinitializations, &IopReinitializations};

VOID NTAPI IoRegisterDriverReinitialization(PDRIVER_OBJECT DriverObject,
                                            PDRIVER_REINITIALIZE DriverReinitializationRoutine,
                                            PVOID Context)
{
    PIOP_REINITIALIZATION New = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*New), IOP_TAG);
    if (New == NULL) {
        DbgPrint("io: no memory to remember a driver's reinitialization\n");
        return;
    }
    ObReferenceObject(DriverObject);
    *New = (IOP_REINITIALIZATION){
        .Driver = DriverObject, .Routine = DriverReinitializationRoutine, .Context = Context};
    InsertTailList(&IopReinitializations, &New->Link);
}

VOID NTAPI IoRegisterBootDriverReinitialization(PDRIVER_OBJECT DriverObject,
                                                PDRIVER_REINITIALIZE DriverReinitializationRoutine,
                                                PVOID Context)
{
    IoRegisterDriverReinitialization(DriverObject, DriverReinitializationRoutine, Context);
}

VOID IopReinitializeDrivers(VOID)
{
    while (!IsListEmpty(&IopReinitializations)) {
        const PIOP_REINITIALIZATION Entry =
            CONTAINING_RECORD(RemoveHeadList(&IopReinitializations), IOP_REINITIALIZATION, Link);
        Entry->Driver->DriverExtension->Count += 1;
        Entry->Routine(Entry->Driver, Entry->Context, Entry->Driver->DriverExtension->Count);
        ObDereferenceObject(Entry->Driver);
        ExFreePoolWithTag(Entry, IOP_TAG);
    }
}
