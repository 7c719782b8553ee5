// What a driver leaves behind when it is unloaded.
//
// What would run its code, or look at its memory, once it is gone stops the machine at level 1:
// DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS. Memory and mappings are mm's to report
// (MmCheckUnload), DMA objects IoReportDmaLeaks'.
#include "kernel/inc/interrupt.h"
#include "kernel/inc/ps.h"
#include "kernel/io/pnp.h"

// Where the code of a driver lies.
typedef struct _IOP_CODE {
    PIOP_SERVICE Service;
    ULONG_PTR Base;
    SIZE_T ByteCount;
    ULONG LeakCount;
} IOP_CODE, *PIOP_CODE;

static BOOLEAN IopIsCodeOf(const IOP_CODE *Code, const VOID *Address)
{
    return (ULONG_PTR)Address - Code->Base < Code->ByteCount;
}

static VOID IopReportDevices(PIOP_CODE Code)
{
    for (PDEVICE_OBJECT Device = Code->Service->Driver->DeviceObject; Device != NULL;
         Device = Device->NextDevice) {
        DbgPrint("io: driver %s leaves a device object, %p, type 0x%x, with %d open files\n",
                 Code->Service->Name, Device, Device->DeviceType, Device->ReferenceCount);
        Code->LeakCount += 1;
    }
}

static BOOLEAN IopReportLink(PVOID Object, PVOID Context)
{
    const PIOP_CODE Code = Context;
    if (ObLinkMaker(Object) != NULL && IopIsCodeOf(Code, ObLinkMaker(Object))) {
        const UNICODE_STRING Name = ObLastName(Object);
        CHAR Text[64];
        ULONG Index = 0;
        for (; Index < Name.Length / sizeof(WCHAR) && Index + 1 < sizeof(Text); Index += 1) {
            Text[Index] = (CHAR)Name.Buffer[Index];
        }
        Text[Index] = 0;
        DbgPrint("io: driver %s leaves the symbolic link %s\n", Code->Service->Name, Text);
        Code->LeakCount += 1;
    }
    return TRUE;
}

static VOID IopReportLinks(PIOP_CODE Code)
{
    static const UNICODE_STRING Directories[] = {RTL_CONSTANT_STRING(u"\\GLOBAL??"),
                                                 RTL_CONSTANT_STRING(u"\\Device")};
    for (ULONG Row = 0; Row < ARRAYSIZE(Directories); Row += 1) {
        ObWalkDirectory(&Directories[Row], IopReportLink, Code);
    }
}

// What still may call the driver; the first one found stops the machine at level 1.
static VOID IopReportPending(PIOP_CODE Code, PCSTR What, const VOID *Object, const VOID *Routine)
{
    DbgPrint("io: driver %s leaves %s, %p, whose routine is %p\n", Code->Service->Name, What,
             Object, Routine);
    Code->LeakCount += 1;
    if (MmVerifierLevel != 0) {
        KiBugCheckSaying(DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS, (ULONG_PTR)Routine,
                         8, (ULONG_PTR)Object, 0, "driver %s was unloaded and leaves %s",
                         Code->Service->Name, What);
    }
}

// IO_PENDING_ROUTINE: one of everything that may call somebody.
static VOID IopLookAtPending(PCSTR What, const VOID *Object, const VOID *Routine, PVOID Context)
{
    const PIOP_CODE Code = Context;
    if (IopIsCodeOf(Code, Routine) || IopIsCodeOf(Code, Object)) {
        IopReportPending(Code, What, Object, Routine);
    }
}

static VOID IopLookAtThread(const KTHREAD *Thread, PVOID Context)
{
    if (Thread->State != KiThreadTerminated) {
        CHAR What[48];
        RtlFormatBuffer(What, sizeof(What), "thread %llu, which has not ended",
                        (ULONG64)(ULONG_PTR)Thread->ThreadId);
        IopLookAtPending(What, Thread, (PVOID)Thread->StartRoutine, Context);
    }
}

static VOID IopLookAtTimer(PKTIMER Timer, PVOID Context)
{
    IopLookAtPending("a timer that is set", Timer,
                     Timer->Dpc != NULL ? (PVOID)Timer->Dpc->DeferredRoutine : NULL, Context);
}

static VOID IopLookAtDpc(PKDPC Dpc, PVOID Context)
{
    IopLookAtPending("a DPC that is queued", Dpc, (PVOID)Dpc->DeferredRoutine, Context);
}

static VOID IopLookAtInterrupt(PKINTERRUPT Interrupt, PVOID Context)
{
    IopLookAtPending("an interrupt that is connected", Interrupt,
                     Interrupt->ServiceRoutine != NULL ? (PVOID)Interrupt->ServiceRoutine
                                                       : (PVOID)Interrupt->MessageServiceRoutine,
                     Context);
}

ULONG IopReportLeaks(PIOP_SERVICE Service)
{
    IOP_CODE Code = {.Service = Service,
                     .Base = (ULONG_PTR)Service->Driver->DriverStart,
                     .ByteCount = Service->Driver->DriverSize};
    const PCSTR Owner = IopOwnerName(Service);
    IopReportDevices(&Code);
    IopReportLinks(&Code);
    IopWalkWorkItems(IopLookAtPending, &Code);
    KeEnumerateThreads(IopLookAtThread, &Code);
    KiEnumerateTimers(IopLookAtTimer, &Code);
    KiEnumerateDpcs(IopLookAtDpc, &Code);
    KiEnumerateInterrupts(IopLookAtInterrupt, &Code);
    Code.LeakCount += IoReportDmaLeaks(Owner);
    MmCheckUnload(Owner);
    return Code.LeakCount;
}
