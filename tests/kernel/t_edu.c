// The edu driver and QEMU's educational device: registers, interrupts and DMA, through requests.
#include "kernel/inc/io.h"
#include "kernel/inc/ke.h"
#include "tests/kernel/tests.h"

// As in drivers/edu/edu.c.
#define IOCTL_EDU_LIVENESS CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS)
#define IOCTL_EDU_FACTORIAL CTL_CODE(FILE_DEVICE_UNKNOWN, 0x801, METHOD_BUFFERED, FILE_ANY_ACCESS)
#define EDU_BUFFER_BYTES 4095u

// The first device of the driver, until its user closes it. FALSE: there is none.
typedef struct _EDU {
    PFILE_OBJECT File;
    PDEVICE_OBJECT Device;
} EDU;

static BOOLEAN OpenEdu(EDU *Edu)
{
    UNICODE_STRING Name = RTL_CONSTANT_STRING(u"\\Device\\Edu0");
    return NT_SUCCESS(IoGetDeviceObjectPointer(&Name, FILE_READ_DATA, &Edu->File, &Edu->Device));
}

static VOID CloseEdu(const EDU *Edu)
{
    ObDereferenceObject(Edu->File);
}

#define REQUIRE_EDU(Edu)                                                                           \
    do {                                                                                           \
        if (!OpenEdu(Edu)) {                                                                       \
            KT_SKIP("no edu device");                                                              \
        }                                                                                          \
    } while (0)

static NTSTATUS Control(const EDU *Edu, ULONG Code, ULONG Input, PULONG Output)
{
    ULONG_PTR Information;
    const NTSTATUS Status = IoControlSynchronously(Edu->Device, Code, &Input, sizeof(Input), Output,
                                                   sizeof(*Output), &Information);
    KT_CHECK(!NT_SUCCESS(Status) || Information == sizeof(*Output));
    return Status;
}

static VOID TheDeviceIsAlive(VOID)
{
    static const ULONG Values[] = {0, 1, 0x12345678, MAXULONG};
    EDU Edu;
    REQUIRE_EDU(&Edu);
    for (ULONG Index = 0; Index < ARRAYSIZE(Values); Index += 1) {
        ULONG Answer = 0;
        KT_EQUAL(Control(&Edu, IOCTL_EDU_LIVENESS, Values[Index], &Answer), STATUS_SUCCESS);
        KT_EQUAL(Answer, ~Values[Index]);
    }
    CloseEdu(&Edu);
}

static VOID AnInterruptBringsAFactorial(VOID)
{
    EDU Edu;
    REQUIRE_EDU(&Edu);
    for (ULONG Number = 0, Expected = 1; Number <= 12; Number += 1) {
        ULONG Answer = 0;
        Expected *= Number == 0 ? 1 : Number;
        KtSetContext("%u!", Number);
        KT_EQUAL(Control(&Edu, IOCTL_EDU_FACTORIAL, Number, &Answer), STATUS_SUCCESS);
        KT_EQUAL(Answer, Expected);
    }
    CloseEdu(&Edu);
}

