// Interrupts: the local APIC, the way in and out, what must survive it; connections, locks, storms.
//
// The devices of these tests are made of air: a vector whose source is a record here, and the processor
// interrupts itself with it. A line that is asserted interrupts again whenever its routines have ended,
// as long as it is not masked.
#include "kernel/inc/interrupt.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"
#include "tests/kernel/tests.h"

#define STALL_MICROSECONDS 20000u

static ULONG64 CountInterrupts(VOID)
{
    return KeArchGetPcr()->InterruptCount;
}

static VOID ADispatchInterruptWaitsForTheIrql(VOID)
{
    KeStopClock();
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    const ULONG64 Before = CountInterrupts();
    KeArchRequestDispatchInterrupt();
    KeArchRequestDispatchInterrupt();
    KeStallExecutionProcessor(10);
    KT_EQUAL(CountInterrupts(), Before);
    KeArchWriteIrql(OldIrql); // as a driver does it, inline
    KT_CHECK(CountInterrupts() > Before);
    KeStartClock();
}

static VOID TheClockTicksUntilItIsStopped(VOID)
{
    const ULONG64 Before = CountInterrupts();
    KeArchStartClock(1000);
    // How long five take depends on the emulator's host, which may have other things to do.
    for (ULONG Wait = 0; Wait < 100 && CountInterrupts() - Before < 5; Wait += 1) {
        KeStallExecutionProcessor(STALL_MICROSECONDS);
    }
    KeArchStopClock();
    const ULONG64 Ticks = CountInterrupts() - Before;
    KT_CHECK(Ticks >= 5);
    KeStallExecutionProcessor(STALL_MICROSECONDS);
    KT_CHECK(CountInterrupts() - Before <= Ticks + 1);
    KeStartClock();
}

//
// The devices.
//

typedef struct _AIR_DEVICE {
    KI_INTERRUPT_SOURCE Source;
    ULONG Vector;
    BOOLEAN IsMasked;
    BOOLEAN IsAsserted;
} AIR_DEVICE;

static AIR_DEVICE Line;    // level-sensitive
static AIR_DEVICE Message; // latched, with a higher IRQL

static VOID SignalDevice(const AIR_DEVICE *Device)
{
    if (!Device->IsMasked) {
        KeArchRequestInterrupt(Device->Vector);
    }
}

static VOID SetMasked(const KI_INTERRUPT_SOURCE *Source, BOOLEAN IsMasked)
{
    AIR_DEVICE *Device = CONTAINING_RECORD(Source, AIR_DEVICE, Source);
    const BOOLEAN WasMasked = Device->IsMasked;
    Device->IsMasked = IsMasked;
    if (WasMasked && Device->IsAsserted) {
        SignalDevice(Device);
    }
}

// A vector is reserved once and for all.
static BOOLEAN MakeDevice(AIR_DEVICE *Device, KI_VECTOR_USE Use, KINTERRUPT_MODE Mode)
{
    if (Device->Vector == 0) {
        Device->Vector = KiReserveVectors(Use, 1);
        Device->Source =
            (KI_INTERRUPT_SOURCE){.SetMasked = SetMasked, .Number = 1000, .Mode = Mode};
        if (Device->Vector != 0) {
            Device->IsMasked = TRUE;
            KiSetVectorSource(Device->Vector, &Device->Source);
        }
    }
    return Device->Vector != 0;
}

static BOOLEAN MakeDevices(VOID)
{
    return MakeDevice(&Line, KiVectorsForLines, LevelSensitive) &&
           MakeDevice(&Message, KiVectorsForMessages, Latched);
}

//
// A driver: its routine notes what it sees.
//

typedef struct _AIR_DRIVER {
    const AIR_DEVICE *Device;
    PKINTERRUPT Interrupt;
    ULONG CallCount;
    KIRQL Irql;
    PKINTERRUPT CalledWith;
    BOOLEAN Claims;
    ULONG ClaimLimit; // not 0: claims only so many calls
    VOID (*Inside)(struct _AIR_DRIVER *Driver);
    KDPC Dpc;
    ULONG DpcCount;
} AIR_DRIVER;

