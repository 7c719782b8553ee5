// Interrupts for drivers: how each function interrupts, and IoConnectInterrupt and its relatives.
//
//   resources (IRP_MN_START_DEVICE) ──▶ vector, IRQL ──▶ IoConnectInterrupt
//   PDO ──▶ its line or its messages                 ──▶ IoConnectInterruptEx
//
// As on Windows, a function is given messages when its driver's INF wants them (MSISupported; here the
// word messages=N behind the boot module), and its line otherwise, because an old driver that finds
// messages among its resources may not know what they are. What a driver then asks for decides: a
// function that was given messages changes over to its line for CONNECT_LINE_BASED, and one that was
// given its line to messages for CONNECT_MESSAGE_BASED (ours). A function without a line gets messages.
// The boot option `intx` forbids messages.
//
// kernel/ke/interrupt.c keeps the connections; here is who may connect, and the memory.
#include "kernel/io/iop.h"

//
// Functions.
//

static BOOLEAN IopLinesOnly; // the boot option

static VOID IopInitializeFunctionInterrupts(PIO_PCI_FUNCTION Function)
{
    const USHORT Register =
        IopReadPciUshort(Function, (ULONG)FIELD_OFFSET(PCI_COMMON_HEADER, u.type0.InterruptLine));
    Function->InterruptLine = (UCHAR)Register;
    Function->InterruptPin = (UCHAR)(Register >> 8);
    IopDisableMessages(Function);
}

VOID IopInitializeInterrupts(VOID)
{
    IopLinesOnly = KeGetBootOption("intx", NULL, 0);
    for (PIO_PCI_FUNCTION Function = IopNextPciFunction(NULL); Function != NULL;
         Function = IopNextPciFunction(Function)) {
        IopInitializeFunctionInterrupts(Function);
    }
}

static VOID IopAssignLine(PIO_PCI_FUNCTION Function)
{
    if (Function->LineVector == 0 && Function->InterruptPin != 0) {
        Function->LineVector = IopGetLineVector(Function->InterruptLine, TRUE);
    }
}

static BOOLEAN IopTryMessages(PIO_PCI_FUNCTION Function, ULONG Limit)
{
    const ULONG MessageLimit = Limit < IOP_MAXIMUM_MESSAGES ? Limit : IOP_MAXIMUM_MESSAGES;
    if (MessageLimit == 0 || IopLinesOnly || !IopAssignMessages(Function, MessageLimit)) {
        return FALSE;
    }
    Function->MessageLimit = MessageLimit;
    return TRUE;
}

VOID IopAssignInterrupts(PIO_PCI_FUNCTION Function, ULONG MessageLimit)
{
    if (IopUsesMessages(Function) || IopTryMessages(Function, MessageLimit)) {
        return;
    }
    IopAssignLine(Function);
    if (Function->LineVector == 0) {
        IopTryMessages(Function, IOP_MAXIMUM_MESSAGES);
    }
}

static VOID IopEnablePin(const IO_PCI_FUNCTION *Function, BOOLEAN IsEnabled)
{
    IopChangePciUshort(Function, (ULONG)FIELD_OFFSET(PCI_COMMON_HEADER, Command),
                       PCI_DISABLE_LEVEL_INTERRUPT, IsEnabled ? 0 : PCI_DISABLE_LEVEL_INTERRUPT);
}

NTSTATUS IopEnableInterrupts(PIO_PCI_FUNCTION Function)
{
    IopEnablePin(Function, !IopUsesMessages(Function) && Function->LineVector != 0);
    return IopUsesMessages(Function) ? IopEnableMessages(Function) : STATUS_SUCCESS;
}

VOID IopDisableInterrupts(PIO_PCI_FUNCTION Function)
{
    IopEnablePin(Function, FALSE);
    IopDisableMessages(Function);
}