static VOID WrongControlsAreRefused(VOID)
{
    EDU Edu;
    ULONG Value = 5;
    ULONG_PTR Information;
    REQUIRE_EDU(&Edu);
    KT_EQUAL(Control(&Edu, CTL_CODE(FILE_DEVICE_UNKNOWN, 0x802, METHOD_BUFFERED, 0), 1, &Value),
             STATUS_INVALID_DEVICE_REQUEST);
    KT_EQUAL(IoControlSynchronously(Edu.Device, IOCTL_EDU_FACTORIAL, &Value, 3, &Value,
                                    sizeof(Value), &Information),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(IoControlSynchronously(Edu.Device, IOCTL_EDU_FACTORIAL, &Value, sizeof(Value), &Value,
                                    3, &Information),
             STATUS_BUFFER_TOO_SMALL);
    CloseEdu(&Edu);
}

//
// Transfers.
//

static NTSTATUS Transfer(const EDU *Edu, UCHAR MajorFunction, PVOID Buffer, ULONG64 Offset,
                         ULONG ByteCount, PULONG_PTR Information)
{
    PMDL Mdl = IoAllocateMdl(Buffer, ByteCount == 0 ? 1 : ByteCount, FALSE, FALSE, NULL);
    if (Mdl == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    MmBuildMdlForNonPagedPool(Mdl);
    const NTSTATUS Status =
        IoTransferSynchronously(Edu->Device, MajorFunction, Mdl, Offset, ByteCount, Information);
    IoFreeMdl(Mdl);
    return Status;
}

#define ROOM_BYTES (4 * PAGE_SIZE)

static VOID FillPattern(PUCHAR Buffer, ULONG Seed)
{
    for (ULONG Index = 0; Index < ROOM_BYTES; Index += 1) {
        Buffer[Index] = (UCHAR)(Index * 7 + (Index >> 8) + Seed);
    }
}

static VOID CheckTransfer(const EDU *Edu, PUCHAR Sent, PUCHAR Received, ULONG64 DeviceOffset,
                          ULONG MemoryOffset, ULONG ByteCount)
{
    ULONG_PTR Information = 0;
    FillPattern(Sent, MemoryOffset);
    FillPattern(Received, MemoryOffset + 1);
    KT_EQUAL(
        Transfer(Edu, IRP_MJ_WRITE, Sent + MemoryOffset, DeviceOffset, ByteCount, &Information),
        STATUS_SUCCESS);
    KT_EQUAL(Information, ByteCount);
    KT_EQUAL(
        Transfer(Edu, IRP_MJ_READ, Received + MemoryOffset, DeviceOffset, ByteCount, &Information),
        STATUS_SUCCESS);
    KT_EQUAL(Information, ByteCount);
    KT_CHECK(RtlEqualMemory(Sent + MemoryOffset, Received + MemoryOffset, ByteCount));
    FillPattern(Sent, MemoryOffset + 1); // around it, nothing has changed
    KT_CHECK(RtlEqualMemory(Sent, Received, MemoryOffset));
    KT_CHECK(RtlEqualMemory(Sent + MemoryOffset + ByteCount, Received + MemoryOffset + ByteCount,
                            ROOM_BYTES - MemoryOffset - ByteCount));
}

static VOID DataGoThereAndBack(VOID)
{
    static const struct {
        ULONG DeviceOffset, MemoryOffset, ByteCount;
    } Rows[] = {
        {0, 0, 1},
        {0, 0, EDU_BUFFER_BYTES},
        {0, PAGE_SIZE - 1, EDU_BUFFER_BYTES},
        {100, 2 * PAGE_SIZE - 33, 66},
    };
    EDU Edu;
    REQUIRE_EDU(&Edu);
    PUCHAR Sent = ExAllocatePool2(POOL_FLAG_NON_PAGED, ROOM_BYTES, KT_TAG);
    PUCHAR Received = ExAllocatePool2(POOL_FLAG_NON_PAGED, ROOM_BYTES, KT_TAG);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows) && KT_CHECK(Sent != NULL && Received != NULL);
         Row += 1) {
        KtSetContext("row %u", Row);
        CheckTransfer(&Edu, Sent, Received, Rows[Row].DeviceOffset, Rows[Row].MemoryOffset,
                      Rows[Row].ByteCount);
    }
    if (Sent != NULL) {
        ExFreePool(Sent);
    }
    if (Received != NULL) {
        ExFreePool(Received);
    }
    CloseEdu(&Edu);
}

static VOID TransfersBeyondTheBufferAreRefused(VOID)
{
    static UCHAR Buffer[2 * PAGE_SIZE];
    static const struct {
        ULONG64 Offset;
        ULONG ByteCount;
        NTSTATUS Status;
    } Rows[] = {
        {0, EDU_BUFFER_BYTES + 1, STATUS_INVALID_PARAMETER},
        {1, EDU_BUFFER_BYTES, STATUS_INVALID_PARAMETER},
        {EDU_BUFFER_BYTES, 1, STATUS_INVALID_PARAMETER},
        {EDU_BUFFER_BYTES + 1, 0, STATUS_INVALID_PARAMETER},
        {MAXULONG64, 1, STATUS_INVALID_PARAMETER},
        {0, 0, STATUS_SUCCESS},
        {EDU_BUFFER_BYTES, 0, STATUS_SUCCESS},
    };
    EDU Edu;
    REQUIRE_EDU(&Edu);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        ULONG_PTR Information = 0;
        KtSetContext("row %u", Row);
        KT_EQUAL(Transfer(&Edu, IRP_MJ_READ, Buffer, Rows[Row].Offset, Rows[Row].ByteCount,
                          &Information),
                 Rows[Row].Status);
        KT_EQUAL(Information, 0);
    }
    CloseEdu(&Edu);
}

//
// Several requests at a time.
//

#define CROWD 8