static BOOLEAN NTAPI Serve(PKINTERRUPT Interrupt, PVOID ServiceContext)
{
    AIR_DRIVER *Driver = ServiceContext;
    Driver->CallCount += 1;
    Driver->Irql = KeGetCurrentIrql();
    Driver->CalledWith = Interrupt;
    if (Driver->Inside != NULL) {
        Driver->Inside(Driver);
    }
    if (Driver->Device->IsAsserted) {
        SignalDevice(Driver->Device); // still: it comes again as soon as this one has ended
    }
    return Driver->Claims && (Driver->ClaimLimit == 0 || Driver->CallCount <= Driver->ClaimLimit);
}

static NTSTATUS ConnectAt(AIR_DRIVER *Driver, const AIR_DEVICE *Device, KIRQL SynchronizeIrql,
                          BOOLEAN IsShared)
{
    Driver->Device = Device;
    return IoConnectInterrupt(&Driver->Interrupt, Serve, Driver, NULL, Device->Vector,
                              KiIrqlOfVector(Device->Vector), SynchronizeIrql, Device->Source.Mode,
                              IsShared, 1, FALSE);
}

static NTSTATUS Connect(AIR_DRIVER *Driver, const AIR_DEVICE *Device, BOOLEAN IsShared)
{
    return ConnectAt(Driver, Device, KiIrqlOfVector(Device->Vector), IsShared);
}

static VOID Disconnect(AIR_DRIVER *Driver)
{
    IoDisconnectInterrupt(Driver->Interrupt);
}

//
// Connections.
//

static VOID ARoutineIsCalledAtItsIrql(VOID)
{
    AIR_DRIVER Driver = {.Claims = TRUE};
    KT_REQUIRE(MakeDevices());
    KT_CHECK(Line.IsMasked);
    KT_REQUIRE(NT_SUCCESS(Connect(&Driver, &Line, FALSE)));
    KT_CHECK(!Line.IsMasked);
    SignalDevice(&Line);
    KT_EQUAL(Driver.CallCount, 1);
    KT_EQUAL(Driver.Irql, KiIrqlOfVector(Line.Vector));
    KT_EQUAL(Driver.CalledWith, Driver.Interrupt);
    GROUP_AFFINITY Affinity = {.Mask = 0, .Group = 1};
    KT_EQUAL(IoGetAffinityInterrupt(Driver.Interrupt, &Affinity), STATUS_SUCCESS);
    KT_EQUAL(Affinity.Mask, 1);
    KT_EQUAL(Affinity.Group, 0);
    Disconnect(&Driver);
    KT_CHECK(Line.IsMasked);
    KeArchRequestInterrupt(Line.Vector); // one that was on its way
    KT_EQUAL(Driver.CallCount, 1);
}

static VOID SharersAreAllCalled(VOID)
{
    AIR_DRIVER First = {.Claims = TRUE};
    AIR_DRIVER Second = {.Claims = FALSE};
    KT_REQUIRE(MakeDevices());
    KT_REQUIRE(NT_SUCCESS(Connect(&First, &Line, TRUE)));
    KT_REQUIRE(NT_SUCCESS(Connect(&Second, &Line, TRUE)));
    SignalDevice(&Line);
    KT_EQUAL(First.CallCount, 1);
    KT_EQUAL(Second.CallCount, 1);
    Disconnect(&First);
    KT_CHECK(!Line.IsMasked); // the other one still wants it
    SignalDevice(&Line);
    KT_EQUAL(First.CallCount, 1);
    KT_EQUAL(Second.CallCount, 2);
    Disconnect(&Second);
    KT_CHECK(Line.IsMasked);
}

static VOID WhoDoesNotShareIsAlone(VOID)
{
    AIR_DRIVER First = {.Claims = TRUE};
    AIR_DRIVER Second = {.Claims = TRUE};
    KT_REQUIRE(MakeDevices());
    KT_REQUIRE(NT_SUCCESS(Connect(&First, &Line, FALSE)));
    KT_EQUAL(Connect(&Second, &Line, TRUE), STATUS_INVALID_PARAMETER);
    KT_EQUAL(Second.Interrupt, NULL);
    Disconnect(&First);
    KT_REQUIRE(NT_SUCCESS(Connect(&First, &Line, TRUE)));
    KT_EQUAL(Connect(&Second, &Line, FALSE), STATUS_INVALID_PARAMETER);
    Disconnect(&First);
}

