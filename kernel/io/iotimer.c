// Devices' timers: once a second, one DPC calls the routine of each that is started.
//
// Invariant:
//   T1  The clock's timer runs while at least one device's timer is started, and only then.
//   T2  A tick calls each routine once, of all timers that were started before it, whichever of them routines
//       start and stop meanwhile: who was called has the tick's number.
// Lock: IopTimerLock, which is not held while a routine runs: a routine may stop its timer.
#include "kernel/io/pnp.h"

#define IOP_TIMER_PERIOD_MS 1000

typedef struct _IO_TIMER {
    SHORT Type; // IO_TYPE_TIMER
    BOOLEAN IsStarted;
    ULONG Tick;      // the last that it is not to be called for any more
    LIST_ENTRY Link; // in the list of all
    PIO_TIMER_ROUTINE Routine;
    PVOID Context;
    PDEVICE_OBJECT DeviceObject;
} IO_TIMER, *PIO_TIMER;

static KI_LOCK IopTimerLock = KI_LOCK_INITIALIZER(IOP_RANK_TIMERS, "IopTimerLock");
static LIST_ENTRY IopTimers = {&IopTimers, &IopTimers};
static ULONG IopStartedCount;
static ULONG IopTick; // how often the clock has ticked
static KTIMER IopClock;
static KDPC IopClockDpc;
static BOOLEAN IopClockIsReady;

// A timer that this tick has not called, copied; FALSE: no more.
static BOOLEAN IopTakeDueTimer(PIO_TIMER Copy)
{
    BOOLEAN Found = FALSE;
    const KIRQL OldIrql = KiAcquireLock(&IopTimerLock);
    for (PLIST_ENTRY Link = IopTimers.Flink; Link != &IopTimers && !Found; Link = Link->Flink) {
        const PIO_TIMER Timer = CONTAINING_RECORD(Link, IO_TIMER, Link);
        if (Timer->IsStarted && Timer->Tick != IopTick) {
            Timer->Tick = IopTick;
            *Copy = *Timer;
            Found = TRUE;
        }
    }
    KiReleaseLock(&IopTimerLock, OldIrql);
    return Found;
}

static VOID NTAPI IopClockTick(PKDPC Dpc, PVOID Context, PVOID Argument1, PVOID Argument2)
{
    IO_TIMER Timer;
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(Context);
    UNREFERENCED_PARAMETER(Argument1);
    UNREFERENCED_PARAMETER(Argument2);
    IopTick += 1;
    while (IopTakeDueTimer(&Timer)) {
        Timer.Routine(Timer.DeviceObject, Timer.Context);
    }
}

NTSTATUS NTAPI IoInitializeTimer(PDEVICE_OBJECT DeviceObject, PIO_TIMER_ROUTINE TimerRoutine,
                                 PVOID Context)
{
    PIO_TIMER Timer = DeviceObject->Timer;
    if (Timer == NULL) {
        Timer = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Timer), IOP_TAG);
        if (Timer == NULL) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        Timer->Type = IO_TYPE_TIMER;
        Timer->DeviceObject = DeviceObject;
        DeviceObject->Timer = Timer;
        const KIRQL OldIrql = KiAcquireLock(&IopTimerLock);
        InsertTailList(&IopTimers, &Timer->Link);
        KiReleaseLock(&IopTimerLock, OldIrql);
    }
    Timer->Routine = TimerRoutine;
    Timer->Context = Context;
    return STATUS_SUCCESS;
}

static VOID IopSetClock(BOOLEAN IsOn)
{
    if (!IopClockIsReady) {
        KeInitializeTimerEx(&IopClock, SynchronizationTimer);
        KeInitializeDpc(&IopClockDpc, IopClockTick, NULL);
        IopClockIsReady = TRUE;
    }
    if (IsOn) {
        const LARGE_INTEGER Due = {.QuadPart = -10000LL * IOP_TIMER_PERIOD_MS};
        KeSetTimerEx(&IopClock, Due, IOP_TIMER_PERIOD_MS, &IopClockDpc);
    } else {
        KeCancelTimer(&IopClock);
    }
}

static VOID IopSwitchTimer(PIO_TIMER Timer, BOOLEAN IsStarted)
{
    const KIRQL OldIrql = KiAcquireLock(&IopTimerLock);
    const ULONG Before = IopStartedCount;
    if (Timer->IsStarted != IsStarted) {
        Timer->IsStarted = IsStarted;
        Timer->Tick = IopTick;
        IopStartedCount += IsStarted ? 1 : (ULONG)-1;
    }
    const ULONG After = IopStartedCount;
    KiReleaseLock(&IopTimerLock, OldIrql);
    if ((Before == 0) != (After == 0)) {
        IopSetClock(After != 0);
    }
}

VOID NTAPI IoStartTimer(PDEVICE_OBJECT DeviceObject)
{
    IopSwitchTimer(DeviceObject->Timer, TRUE);
}

VOID NTAPI IoStopTimer(PDEVICE_OBJECT DeviceObject)
{
    IopSwitchTimer(DeviceObject->Timer, FALSE);
}

VOID IopDeleteTimer(PDEVICE_OBJECT DeviceObject)
{
    const PIO_TIMER Timer = DeviceObject->Timer;
    if (Timer == NULL) {
        return;
    }
    IopSwitchTimer(Timer, FALSE);
    const KIRQL OldIrql = KiAcquireLock(&IopTimerLock);
    RemoveEntryList(&Timer->Link);
    KiReleaseLock(&IopTimerLock, OldIrql);
    DeviceObject->Timer = NULL;
    ExFreePoolWithTag(Timer, IOP_TAG);
}
