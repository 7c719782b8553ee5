// \Device\KernelState: the kernel's own reports as text, for drivers that show them to somebody.
// What is printed is what the same routine prints on the console: nothing is formatted twice.
//
// Lock: IopStateMutex, so that one report at a time is captured. No report waits for the PnP manager:
// who asks may be somebody that the PnP manager waits for.
#include <ntddstate.h>

#include "kernel/inc/interrupt.h"
#include "kernel/inc/kd.h"
#include "kernel/inc/ps.h"
#include "kernel/io/pnp.h"
#include "mm/mm.h"

static KMUTEX IopStateMutex;

//
// Reports that nobody else prints.
//

static VOID IopPrintDrivers(VOID)
{
    for (PIOP_SERVICE Service = IopNextService(NULL); Service != NULL;
         Service = IopNextService(Service)) {
        if (Service->Driver != NULL) {
            DbgPrint("%-12s at 0x%p, %7u bytes\n", Service->Name, Service->Driver->DriverStart,
                     Service->Driver->DriverSize);
        } else {
            DbgPrint("%-12s not loaded%s\n", Service->Name,
                     Service->IsBroken ? ": it did not start" : "");
        }
    }
}

static VOID IopPrintFunctions(VOID)
{
    for (const IO_PCI_FUNCTION *Function = IoNextPciFunction(NULL); Function != NULL;
         Function = IoNextPciFunction(Function)) {
        CHAR Name[IO_PCI_NAME_BYTES];
        IoFormatPciName(Function, Name, sizeof(Name));
        DbgPrint("%s  %04x:%04x  %s", Name, Function->VendorId, Function->DeviceId,
                 IoPciClassName(Function));
        if (Function->DriverName != NULL) {
            DbgPrint(", driver %s: %s", Function->DriverName,
                     NT_SUCCESS(Function->StartStatus) ? "started" : "not started");
        }
        DbgPrint("\n");
    }
}

// Interrupts and threads are walked under locks of the highest rank: noted first, printed afterwards.

#define IOP_STATE_ROWS 64

typedef struct _IOP_STATE_ROW {
    ULONG Vector;
    ULONG64 ClaimedCount;
    CHAR Owner[KI_INTERRUPT_OWNER_BYTES];
} IOP_STATE_ROW;

static IOP_STATE_ROW IopStateRows[IOP_STATE_ROWS]; // under IopStateMutex
static ULONG IopStateRowCount;

static VOID IopNoteInterrupt(PKINTERRUPT Interrupt, PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    if (IopStateRowCount < IOP_STATE_ROWS) {
        IOP_STATE_ROW *Row = &IopStateRows[IopStateRowCount++];
        Row->Vector = Interrupt->Vector;
        Row->ClaimedCount = Interrupt->ClaimedCount;
        RtlCopyMemory(Row->Owner, Interrupt->Owner, sizeof(Row->Owner));
    }
}

static VOID IopPrintInterrupts(VOID)
{
    IopStateRowCount = 0;
    KiEnumerateInterrupts(IopNoteInterrupt, NULL);
    DbgPrint("%u connected interrupts\n", IopStateRowCount);
    for (ULONG Index = 0; Index < IopStateRowCount; Index += 1) {
        const IOP_STATE_ROW *Row = &IopStateRows[Index];
        KI_VECTOR_COUNTS Counts;
        KiQueryVector(Row->Vector, &Counts);
        DbgPrint("vector 0x%02x, IRQL %2u: %8llu interrupts, %8llu claimed by %s%s\n", Row->Vector,
                 KiIrqlOfVector(Row->Vector), Counts.InterruptCount, Row->ClaimedCount, Row->Owner,
                 Counts.IsQuenched ? "; masked after a storm" : "");
    }
}

static struct {
    HANDLE ThreadId;
    ULONG RunTime;
    CHAR Priority;
    PVOID StartRoutine;
} IopThreadRows[IOP_STATE_ROWS];

static VOID IopNoteThread(const KTHREAD *Thread, PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    if (IopStateRowCount < IOP_STATE_ROWS) {
        IopThreadRows[IopStateRowCount].ThreadId = Thread->ThreadId;
        IopThreadRows[IopStateRowCount].RunTime = Thread->RunTime;
        IopThreadRows[IopStateRowCount].Priority = Thread->Priority;
        IopThreadRows[IopStateRowCount].StartRoutine = (PVOID)Thread->StartRoutine;
        IopStateRowCount += 1;
    }
}

static VOID IopPrintThreads(VOID)
{
    IopStateRowCount = 0;
    KeEnumerateThreads(IopNoteThread, NULL);
    for (ULONG Index = 0; Index < IopStateRowCount; Index += 1) {
        DbgPrint("thread %4llu, priority %2d, %6u ticks, begins at 0x%p\n",
                 (ULONG64)(ULONG_PTR)IopThreadRows[Index].ThreadId, IopThreadRows[Index].Priority,
                 IopThreadRows[Index].RunTime, IopThreadRows[Index].StartRoutine);
    }
}