// Between the first call and the last, another edge may have been lost.
static VOID ASharedEdgeIsServedUntilNobodyClaims(VOID)
{
    AIR_DRIVER First = {.Claims = TRUE, .ClaimLimit = 1};
    AIR_DRIVER Second = {.Claims = TRUE, .ClaimLimit = 3};
    KT_REQUIRE(MakeDevices());
    KT_REQUIRE(NT_SUCCESS(Connect(&First, &Message, TRUE)));
    KT_REQUIRE(NT_SUCCESS(Connect(&Second, &Message, TRUE)));
    SignalDevice(&Message);
    KT_EQUAL(Second.CallCount, 4);
    KT_EQUAL(First.CallCount, 4);
    Disconnect(&First);
    Disconnect(&Second);
}

static VOID WrongParametersAreRefused(VOID)
{
    AIR_DRIVER Driver = {.Claims = TRUE, .Device = &Line};
    PKINTERRUPT Interrupt = NULL;
    KT_REQUIRE(MakeDevices());
    const KIRQL Irql = KiIrqlOfVector(Line.Vector);
    const struct {
        PKINTERRUPT *Interrupt;
        PKSERVICE_ROUTINE Routine;
        ULONG Vector;
        KIRQL Irql;
        KIRQL SynchronizeIrql;
        KINTERRUPT_MODE Mode;
        KAFFINITY Affinity;
    } Rows[] = {
        {NULL, Serve, Line.Vector, Irql, Irql, LevelSensitive, 1},
        {&Interrupt, NULL, Line.Vector, Irql, Irql, LevelSensitive, 1},
        {&Interrupt, Serve, 0, Irql, Irql, LevelSensitive, 1},
        {&Interrupt, Serve, KE_LAST_DEVICE_VECTOR, KE_MAXIMUM_DEVICE_IRQL, KE_MAXIMUM_DEVICE_IRQL,
         LevelSensitive, 1},
        {&Interrupt, Serve, 0xD1, CLOCK_LEVEL, CLOCK_LEVEL, Latched, 1},
        {&Interrupt, Serve, Line.Vector, (KIRQL)(Irql + 1), (KIRQL)(Irql + 1), LevelSensitive, 1},
        {&Interrupt, Serve, Line.Vector, Irql, (KIRQL)(Irql - 1), LevelSensitive, 1},
        {&Interrupt, Serve, Line.Vector, Irql, HIGH_LEVEL + 1, LevelSensitive, 1},
        {&Interrupt, Serve, Line.Vector, Irql, Irql, Latched, 1},
        {&Interrupt, Serve, Line.Vector, Irql, Irql, LevelSensitive, 0},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        KtSetContext("row %u", Row);
        KT_EQUAL(IoConnectInterrupt(Rows[Row].Interrupt, Rows[Row].Routine, &Driver, NULL,
                                    Rows[Row].Vector, Rows[Row].Irql, Rows[Row].SynchronizeIrql,
                                    Rows[Row].Mode, FALSE, Rows[Row].Affinity, FALSE),
                 STATUS_INVALID_PARAMETER);
        KT_EQUAL(Interrupt, NULL);
    }
}

static VOID UnknownVersionsAreNotSupported(VOID)
{
    static const ULONG Versions[] = {0, CONNECT_MESSAGE_BASED_PASSIVE, 6, MAXULONG};
    for (ULONG Row = 0; Row < ARRAYSIZE(Versions); Row += 1) {
        IO_CONNECT_INTERRUPT_PARAMETERS Parameters = {.Version = Versions[Row]};
        KT_EQUAL(IoConnectInterruptEx(&Parameters), STATUS_NOT_SUPPORTED);
        KT_EQUAL(Parameters.Version, CONNECT_CURRENT_VERSION);
    }
}

static BOOLEAN NTAPI ServeMessage(PKINTERRUPT Interrupt, PVOID ServiceContext, ULONG MessageID)
{
    UNREFERENCED_PARAMETER(MessageID);
    return Serve(Interrupt, ServiceContext);
}

