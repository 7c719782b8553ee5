// Plug and play, as its files share it: services and nodes.
//
//   service   something that can become a driver: a boot module, found by its file name
//   node      a device that some bus has reported: its PDO, where it stands in the tree, which service
//             drives it, and how far it has come
//
//   root ── PCI function ── child of a bus driver ...
//        └─ ROOT\NAME\0000
//
//              ┌──────────────────────── IopNodeFound ◀───────────────┐
//              │ AddDevice                                            │ REMOVE
//              ▼                                                      │
//          IopNodeAdded ── START ──▶ IopNodeStarted ──▶ IopNodeRemovePending
//                              ▲           │ QUERY_STOP      (QUERY_REMOVE)
//                              └─ START ── IopNodeStopped ── STOP     │
//                                                                     │
//          IopNodeStarted ── SURPRISE_REMOVAL ──▶ IopNodeSurpriseRemoved, until no file is open
//
// Everything here runs at PASSIVE_LEVEL and holds IopPnpMutex, which drivers' AddDevice, Unload and
// PnP requests are called under; it is recursive.
#pragma once

#include "kernel/inc/ldr.h"
#include "kernel/inc/loader.h"
#include "kernel/io/iop.h"

#define IOP_SERVICE_NAME_BYTES 48

typedef enum _IOP_ROLE { IopFunctionDriver, IopLowerFilter, IopUpperFilter } IOP_ROLE;

typedef struct _IOP_SERVICE {
    CHAR Name[IOP_SERVICE_NAME_BYTES]; // "nvme"
    const LOADER_MODULE *Module;
    PCSTR Arguments; // hardware ids and words, with a blank between them
    IOP_ROLE Role;
    BOOLEAN IsDemand; // nothing loads it but IoLoadDriver
    BOOLEAN HasIds;
    ULONG MessageLimit; // for each of its devices: as many interrupts by message; 0: by line
    BOOLEAN IsBroken; // it did not load, or did not initialize; asked for by name it is tried again
    PLDR_IMAGE Image; // while it is loaded
    PDRIVER_OBJECT Driver; // NULL: not loaded
} IOP_SERVICE, *PIOP_SERVICE;

typedef enum _IOP_NODE_STATE {
    IopNodeFound,
    IopNodeAdded,
    IopNodeStarted,
    IopNodeStopped,
    IopNodeRemovePending,
    IopNodeSurpriseRemoved,
} IOP_NODE_STATE;

typedef struct _IOP_NODE {
    LIST_ENTRY Link; // of all nodes, parents before children
    struct _IOP_NODE *Parent;
    PDEVICE_OBJECT Pdo;        // referenced
    PIO_PCI_FUNCTION Function; // NULL: of another bus
    IOP_NODE_STATE State;
    IOP_NODE_STATE StateBefore; // of IopNodeRemovePending: where CANCEL_REMOVE leads back to
    PIOP_SERVICE Service;       // that drives it
    PIOP_SERVICE OwnService;    // that it was made for: a device of the root's
    NTSTATUS StartStatus;
    BOOLEAN IsReported;    // by the last answer to BusRelations
    BOOLEAN IsEnumerating; // its relations are asked for
    PWSTR InstancePath;    // "PCI\VEN_...\0": ends with a zero; NULL: not known
} IOP_NODE, *PIOP_NODE;

extern KMUTEX IopPnpMutex;
VOID IopAcquirePnp(VOID);
VOID IopReleasePnp(VOID);

//
// service.c
//

VOID IopFindServices(_In_ const LOADER_BLOCK *LoaderBlock);

// In the order of the modules; NULL begins, and ends.
PIOP_SERVICE IopNextService(_In_opt_ const IOP_SERVICE *Previous);
PIOP_SERVICE IopFindService(_In_ PCSTR Name);

// Loads and initializes it, unless it is. The reason of a failure is told in words.
NTSTATUS IopLoadService(_Inout_ PIOP_SERVICE Service);

// Unloads a driver without devices: calls its unload routine, checks what it leaves, frees its image.
// STATUS_INVALID_DEVICE_REQUEST: it has devices, or no unload routine.
NTSTATUS IopUnloadService(_Inout_ PIOP_SERVICE Service);

// What its code is called in reports. It is loaded.
PCSTR IopOwnerName(_In_ const IOP_SERVICE *Service);

// Whether the service is for the hardware id Id (UTF-16).
BOOLEAN IopServiceMatches(_In_ const IOP_SERVICE *Service, _In_ PCWSTR Id);

// The word of a module's arguments that begins at *Cursor, cut off; its length in *Length. NULL: no more.
PCSTR IopNextWord(_Inout_ PCSTR *Cursor, _Out_ PULONG Length);

//
// parameter.c
//

// Writes the values among a module's arguments below the key. What cannot be is told of.
VOID IopWriteParameters(_In_ PCWSTR Key, _In_ PCSTR Arguments);

//
// leak.c
//

