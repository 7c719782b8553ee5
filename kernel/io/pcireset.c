// Whether a PCI function is still there, and its function-level reset ("Function Level Reset" in the
// PCI Express Base Specification): the last way to stop a device that obeys nobody.
//
// The function forgets everything but what straps decide: where its registers are, what it may do on
// the bus, its messages. All of that is this kernel's to know, so it can be put back; what the driver had
// programmed is gone.
#include "kernel/io/iop.h"

#define CAPABILITY_EXPRESS 0x10
#define EXPRESS_DEVICE_CAPABILITIES 4 // offsets in the capability
#define EXPRESS_DEVICE_CONTROL 8
#define EXPRESS_DEVICE_STATUS 10
#define EXPRESS_CAN_RESET 0x10000000u
#define EXPRESS_RESET 0x8000u
#define EXPRESS_PENDING 0x0020u // it waits for answers to its own requests

#define IOP_PENDING_MILLISECONDS 100 // wait for those answers at most so long
#define IOP_RESET_MILLISECONDS 100   // nobody may touch the function so long
#define IOP_RETURN_MILLISECONDS 1000 // it may say that it is not ready at most so long

BOOLEAN IopIsFunctionPresent(const IO_PCI_FUNCTION *Function)
{
    const ULONG Id = IopReadPciUlong(Function, (ULONG)FIELD_OFFSET(PCI_COMMON_HEADER, VendorID));
    return Id == ((ULONG)Function->DeviceId << 16 | Function->VendorId);
}

BOOLEAN IopCanResetFunction(const IO_PCI_FUNCTION *Function)
{
    const ULONG Express = IopFindCapability(Function, CAPABILITY_EXPRESS);
    return Express != 0 &&
           (IopReadPciUlong(Function, Express + EXPRESS_DEVICE_CAPABILITIES) & EXPRESS_CAN_RESET);
}

static VOID IopSleep(ULONG Milliseconds)
{
    LARGE_INTEGER Interval;
    Interval.QuadPart = -10000ll * Milliseconds;
    (VOID) KeDelayExecutionThread(KernelMode, FALSE, &Interval);
}

// Better not in the middle of a request: its answer would find nobody, or somebody else.
static VOID IopWaitForQuiet(const IO_PCI_FUNCTION *Function, ULONG Express)
{
    for (ULONG Waited = 0; Waited < IOP_PENDING_MILLISECONDS; Waited += 1) {
        if (!(IopReadPciUshort(Function, Express + EXPRESS_DEVICE_STATUS) & EXPRESS_PENDING)) {
            return;
        }
        IopSleep(1);
    }
}

static BOOLEAN IopWaitForReturn(const IO_PCI_FUNCTION *Function)
{
    for (ULONG Waited = 0; Waited < IOP_RETURN_MILLISECONDS; Waited += 1) {
        if (IopIsFunctionPresent(Function)) {
            return TRUE;
        }
        IopSleep(1);
    }
    return FALSE;
}

// What START has written to the header and is no address. A function that somebody has reset behind
// our back does not know it any more: what this kernel knows itself is not read from there.
typedef struct _IOP_SAVED_HEADER {
    USHORT Command;
    USHORT CacheLineAndLatency;
    USHORT Express; // device control
} IOP_SAVED_HEADER;

#define IOP_COMMAND ((ULONG)FIELD_OFFSET(PCI_COMMON_HEADER, Command))
#define IOP_CACHE_LINE ((ULONG)FIELD_OFFSET(PCI_COMMON_HEADER, CacheLineSize))
#define IOP_INTERRUPT ((ULONG)FIELD_OFFSET(PCI_COMMON_HEADER, u.type0.InterruptLine))

static IOP_SAVED_HEADER IopSaveHeader(const IO_PCI_FUNCTION *Function, ULONG Express)
{
    return (IOP_SAVED_HEADER){
        .Command = IopReadPciUshort(Function, IOP_COMMAND) | Function->Command,
        .CacheLineAndLatency = IopReadPciUshort(Function, IOP_CACHE_LINE),
        .Express = IopReadPciUshort(Function, Express + EXPRESS_DEVICE_CONTROL),
    };
}

// The commands last: only then it decodes, and may master the bus. The table of its messages lies in
// its registers. A device that is stopped has none.
static NTSTATUS IopRestoreHeader(PIO_PCI_FUNCTION Function, ULONG Express,
                                 const IOP_SAVED_HEADER *Saved)
{
    IopRestoreBars(Function);
    IopWritePciUshort(Function, IOP_CACHE_LINE, Saved->CacheLineAndLatency);
    IopChangePciUshort(Function, IOP_INTERRUPT, MAXUCHAR, Function->InterruptLine);
    IopWritePciUshort(Function, Express + EXPRESS_DEVICE_CONTROL,
                      Saved->Express & (USHORT)~EXPRESS_RESET);
    IopWritePciUshort(Function, IOP_COMMAND, Saved->Command);
    return Function->Command != 0 && IopUsesMessages(Function) ? IopRestoreMessages(Function)
                                                               : STATUS_SUCCESS;
}

NTSTATUS IopResetFunction(PIO_PCI_FUNCTION Function)
{
    if (!IopIsFunctionPresent(Function)) {
        return STATUS_DEVICE_NOT_CONNECTED;
    }
    if (!IopCanResetFunction(Function)) {
        return STATUS_NOT_SUPPORTED;
    }
    const ULONG Express = IopFindCapability(Function, CAPABILITY_EXPRESS);
    const IOP_SAVED_HEADER Saved = IopSaveHeader(Function, Express);
    IopChangePciUshort(Function, IOP_COMMAND, PCI_ENABLE_BUS_MASTER, 0);
    IopWaitForQuiet(Function, Express);
    IopChangePciUshort(Function, Express + EXPRESS_DEVICE_CONTROL, 0, EXPRESS_RESET);
    IopSleep(IOP_RESET_MILLISECONDS);
    if (!IopWaitForReturn(Function)) {
        return STATUS_DEVICE_NOT_CONNECTED;
    }
    return IopRestoreHeader(Function, Express, &Saved);
}