static VOID ADeviceWithoutInterruptsHasNone(VOID)
{
    PKINTERRUPT Interrupt = NULL;
    AIR_DRIVER Driver = {.Claims = TRUE, .Device = &Line};
    IO_CONNECT_INTERRUPT_PARAMETERS Parameters = {.Version = CONNECT_LINE_BASED,
                                                  .LineBased = {.InterruptObject = &Interrupt,
                                                                .ServiceRoutine = Serve,
                                                                .ServiceContext = &Driver}};
    KT_EQUAL(IoConnectInterruptEx(&Parameters), STATUS_NOT_FOUND);
    Parameters = (IO_CONNECT_INTERRUPT_PARAMETERS){
        .Version = CONNECT_MESSAGE_BASED,
        .MessageBased = {.ConnectionContext.InterruptObject = &Interrupt,
                         .MessageServiceRoutine = ServeMessage,
                         .ServiceContext = &Driver}};
    KT_EQUAL(IoConnectInterruptEx(&Parameters), STATUS_NOT_FOUND);
    Parameters.MessageBased.FallBackServiceRoutine = Serve;
    KT_EQUAL(IoConnectInterruptEx(&Parameters), STATUS_NOT_FOUND);
    KT_EQUAL(Parameters.Version, CONNECT_MESSAGE_BASED);
    KT_EQUAL(Interrupt, NULL);
}

static VOID AFullySpecifiedConnectionWorks(VOID)
{
    static const ULONG Versions[] = {CONNECT_FULLY_SPECIFIED, CONNECT_FULLY_SPECIFIED_GROUP};
    KT_REQUIRE(MakeDevices());
    for (ULONG Row = 0; Row < ARRAYSIZE(Versions); Row += 1) {
        AIR_DRIVER Driver = {.Claims = TRUE, .Device = &Message};
        IO_CONNECT_INTERRUPT_PARAMETERS Parameters = {
            .Version = Versions[Row],
            .FullySpecified = {.InterruptObject = &Driver.Interrupt,
                               .ServiceRoutine = Serve,
                               .ServiceContext = &Driver,
                               .SynchronizeIrql = KiIrqlOfVector(Message.Vector),
                               .Vector = Message.Vector,
                               .Irql = KiIrqlOfVector(Message.Vector),
                               .InterruptMode = Latched,
                               .ProcessorEnableMask = 1}};
        KT_REQUIRE(NT_SUCCESS(IoConnectInterruptEx(&Parameters)));
        SignalDevice(&Message);
        KT_EQUAL(Driver.CallCount, 1);
        IO_DISCONNECT_INTERRUPT_PARAMETERS End = {
            .Version = Parameters.Version, .ConnectionContext.InterruptObject = Driver.Interrupt};
        IoDisconnectInterruptEx(&End);
        KT_CHECK(Message.IsMasked);
    }
}

static VOID AnInactiveInterruptIsMasked(VOID)
{
    AIR_DRIVER Driver = {.Claims = TRUE};
    KT_REQUIRE(MakeDevices());
    KT_REQUIRE(NT_SUCCESS(Connect(&Driver, &Line, TRUE)));
    IO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS Report = {
        .Version = CONNECT_FULLY_SPECIFIED, .ConnectionContext.InterruptObject = Driver.Interrupt};
    IoReportInterruptInactive(&Report);
    KT_CHECK(Line.IsMasked);
    KeArchRequestInterrupt(Line.Vector);
    KT_EQUAL(Driver.CallCount, 0);
    IoReportInterruptActive(&Report);
    KT_CHECK(!Line.IsMasked);
    SignalDevice(&Line);
    KT_EQUAL(Driver.CallCount, 1);
    Disconnect(&Driver);
}

//
// Levels and locks.
//

static ULONG InnerCalls;
static const AIR_DRIVER *Other; // whose device interrupts inside the routine

static VOID SignalTheOther(AIR_DRIVER *Driver)
{
    UNREFERENCED_PARAMETER(Driver);
    const ULONG Before = Other->CallCount;
    SignalDevice(Other->Device);
    KeStallExecutionProcessor(10);
    InnerCalls = Other->CallCount - Before;
}