// The function of a PDO; NULL: it is another bus driver's.
static PIO_PCI_FUNCTION IopFindFunction(PDEVICE_OBJECT Pdo)
{
    PIO_PCI_FUNCTION Function = IopNextPciFunction(NULL);
    while (Function != NULL && Function->Pdo != Pdo) {
        Function = IopNextPciFunction(Function);
    }
    return Function;
}

//
// Interrupt objects.
//

// Whose interrupt it is, in words. Pdo may be NULL.
static VOID IopNameOwner(PKINTERRUPT Interrupt, PDEVICE_OBJECT Pdo, const VOID *Caller)
{
    CHAR Device[IO_PCI_NAME_BYTES] = "";
    const IO_PCI_FUNCTION *Function = Pdo != NULL ? IopFindFunction(Pdo) : NULL;
    PCSTR Owner = KiFindCodeOwner((ULONG_PTR)Caller);
    if (Function != NULL) {
        IoFormatPciName(Function, Device, sizeof(Device));
    }
    RtlFormatBuffer(Interrupt->Owner, sizeof(Interrupt->Owner), "%s%s%s",
                    Owner != NULL ? Owner : "the kernel", Function != NULL ? " at " : "", Device);
}

static BOOLEAN IopIsConnectable(const KINTERRUPT *Interrupt, KIRQL Irql)
{
    return KiGetVectorSource(Interrupt->Vector) != NULL &&
           KiIrqlOfVector(Interrupt->Vector) == Irql && Interrupt->SynchronizeIrql >= Irql &&
           Interrupt->SynchronizeIrql <= HIGH_LEVEL && Interrupt->ServiceRoutine != NULL;
}

// Connects a copy of Template, with *InterruptObject written before the routine can be called.
static NTSTATUS IopConnect(const KINTERRUPT *Template, KIRQL Irql, PKINTERRUPT *InterruptObject)
{
    if (InterruptObject == NULL || !IopIsConnectable(Template, Irql)) {
        return STATUS_INVALID_PARAMETER;
    }
    PKINTERRUPT Interrupt = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Interrupt), IOP_TAG);
    if (Interrupt == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    *Interrupt = *Template;
    *InterruptObject = Interrupt;
    const NTSTATUS Status = KiConnectInterrupt(Interrupt);
    if (!NT_SUCCESS(Status)) {
        *InterruptObject = NULL;
        ExFreePoolWithTag(Interrupt, IOP_TAG);
    }
    return Status;
}

NTSTATUS NTAPI IoConnectInterrupt(PKINTERRUPT *InterruptObject, PKSERVICE_ROUTINE ServiceRoutine,
                                  PVOID ServiceContext, PKSPIN_LOCK SpinLock, ULONG Vector,
                                  KIRQL Irql, KIRQL SynchronizeIrql, KINTERRUPT_MODE InterruptMode,
                                  BOOLEAN ShareVector, KAFFINITY ProcessorEnableMask,
                                  BOOLEAN FloatingSave)
{
    UNREFERENCED_PARAMETER(FloatingSave);
    KINTERRUPT Template = {
        .Vector = Vector,
        .Mode = InterruptMode,
        .SynchronizeIrql = SynchronizeIrql,
        .IsShared = ShareVector,
        .ServiceRoutine = ServiceRoutine,
        .ServiceContext = ServiceContext,
        .ActualLock = SpinLock,
    };
    NT_ASSERT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    if ((ProcessorEnableMask & IopAffinityOfVector(Vector)) == 0) {
        return STATUS_INVALID_PARAMETER;
    }
    IopNameOwner(&Template, NULL, __builtin_return_address(0));
    return IopConnect(&Template, Irql, InterruptObject);
}

VOID NTAPI IoDisconnectInterrupt(PKINTERRUPT InterruptObject)
{
    NT_ASSERT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    KiDisconnectInterrupt(InterruptObject);
    ExFreePoolWithTag(InterruptObject, IOP_TAG);
}

//
// IoConnectInterruptEx.
//