static VOID RequestsWaitForTheirTurn(VOID)
{
    EDU Edu;
    KEVENT Events[CROWD];
    IO_STATUS_BLOCK Results[CROWD];
    ULONG Values[CROWD];
    ULONG SentCount = 0;
    LARGE_INTEGER Limit = {.QuadPart = -10000ll * 5000};
    REQUIRE_EDU(&Edu);
    for (; SentCount < CROWD; SentCount += 1) {
        Values[SentCount] = SentCount + 1;
        KeInitializeEvent(&Events[SentCount], NotificationEvent, FALSE);
        PIRP Irp = IoBuildDeviceIoControlRequest(
            IOCTL_EDU_FACTORIAL, Edu.Device, &Values[SentCount], sizeof(ULONG), &Values[SentCount],
            sizeof(ULONG), FALSE, &Events[SentCount], &Results[SentCount]);
        if (!KT_CHECK(Irp != NULL)) {
            break;
        }
        KT_EQUAL(IoCallDriver(Edu.Device, Irp), STATUS_PENDING);
    }
    for (ULONG Index = 0, Expected = 1; Index < SentCount; Index += 1) {
        Expected *= Index + 1;
        KT_EQUAL(KeWaitForSingleObject(&Events[Index], Executive, KernelMode, FALSE, &Limit),
                 STATUS_SUCCESS);
        KT_EQUAL(Results[Index].Status, STATUS_SUCCESS);
        KT_EQUAL(Values[Index], Expected);
    }
    CloseEdu(&Edu);
}

//
// Stop and start.
//

// Of the first device.
static PDEVICE_OBJECT FindPdo(VOID)
{
    const IO_PCI_FUNCTION *Function = IoNextPciFunction(NULL);
    while (Function != NULL && (Function->VendorId != 0x1234 || Function->DeviceId != 0x11E8)) {
        Function = IoNextPciFunction(Function);
    }
    return Function != NULL ? Function->Pdo : NULL;
}

static VOID AStoppedDeviceServesNobody(VOID)
{
    EDU Edu;
    ULONG Answer = 0;
    REQUIRE_EDU(&Edu);
    const PDEVICE_OBJECT Pdo = FindPdo();
    for (ULONG Round = 0; Round < 3; Round += 1) {
        KT_EQUAL(IoStopPdo(Pdo), STATUS_SUCCESS);
        KT_EQUAL(Control(&Edu, IOCTL_EDU_FACTORIAL, 5, &Answer), STATUS_DEVICE_NOT_READY);
        KT_EQUAL(IoRestartPdo(Pdo), STATUS_SUCCESS);
        KT_EQUAL(Control(&Edu, IOCTL_EDU_FACTORIAL, 5, &Answer), STATUS_SUCCESS);
        KT_EQUAL(Answer, 120);
    }
    CloseEdu(&Edu);
}

// A transfer takes a tenth of a second, so that the stop comes in the middle.
static VOID AStopWaitsForWhatIsUnderWay(VOID)
{
    static UCHAR Buffer[64];
    EDU Edu;
    KEVENT Event;
    IO_STATUS_BLOCK Result = {.Status = STATUS_PENDING};
    LARGE_INTEGER Offset = {.QuadPart = 0};
    REQUIRE_EDU(&Edu);
    KeInitializeEvent(&Event, NotificationEvent, FALSE);
    PIRP Irp = IoBuildSynchronousFsdRequest(IRP_MJ_WRITE, Edu.Device, Buffer, sizeof(Buffer),
                                            &Offset, &Event, &Result);
    if (KT_CHECK(Irp != NULL)) {
        KT_EQUAL(IoCallDriver(Edu.Device, Irp), STATUS_PENDING);
        KT_EQUAL(KeReadStateEvent(&Event), 0);
        KT_EQUAL(IoStopPdo(FindPdo()), STATUS_SUCCESS);
        KT_CHECK(KeReadStateEvent(&Event) != 0);
        KT_EQUAL(Result.Status, STATUS_SUCCESS);
        KT_EQUAL(Result.Information, sizeof(Buffer));
        KT_EQUAL(IoRestartPdo(FindPdo()), STATUS_SUCCESS);
    }
    CloseEdu(&Edu);
}

static const KT_TEST Tests[] = {
    {"the edu device complements what it is given", TheDeviceIsAlive},
    {"the edu device computes factorials, and its interrupt says when",
     AnInterruptBringsAFactorial},
    {"the edu driver refuses controls that it does not know, or that are too short",
     WrongControlsAreRefused},
    {"what DMA has written into the edu device, DMA reads back", DataGoThereAndBack},
    {"the edu driver refuses transfers beyond the device's buffer",
     TransfersBeyondTheBufferAreRefused},
    {"requests to the edu device wait for their turn", RequestsWaitForTheirTurn},
    {"a stopped edu device serves nobody, and serves again when it is started",
     AStoppedDeviceServesNobody},
    {"a stop waits for what the edu device is doing", AStopWaitsForWhatIsUnderWay},
};

const KT_SUITE KtEduSuite = {"edu", KtNeedsDevices, Tests, ARRAYSIZE(Tests)};