static VOID OnlyHigherInterruptsInterrupt(VOID)
{
    AIR_DRIVER Low = {.Claims = TRUE, .Inside = SignalTheOther};
    AIR_DRIVER High = {.Claims = TRUE};
    KT_REQUIRE(MakeDevices());
    KT_REQUIRE(KiIrqlOfVector(Line.Vector) < KiIrqlOfVector(Message.Vector));
    KT_REQUIRE(NT_SUCCESS(Connect(&Low, &Line, TRUE)));
    KT_REQUIRE(NT_SUCCESS(Connect(&High, &Message, TRUE)));
    Other = &High;
    SignalDevice(&Line);
    KT_EQUAL(InnerCalls, 1);
    Low.Inside = NULL;
    High.Inside = SignalTheOther;
    Other = &Low;
    SignalDevice(&Message);
    KT_EQUAL(InnerCalls, 0);
    KT_EQUAL(Low.CallCount, 2); // afterwards
    Disconnect(&Low);
    Disconnect(&High);
}

static VOID ARoutineRunsAtItsSynchronizeIrql(VOID)
{
    AIR_DRIVER Low = {.Claims = TRUE, .Inside = SignalTheOther};
    AIR_DRIVER High = {.Claims = TRUE};
    KT_REQUIRE(MakeDevices());
    KT_REQUIRE(NT_SUCCESS(ConnectAt(&Low, &Line, KiIrqlOfVector(Message.Vector), TRUE)));
    KT_REQUIRE(NT_SUCCESS(Connect(&High, &Message, TRUE)));
    Other = &High;
    SignalDevice(&Line);
    KT_EQUAL(Low.Irql, KiIrqlOfVector(Message.Vector));
    KT_EQUAL(InnerCalls, 0);
    KT_EQUAL(High.CallCount, 1);
    Disconnect(&Low);
    Disconnect(&High);
}

static BOOLEAN NTAPI InterruptMeanwhile(PVOID SynchronizeContext)
{
    const AIR_DRIVER *Driver = SynchronizeContext;
    SignalDevice(Driver->Device);
    KeStallExecutionProcessor(10);
    InnerCalls = Driver->CallCount;
    return KeGetCurrentIrql() == KiIrqlOfVector(Driver->Device->Vector);
}

static VOID SynchronizedCodeExcludesTheRoutine(VOID)
{
    AIR_DRIVER Driver = {.Claims = TRUE};
    KT_REQUIRE(MakeDevices());
    KT_REQUIRE(NT_SUCCESS(Connect(&Driver, &Message, FALSE)));
    KT_EQUAL(KeSynchronizeExecution(Driver.Interrupt, InterruptMeanwhile, &Driver), TRUE);
    KT_EQUAL(InnerCalls, 0);
    KT_EQUAL(Driver.CallCount, 1);
    KT_EQUAL(KeGetCurrentIrql(), PASSIVE_LEVEL);
    const KIRQL OldIrql = KeAcquireInterruptSpinLock(Driver.Interrupt);
    KT_EQUAL(OldIrql, PASSIVE_LEVEL);
    KT_CHECK(InterruptMeanwhile(&Driver));
    KT_EQUAL(InnerCalls, 1);
    KeReleaseInterruptSpinLock(Driver.Interrupt, OldIrql);
    KT_EQUAL(Driver.CallCount, 2);
    Disconnect(&Driver);
}

// One lock for two interrupts, as a driver with several messages has it.
static VOID ALockCanBeShared(VOID)
{
    KSPIN_LOCK Lock;
    AIR_DRIVER Driver = {.Claims = TRUE, .Device = &Message};
    KeInitializeSpinLock(&Lock);
    KT_REQUIRE(MakeDevices());
    KT_REQUIRE(NT_SUCCESS(IoConnectInterrupt(&Driver.Interrupt, Serve, &Driver, &Lock,
                                             Message.Vector, KiIrqlOfVector(Message.Vector),
                                             HIGH_LEVEL, Latched, FALSE, 1, FALSE)));
    const KIRQL OldIrql = KeAcquireInterruptSpinLock(Driver.Interrupt);
    KT_CHECK(Lock != 0);
    KeReleaseInterruptSpinLock(Driver.Interrupt, OldIrql);
    KT_EQUAL(Lock, 0);
    SignalDevice(&Message);
    KT_EQUAL(Driver.Irql, HIGH_LEVEL);
    Disconnect(&Driver);
}

static VOID NTAPI CountDpc(PKDPC Dpc, PVOID Context, PVOID SystemArgument1, PVOID SystemArgument2)
{
    AIR_DRIVER *Driver = Context;
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(SystemArgument1);
    UNREFERENCED_PARAMETER(SystemArgument2);
    Driver->DpcCount += KeGetCurrentIrql() == DISPATCH_LEVEL ? 1 : 0;
}