static NTSTATUS IopConnectFullySpecified(PIO_CONNECT_INTERRUPT_PARAMETERS Parameters,
                                         const VOID *Caller)
{
    const IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS *Full = &Parameters->FullySpecified;
    const BOOLEAN IsGrouped = Parameters->Version == CONNECT_FULLY_SPECIFIED_GROUP;
    KINTERRUPT Template = {
        .Vector = Full->Vector,
        .Mode = Full->InterruptMode,
        .SynchronizeIrql = Full->SynchronizeIrql,
        .IsShared = Full->ShareVector,
        .ServiceRoutine = Full->ServiceRoutine,
        .ServiceContext = Full->ServiceContext,
        .ActualLock = Full->SpinLock,
    };
    if ((Full->ProcessorEnableMask & IopAffinityOfVector(Full->Vector)) == 0 ||
        (IsGrouped && Full->Group != 0)) {
        return STATUS_INVALID_PARAMETER;
    }
    IopNameOwner(&Template, Full->PhysicalDeviceObject, Caller);
    return IopConnect(&Template, Full->Irql, Full->InterruptObject);
}

// A driver that asks for the line gets it, whatever its device was given.
static NTSTATUS IopChangeToLine(PIO_PCI_FUNCTION Function)
{
    IopAssignLine(Function);
    if (Function->LineVector == 0) {
        return STATUS_NOT_FOUND;
    }
    if (IopUsesMessages(Function)) {
        Function->MessageLimit = 0;
        IopDisableMessages(Function);
        IopEnablePin(Function, TRUE);
    }
    return STATUS_SUCCESS;
}

static NTSTATUS IopConnectLine(const IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS *Line,
                               const VOID *Caller)
{
    const PIO_PCI_FUNCTION Function = IopFindFunction(Line->PhysicalDeviceObject);
    const NTSTATUS Status = Function != NULL ? IopChangeToLine(Function) : STATUS_NOT_FOUND;
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const KIRQL Irql = KiIrqlOfVector(Function->LineVector);
    KINTERRUPT Template = {
        .Vector = Function->LineVector,
        .Mode = KiGetVectorSource(Function->LineVector)->Mode,
        .SynchronizeIrql = Line->SynchronizeIrql != 0 ? Line->SynchronizeIrql : Irql,
        .IsShared = TRUE,
        .ServiceRoutine = Line->ServiceRoutine,
        .ServiceContext = Line->ServiceContext,
        .ActualLock = Line->SpinLock,
    };
    IopNameOwner(&Template, Line->PhysicalDeviceObject, Caller);
    return IopConnect(&Template, Irql, Line->InterruptObject);
}

//
// Messages: the table that the driver sees and the interrupt objects are one block of pool.
//

typedef struct _IOP_MESSAGE_TABLE {
    KINTERRUPT Interrupts[IOP_MAXIMUM_MESSAGES];
    KSPIN_LOCK SpinLock; // of all messages, when the driver gives none
    ULONG ConnectedCount;
    IO_INTERRUPT_MESSAGE_INFO Info; // last: it has as many entries as there are messages
} IOP_MESSAGE_TABLE, *PIOP_MESSAGE_TABLE;

static VOID IopFreeMessageTable(PIOP_MESSAGE_TABLE Table)
{
    while (Table->ConnectedCount > 0) {
        Table->ConnectedCount -= 1;
        KiDisconnectInterrupt(&Table->Interrupts[Table->ConnectedCount]);
    }
    ExFreePoolWithTag(Table, IOP_TAG);
}

static VOID IopDescribeConnectedMessage(PIOP_MESSAGE_TABLE Table, ULONG Number)
{
    const PKINTERRUPT Interrupt = &Table->Interrupts[Number];
    const ULONG Processor = KiGetVectorSource(Interrupt->Vector)->Processor;
    const KE_MESSAGE Message = KeArchMakeMessage(Interrupt->Vector, Processor);
    const PIO_INTERRUPT_MESSAGE_INFO_ENTRY Entry = &Table->Info.MessageInfo[Number];
    Entry->MessageAddress.QuadPart = (LONGLONG)Message.Address;
    Entry->MessageData = Message.Data;
    Entry->TargetProcessorSet = IopAffinityOfVector(Interrupt->Vector);
    Entry->InterruptObject = Interrupt;
    Entry->Vector = Interrupt->Vector;
    Entry->Irql = KiIrqlOfVector(Interrupt->Vector);
    Entry->Mode = Latched;
    Entry->Polarity = InterruptRisingEdge;
}