// What a driver that has run its unload routine has left: each thing is named. Returns how many. At
// level 1 it stops the machine for what would run freed code.
ULONG IopReportLeaks(_In_ PIOP_SERVICE Service);

//
// node.c
//

PIOP_NODE IopNextNode(_In_opt_ const IOP_NODE *Previous);
FORCEINLINE PIOP_NODE IopNodeOf(const DEVICE_OBJECT *Pdo)
{
    return IopDeviceOf(Pdo)->Node;
}

// A new node for Pdo, whose reference it takes over. NULL: no pool.
PIOP_NODE IopAddNode(_In_opt_ PIOP_NODE Parent, _In_ PDEVICE_OBJECT Pdo,
                     _In_opt_ PIO_PCI_FUNCTION Function);

// Takes the node from the list, and lets its PDO go.
VOID IopDeleteNode(_In_ PIOP_NODE Node);

// Finds the driver of a node that has none, builds its stack, starts it, and goes on with its children.
// STATUS_NO_SUCH_DEVICE: nobody drives it, and its bus does not say that it works without.
// STATUS_DEVICE_REMOVED: it was started, and said that it does not work.
NTSTATUS IopStartNode(_Inout_ PIOP_NODE Node);

// The whole tree.
VOID IopStartNodes(VOID);

// Stops a started node and starts it again: rebalancing. What the stack answered to QUERY_STOP, if it
// refused.
NTSTATUS IopStopNode(_Inout_ PIOP_NODE Node);
NTSTATUS IopRestartNode(_Inout_ PIOP_NODE Node);

// QUERY_REMOVE for the node and all below it, then REMOVE; or CANCEL_REMOVE, when one refuses or has
// files open (STATUS_DEVICE_BUSY).
NTSTATUS IopRemoveNode(_Inout_ PIOP_NODE Node);

// The device is gone. REMOVE follows when the last file is closed.
VOID IopSurpriseRemoveNode(_Inout_ PIOP_NODE Node);

// Asks the stack for its children, and starts and removes what has changed.
VOID IopEnumerateNode(_Inout_ PIOP_NODE Node);

// The last file of a device of Pdo's stack is closed.
VOID IopFinishSurpriseRemoval(_Inout_ PIOP_NODE Node);

// A PnP request to the whole stack of Pdo, which its drivers answer from the top. Stack has function and
// parameters. *Information gets the answer. STATUS_PENDING: a driver never answered; the request, and
// what it points to, is still its.
NTSTATUS IopSendPnp(_In_ PDEVICE_OBJECT Pdo, _In_ const IO_STACK_LOCATION *Stack,
                    _Inout_ PULONG_PTR Information);

// What the stack answers to QUERY_PNP_DEVICE_STATE; 0: nothing.
ULONG_PTR IopQueryState(_In_ PIOP_NODE Node);

// An id of the device: UTF-16, freed with ExFreePool; NULL: it has none.
PWSTR IopQueryId(_In_ PDEVICE_OBJECT Pdo, _In_ BUS_QUERY_ID_TYPE Type);

//
// root.c
//

// The driver of the root's devices. FALSE: no pool.
BOOLEAN IopMakeRootDriver(VOID);

// The device of a driver that has AddDevice and no hardware: ROOT\NAME\0000. Its node, or NULL.
PIOP_NODE IopMakeRootNode(_In_ const IOP_SERVICE *Service);
VOID IopDeleteRootNode(_In_ PIOP_NODE Node);
BOOLEAN IopIsRootNode(_In_ const IOP_NODE *Node);

//
// pcidevice.c
//

// The answer of every bus driver to TargetDeviceRelation: the device itself. The status that Irp came
// with, for other relations.
NTSTATUS IopAnswerTargetRelation(_In_ PDEVICE_OBJECT Pdo, _Inout_ PIRP Irp);

//
// interface.c, notify.c
//

// The device is gone, with all its interfaces.
VOID IopForgetInterfaces(_In_ PDEVICE_OBJECT Pdo);

typedef VOID IOP_INTERFACE_ROUTINE(_In_ PCUNICODE_STRING Name, _In_opt_ PVOID Context);
VOID IopReportExistingInterfaces(_In_ const GUID *Class, _In_ IOP_INTERFACE_ROUTINE *Routine,
                                 _In_opt_ PVOID Context);

// Tells, from a system thread, who wants to know of interfaces of the class.
VOID IopNotifyInterface(_In_ const GUID *Event, _In_ const GUID *Class, _In_ PCUNICODE_STRING Name);

// Tells who registered for the device, now. Returns the first refusal.
NTSTATUS IopNotifyTarget(_In_ const DEVICE_OBJECT *Pdo, _In_ const GUID *Event);

//
// extension.c
//

// Calls the routines of IoRegister(Boot)DriverReinitialization, once each.
VOID IopReinitializeDrivers(VOID);
// Frees the client's extensions of a driver object that goes.
VOID IopFreeDriverExtensions(_Inout_ PDRIVER_OBJECT DriverObject);