static VOID QueueDpc(AIR_DRIVER *Driver)
{
    KT_CHECK(KeInsertQueueDpc(&Driver->Dpc, NULL, NULL));
    KT_EQUAL(Driver->DpcCount, Driver->CallCount - 1); // not yet
}

static VOID ADpcRunsBehindItsInterrupt(VOID)
{
    AIR_DRIVER Driver = {.Claims = TRUE, .Inside = QueueDpc};
    KT_REQUIRE(MakeDevices());
    KeInitializeDpc(&Driver.Dpc, CountDpc, &Driver);
    KT_REQUIRE(NT_SUCCESS(Connect(&Driver, &Message, FALSE)));
    SignalDevice(&Message);
    KT_EQUAL(Driver.DpcCount, 1);
    const KIRQL OldIrql = KeRaiseIrqlToDpcLevel();
    SignalDevice(&Message);
    KT_EQUAL(Driver.CallCount, 2);
    KT_EQUAL(Driver.DpcCount, 1);
    KeLowerIrql(OldIrql);
    KT_EQUAL(Driver.DpcCount, 2);
    Disconnect(&Driver);
}

//
// What must survive.
//

#define XMM_COUNT 16

typedef struct _XMM_STATE {
    ULONG64 Halves[2 * XMM_COUNT];
    ULONG Mxcsr;
} XMM_STATE;

static VOID LoadXmm(const XMM_STATE *State)
{
    __asm__ volatile("movups 0x00(%0), %%xmm0; movups 0x10(%0), %%xmm1; movups 0x20(%0), %%xmm2;"
                     "movups 0x30(%0), %%xmm3; movups 0x40(%0), %%xmm4; movups 0x50(%0), %%xmm5;"
                     "ldmxcsr %1"
                     :
                     : "r"(State->Halves), "m"(State->Mxcsr)
                     : "memory");
}

static VOID StoreXmm(XMM_STATE *State)
{
    __asm__ volatile("movups %%xmm0, 0x00(%1); movups %%xmm1, 0x10(%1); movups %%xmm2, 0x20(%1);"
                     "movups %%xmm3, 0x30(%1); movups %%xmm4, 0x40(%1); movups %%xmm5, 0x50(%1);"
                     "stmxcsr %0"
                     : "=m"(State->Mxcsr)
                     : "r"(State->Halves)
                     : "memory");
}

#define VOLATILE_XMM 6
#define MXCSR_DEFAULT 0x1F80
#define MXCSR_ROUND_DOWN 0x3F80

static XMM_STATE SeenInside;

static VOID SpoilXmm(AIR_DRIVER *Driver)
{
    UNREFERENCED_PARAMETER(Driver);
    const XMM_STATE Rubbish = {.Mxcsr = MXCSR_ROUND_DOWN ^ 0x6000};
    StoreXmm(&SeenInside);
    LoadXmm(&Rubbish);
}

static VOID VolatileSseRegistersSurvive(VOID)
{
    AIR_DRIVER Driver = {.Claims = TRUE, .Inside = SpoilXmm};
    XMM_STATE Before = {.Mxcsr = MXCSR_ROUND_DOWN};
    XMM_STATE After = {.Mxcsr = 0};
    XMM_STATE Default = {.Mxcsr = MXCSR_DEFAULT};
    for (ULONG Index = 0; Index < 2 * VOLATILE_XMM; Index += 1) {
        Before.Halves[Index] = 0x0123456789ABCDEFull * (Index + 1);
    }
    KT_REQUIRE(MakeDevices());
    KT_REQUIRE(NT_SUCCESS(Connect(&Driver, &Message, FALSE)));
    LoadXmm(&Before);
    KeArchRequestInterrupt(Message.Vector);
    StoreXmm(&After);
    LoadXmm(&Default);
    KT_EQUAL(Driver.CallCount, 1);
    KT_EQUAL(SeenInside.Mxcsr, MXCSR_DEFAULT); // whatever ran before
    KT_EQUAL(After.Mxcsr, MXCSR_ROUND_DOWN);
    for (ULONG Index = 0; Index < 2 * VOLATILE_XMM; Index += 1) {
        KT_EQUAL(After.Halves[Index], Before.Halves[Index]);
    }
    Disconnect(&Driver);
}