static PIOP_MESSAGE_TABLE
IopMakeMessageTable(const IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS *Wanted,
                    const IOP_MESSAGES *Messages, const VOID *Caller)
{
    const KIRQL Irql = KiIrqlOfVector(Messages->FirstVector);
    PIOP_MESSAGE_TABLE Table =
        ExAllocatePool2(POOL_FLAG_NON_PAGED,
                        (SIZE_T)FIELD_OFFSET(IOP_MESSAGE_TABLE, Info.MessageInfo) +
                            Messages->Count * sizeof(IO_INTERRUPT_MESSAGE_INFO_ENTRY),
                        IOP_TAG);
    if (Table == NULL) {
        return NULL;
    }
    Table->Info.UnifiedIrql = Wanted->SynchronizeIrql > Irql ? Wanted->SynchronizeIrql : Irql;
    Table->Info.MessageCount = Messages->Count;
    for (ULONG Number = 0; Number < Messages->Count; Number += 1) {
        Table->Interrupts[Number] = (KINTERRUPT){
            .Vector = Messages->FirstVector + Number,
            .Mode = Latched,
            .SynchronizeIrql = Table->Info.UnifiedIrql,
            .MessageServiceRoutine = Wanted->MessageServiceRoutine,
            .MessageId = Number,
            .ServiceContext = Wanted->ServiceContext,
            .ActualLock = Wanted->SpinLock != NULL ? Wanted->SpinLock : &Table->SpinLock,
        };
        IopNameOwner(&Table->Interrupts[Number], Wanted->PhysicalDeviceObject, Caller);
        IopDescribeConnectedMessage(Table, Number);
    }
    return Table;
}