//
// The table.
//

static VOID IopPrintHelp(VOID);

static const struct {
    PCSTR Name;
    VOID (*Routine)(VOID);
    PCSTR Words;
} IopReports[] = {
    {"help", IopPrintHelp, "this list"},
    {"memory", MmPrintMemoryUse, "how much memory there is, and who has it"},
    {"physical", MmPrintPhysicalMap, "the regions of physical memory"},
    {"layout", MmPrintVirtualLayout, "the regions of the kernel's addresses"},
    {"mappings", MmPrintIoMappings, "every live mapping of device memory"},
    {"shootdowns", MmPrintShootdowns, "what the processors were last made to forget, and why"},
    {"dma", IoPrintDma, "every DMA adapter with its counters"},
    {"drivers", IopPrintDrivers, "what is loaded, and where"},
    {"devices", IopPrintFunctions, "the PCI functions and their drivers"},
    {"interrupts", IopPrintInterrupts, "every connected interrupt, and how often it came"},
    {"threads", IopPrintThreads, "every thread, and how long it has run"},
};

static VOID IopPrintHelp(VOID)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(IopReports); Index += 1) {
        DbgPrint("%-13s %s\n", IopReports[Index].Name, IopReports[Index].Words);
    }
}

// The name has no terminating zero.
static VOID (*IopFindReport(const CHAR *Name, ULONG Length))(VOID)
{
    for (ULONG Index = 0; Index < ARRAYSIZE(IopReports); Index += 1) {
        if (RtlStringLength(IopReports[Index].Name) == Length &&
            RtlEqualMemory(IopReports[Index].Name, Name, Length)) {
            return IopReports[Index].Routine;
        }
    }
    return NULL;
}

//
// The device.
//

static NTSTATUS NTAPI IopStateCreateClose(PDEVICE_OBJECT Device, PIRP Irp)
{
    UNREFERENCED_PARAMETER(Device);
    return IopCompleteIrp(Irp, STATUS_SUCCESS, 0);
}

static NTSTATUS IopMakeReport(PIRP Irp, const IO_STACK_LOCATION *Stack, PULONG_PTR Information)
{
    const ULONG InputBytes = Stack->Parameters.DeviceIoControl.InputBufferLength;
    const ULONG OutputBytes = Stack->Parameters.DeviceIoControl.OutputBufferLength;

    if (InputBytes == 0 || OutputBytes == 0) {
        return STATUS_INVALID_PARAMETER;
    }
    VOID (*const Routine)(VOID) = IopFindReport(Irp->AssociatedIrp.SystemBuffer, InputBytes);
    if (Routine == NULL) {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    }
    KeWaitForSingleObject(&IopStateMutex, Executive, KernelMode, FALSE, NULL);
    *Information = KdCapture(Routine, Irp->AssociatedIrp.SystemBuffer, OutputBytes);
    KeReleaseMutex(&IopStateMutex, FALSE);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI IopStateControl(PDEVICE_OBJECT Device, PIRP Irp)
{
    const IO_STACK_LOCATION *Stack = IoGetCurrentIrpStackLocation(Irp);
    NTSTATUS Status = STATUS_INVALID_DEVICE_REQUEST;
    ULONG_PTR Information = 0;
    UNREFERENCED_PARAMETER(Device);
    if (Stack->Parameters.DeviceIoControl.IoControlCode == IOCTL_STATE_REPORT) {
        Status = IopMakeReport(Irp, Stack, &Information);
    }
    return IopCompleteIrp(Irp, Status, Information);
}

// Without memory for it, nobody can ask, and nothing else is the worse for it.
VOID IopInitializeState(VOID)
{
    static const UNICODE_STRING DriverName = RTL_CONSTANT_STRING(u"\\Driver\\KernelState");
    static UNICODE_STRING DeviceName = RTL_CONSTANT_STRING(u"\\Device\\KernelState");
    PDEVICE_OBJECT Device;
    KeInitializeMutex(&IopStateMutex, 0);
    const PDRIVER_OBJECT Driver = IopCreateDriver(&DriverName);
    if (Driver == NULL) {
        return;
    }
    Driver->MajorFunction[IRP_MJ_CREATE] = IopStateCreateClose;
    Driver->MajorFunction[IRP_MJ_CLOSE] = IopStateCreateClose;
    Driver->MajorFunction[IRP_MJ_CLEANUP] = IopStateCreateClose;
    Driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = IopStateControl;
    if (NT_SUCCESS(IoCreateDevice(Driver, 0, &DeviceName, FILE_DEVICE_UNKNOWN,
                                  FILE_DEVICE_SECURE_OPEN, FALSE, &Device))) {
        Device->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
    }
}