static VOID VectorsOfNobodyAreCountedAndEnded(VOID)
{
    static const ULONG Vectors[] = {0xFE, 0xC5, 0xF7, KE_LAST_DEVICE_VECTOR};
    AIR_DRIVER Driver = {.Claims = TRUE};
    KT_REQUIRE(MakeDevices());
    KT_REQUIRE(NT_SUCCESS(Connect(&Driver, &Line, FALSE)));
    for (ULONG Row = 0; Row < ARRAYSIZE(Vectors); Row += 1) {
        const ULONG64 Before = KeArchGetPcr()->SpuriousInterrupts;
        KtSetContext("vector 0x%x", Vectors[Row]);
        KeArchRequestInterrupt(Vectors[Row]);
        KT_EQUAL(KeArchGetPcr()->SpuriousInterrupts, Before + 1);
        SignalDevice(&Line); // a lower one: it comes only if the other one was ended
        KT_EQUAL(Driver.CallCount, Row + 1);
    }
    Disconnect(&Driver);
}

//
// Storms.
//

#define PAUSE_MICROSECONDS 1000u
#define PAUSE_POLLS 2000u

static KI_VECTOR_COUNTS CountsOf(const AIR_DEVICE *Device)
{
    KI_VECTOR_COUNTS Counts;
    KiQueryVector(Device->Vector, &Counts);
    return Counts;
}

static VOID WaitForEndOfPause(const AIR_DEVICE *Device)
{
    for (ULONG Poll = 0; Poll < PAUSE_POLLS && CountsOf(Device).IsQuenched; Poll += 1) {
        KeStallExecutionProcessor(PAUSE_MICROSECONDS);
    }
}

static VOID WaitForStorm(const AIR_DEVICE *Device, ULONG64 StormCount)
{
    for (ULONG Poll = 0; Poll < PAUSE_POLLS && CountsOf(Device).StormCount < StormCount;
         Poll += 1) {
        KeStallExecutionProcessor(PAUSE_MICROSECONDS);
    }
}

static VOID CheckStorm(AIR_DEVICE *Device, AIR_DRIVER *Driver)
{
    KT_REQUIRE(NT_SUCCESS(Connect(Driver, Device, TRUE)));
    const ULONG64 Storms = CountsOf(Device).StormCount;
    Device->IsAsserted = TRUE;
    SignalDevice(Device);
    // Here already the machine goes on: it is masked.
    KT_EQUAL(CountsOf(Device).StormCount, Storms + 1);
    KT_EQUAL(CountsOf(Device).IsQuenched, TRUE);
    KT_CHECK(Device->IsMasked);
    WaitForStorm(Device, Storms + 2); // it is tried again
    KT_EQUAL(CountsOf(Device).StormCount, Storms + 2);
    KT_EQUAL(CountsOf(Device).IsQuenched, TRUE);
    Device->IsAsserted = FALSE;
    WaitForEndOfPause(Device);
    KT_CHECK(!Device->IsMasked);
    Driver->Claims = TRUE;
    const ULONG Calls = Driver->CallCount;
    SignalDevice(Device);
    KT_EQUAL(Driver->CallCount, Calls + 1);
    KT_EQUAL(CountsOf(Device).IsQuenched, FALSE);
    Disconnect(Driver);
}

static VOID AnUnclaimedStormIsSurvived(VOID)
{
    AIR_DRIVER Driver = {.Claims = FALSE};
    KT_REQUIRE(MakeDevices());
    CheckStorm(&Line, &Driver);
    KT_CHECK(CountsOf(&Line).UnclaimedCount > 0);
}

static VOID AClaimedStormIsSurvived(VOID)
{
    AIR_DRIVER Driver = {.Claims = TRUE};
    KT_REQUIRE(MakeDevices());
    CheckStorm(&Line, &Driver);
}

static VOID AStormOfMessagesIsSurvived(VOID)
{
    AIR_DRIVER Driver = {.Claims = FALSE};
    KT_REQUIRE(MakeDevices());
    CheckStorm(&Message, &Driver);
}