static NTSTATUS IopConnectMessages(const IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS *Wanted,
                                   const IOP_MESSAGES *Messages, const VOID *Caller)
{
    if (Wanted->MessageServiceRoutine == NULL || Wanted->SynchronizeIrql > HIGH_LEVEL ||
        Wanted->ConnectionContext.InterruptMessageTable == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    PIOP_MESSAGE_TABLE Table = IopMakeMessageTable(Wanted, Messages, Caller);
    if (Table == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    *Wanted->ConnectionContext.InterruptMessageTable = &Table->Info;
    NTSTATUS Status = STATUS_SUCCESS;
    for (ULONG Number = 0; Number < Messages->Count && NT_SUCCESS(Status); Number += 1) {
        Status = KiConnectInterrupt(&Table->Interrupts[Number]);
        Table->ConnectedCount += NT_SUCCESS(Status) ? 1 : 0;
    }
    if (!NT_SUCCESS(Status)) {
        *Wanted->ConnectionContext.InterruptMessageTable = NULL;
        IopFreeMessageTable(Table);
    }
    return Status;
}

// A driver that asks for messages gets them, if the device can send any.
static BOOLEAN IopChangeToMessages(PIO_PCI_FUNCTION Function)
{
    if (IopUsesMessages(Function)) {
        return TRUE;
    }
    if (!IopTryMessages(Function, IOP_MAXIMUM_MESSAGES)) {
        return FALSE;
    }
    if (!NT_SUCCESS(IopEnableInterrupts(Function))) {
        Function->MessageLimit = 0;
        IopEnablePin(Function, Function->LineVector != 0);
        return FALSE;
    }
    return TRUE;
}

// Falls back to the line where the device can send no messages, and says so in Version.
static NTSTATUS IopConnectMessageBased(PIO_CONNECT_INTERRUPT_PARAMETERS Parameters,
                                       const VOID *Caller)
{
    const IO_CONNECT_INTERRUPT_MESSAGE_BASED_PARAMETERS Wanted = Parameters->MessageBased;
    const PIO_PCI_FUNCTION Function = IopFindFunction(Wanted.PhysicalDeviceObject);
    if (Function != NULL && IopChangeToMessages(Function)) {
        return IopConnectMessages(&Wanted, Function->Messages, Caller);
    }
    if (Wanted.FallBackServiceRoutine == NULL) {
        return STATUS_NOT_FOUND;
    }
    const IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS Line = {
        .PhysicalDeviceObject = Wanted.PhysicalDeviceObject,
        .InterruptObject = Wanted.ConnectionContext.InterruptObject,
        .ServiceRoutine = Wanted.FallBackServiceRoutine,
        .ServiceContext = Wanted.ServiceContext,
        .SpinLock = Wanted.SpinLock,
        .SynchronizeIrql = Wanted.SynchronizeIrql,
    };
    const NTSTATUS Status = IopConnectLine(&Line, Caller);
    if (NT_SUCCESS(Status)) {
        Parameters->Version = CONNECT_LINE_BASED;
    }
    return Status;
}

NTSTATUS NTAPI IoConnectInterruptEx(PIO_CONNECT_INTERRUPT_PARAMETERS Parameters)
{
    const VOID *Caller = __builtin_return_address(0);
    NT_ASSERT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    switch (Parameters->Version) {
    case CONNECT_FULLY_SPECIFIED:
    case CONNECT_FULLY_SPECIFIED_GROUP:
        return IopConnectFullySpecified(Parameters, Caller);
    case CONNECT_LINE_BASED:
        return IopConnectLine(&Parameters->LineBased, Caller);
    case CONNECT_MESSAGE_BASED:
        return IopConnectMessageBased(Parameters, Caller);
    default:
        Parameters->Version = CONNECT_CURRENT_VERSION;
        return STATUS_NOT_SUPPORTED;
    }
}

static PIOP_MESSAGE_TABLE IopMessageTableOf(PIO_INTERRUPT_MESSAGE_INFO Info)
{
    return CONTAINING_RECORD(Info, IOP_MESSAGE_TABLE, Info);
}

VOID NTAPI IoDisconnectInterruptEx(PIO_DISCONNECT_INTERRUPT_PARAMETERS Parameters)
{
    NT_ASSERT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    if (Parameters->Version == CONNECT_MESSAGE_BASED) {
        IopFreeMessageTable(IopMessageTableOf(Parameters->ConnectionContext.InterruptMessageTable));
    } else {
        IoDisconnectInterrupt(Parameters->ConnectionContext.InterruptObject);
    }
}

NTSTATUS NTAPI IoGetAffinityInterrupt(PKINTERRUPT InterruptObject, PGROUP_AFFINITY GroupAffinity)
{
    *GroupAffinity = (GROUP_AFFINITY){.Mask = IopAffinityOfVector(InterruptObject->Vector)};
    return STATUS_SUCCESS;
}

//
// Active and inactive.
//

static VOID IopReportActive(PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS Parameters,
                            BOOLEAN IsActive)
{
    if (Parameters->Version != CONNECT_MESSAGE_BASED) {
        KiSetInterruptActive(Parameters->ConnectionContext.InterruptObject, IsActive);
        return;
    }
    const PIOP_MESSAGE_TABLE Table =
        IopMessageTableOf(Parameters->ConnectionContext.InterruptMessageTable);
    for (ULONG Number = 0; Number < Table->ConnectedCount; Number += 1) {
        KiSetInterruptActive(&Table->Interrupts[Number], IsActive);
    }
}

VOID NTAPI IoReportInterruptInactive(PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS Parameters)
{
    IopReportActive(Parameters, FALSE);
}

VOID NTAPI IoReportInterruptActive(PIO_REPORT_INTERRUPT_ACTIVE_STATE_PARAMETERS Parameters)
{
    IopReportActive(Parameters, TRUE);
}