// Whoever does something between two interrupts has not been stopped by them.
static VOID ManyInterruptsAreNoStorm(VOID)
{
    AIR_DRIVER Driver = {.Claims = TRUE};
    KT_REQUIRE(MakeDevices());
    KT_REQUIRE(NT_SUCCESS(Connect(&Driver, &Message, FALSE)));
    const ULONG64 Storms = CountsOf(&Message).StormCount;
    for (ULONG Count = 0; Count < 12000; Count += 1) {
        SignalDevice(&Message);
    }
    KT_EQUAL(Driver.CallCount, 12000);
    KT_EQUAL(CountsOf(&Message).StormCount, Storms);
    Disconnect(&Driver);
}

//
// Lines.
//

static VOID ALineHasOneVector(VOID)
{
    KIRQL Irql;
    KAFFINITY Affinity;
    const ULONG Vector = HalGetInterruptVector(PCIBus, 0, 11, 11, &Irql, &Affinity);
    if (Vector == 0) {
        KT_SKIP("no I/O APIC");
    }
    KT_EQUAL(Irql, KiIrqlOfVector(Vector));
    KT_EQUAL(Affinity, 1);
    KT_EQUAL(HalGetInterruptVector(Isa, 0, 11, 11, &Irql, &Affinity), Vector);
    KT_CHECK(HalGetInterruptVector(PCIBus, 0, 10, 10, &Irql, &Affinity) != Vector);
    KT_EQUAL(HalGetInterruptVector(PCIBus, 0, 255, 255, &Irql, &Affinity), 0);
    KT_EQUAL(Irql, PASSIVE_LEVEL);
    KT_EQUAL(Affinity, 0);
    KT_EQUAL(HalGetInterruptVector(Eisa, 0, 10, 10, &Irql, &Affinity), 0);
}

static const KT_TEST Tests[] = {
    {"a dispatch interrupt waits until the IRQL is lowered [20.4.1]",
     ADispatchInterruptWaitsForTheIrql},
    {"the clock ticks until it is stopped", TheClockTicksUntilItIsStopped},
    {"an interrupt routine is called at its IRQL, and not after the disconnect [22.1.4, 22.2.1]",
     ARoutineIsCalledAtItsIrql},
    {"all routines of a shared line are called [22.1.3]", SharersAreAllCalled},
    {"a vector is shared only if all want it [22.1.3]", WhoDoesNotShareIsAlone},
    {"a shared edge is served until nobody claims it", ASharedEdgeIsServedUntilNobodyClaims},
    {"IoConnectInterrupt refuses wrong parameters [22.1.1]", WrongParametersAreRefused},
    {"IoConnectInterruptEx says which version it supports [22.1.2]",
     UnknownVersionsAreNotSupported},
    {"a device without interrupts has none to connect to [22.1.1]",
     ADeviceWithoutInterruptsHasNone},
    {"a fully specified connection works, with and without a group",
     AFullySpecifiedConnectionWorks},
    {"an interrupt that is reported inactive is masked [22.2.4]", AnInactiveInterruptIsMasked},
    {"an interrupt routine is interrupted by higher interrupts only [22.2.1]",
     OnlyHigherInterruptsInterrupt},
    {"an interrupt routine runs at its SynchronizeIrql [22.2.1]", ARoutineRunsAtItsSynchronizeIrql},
    {"KeSynchronizeExecution excludes the interrupt routine [22.2.2]",
     SynchronizedCodeExcludesTheRoutine},
    {"interrupts can share a spin lock of the driver's [22.2.2]", ALockCanBeShared},
    {"a DPC runs between its interrupt and what was interrupted [22.2.3]",
     ADpcRunsBehindItsInterrupt},
    {"SSE registers and MXCSR survive an interrupt routine that uses them [20.4.4]",
     VolatileSseRegistersSurvive},
    {"vectors that nobody was given are counted and ended [22.3.1]",
     VectorsOfNobodyAreCountedAndEnded},
    {"a line that nobody claims is masked, and tried again later [22.3.2]",
     AnUnclaimedStormIsSurvived},
    {"a line that is claimed and never quieted is masked, and tried again later [22.3.2]",
     AClaimedStormIsSurvived},
    {"a storm of messages is survived", AStormOfMessagesIsSurvived},
    {"many interrupts are no storm [22.3.3]", ManyInterruptsAreNoStorm},
    {"a line has one vector, whoever asks", ALineHasOneVector},
};

const KT_SUITE KtInterruptSuite = {"interrupt", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
