// A driver as third parties write them (tests/drivers/stranger), from its load to its unload.
#include "kernel/inc/io.h"
#include "tests/drivers/stranger/stranger.h"
#include "tests/kernel/tests.h"

#define NAME "stranger"

// The driver's device, or NULL: it is not there.
static PDEVICE_OBJECT LoadStranger(VOID)
{
    const NTSTATUS Status = IoLoadDriver(NAME);
    if (Status == STATUS_OBJECT_NAME_NOT_FOUND) {
        return NULL;
    }
    KT_EQUAL(Status, STATUS_SUCCESS);
    const PDRIVER_OBJECT Driver = IoFindDriver(NAME);
    return KT_CHECK(Driver != NULL) ? Driver->DeviceObject : NULL;
}

static NTSTATUS Control(PDEVICE_OBJECT Device, ULONG Code, PVOID Buffer, ULONG InputBytes,
                        ULONG OutputBytes, PULONG_PTR Information)
{
    return IoControlSynchronously(Device, Code, Buffer, InputBytes, Buffer, OutputBytes,
                                  Information);
}

static VOID CheckControls(PDEVICE_OBJECT Device)
{
    CHAR Text[] = "IoSpace";
    ULONG Count = 1;
    ULONG_PTR Information;
    KT_EQUAL(Control(Device, IOCTL_STRANGER_REVERSE, Text, 7, 7, &Information), STATUS_SUCCESS);
    KT_CHECK(Information == 7 && RtlEqualMemory(Text, "ecapSoI", 8));
    KT_EQUAL(Control(Device, IOCTL_STRANGER_REVERSE, Text, 7, 6, &Information),
             STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(Control(Device, IOCTL_STRANGER_COUNT, &Count, 0, sizeof(Count), &Information),
             STATUS_SUCCESS);
    KT_EQUAL(Count, 0);
    KT_EQUAL(Control(Device, IOCTL_STRANGER_COUNT ^ 0x100, NULL, 0, 0, &Information),
             STATUS_INVALID_DEVICE_REQUEST);
}

static VOID CheckTransfers(PDEVICE_OBJECT Device)
{
    ULONG_PTR Information;
    const PMDL Mdl = KtAllocatePages(1);
    KT_REQUIRE(Mdl != NULL);
    const PUCHAR Va = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority | MdlMappingNoExecute);
    KT_REQUIRE(Va != NULL);
    for (ULONG Index = 0; Index < PAGE_SIZE; Index += 1) {
        Va[Index] = (UCHAR)(Index * 7);
    }
    KT_EQUAL(IoTransferSynchronously(Device, IRP_MJ_WRITE, Mdl, 0, PAGE_SIZE, &Information), 0);
    KT_EQUAL(Information, PAGE_SIZE);
    RtlZeroMemory(Va, PAGE_SIZE);
    KT_EQUAL(IoTransferSynchronously(Device, IRP_MJ_READ, Mdl, 100, 50, &Information), 0);
    for (ULONG Index = 0; Index < 50; Index += 1) {
        KT_EQUAL(Va[Index], (UCHAR)((Index + 100) * 7));
    }
    KT_EQUAL(IoTransferSynchronously(Device, IRP_MJ_READ, Mdl, 1, PAGE_SIZE, &Information),
             STATUS_INVALID_PARAMETER);
    MmUnmapLockedPages(Va, Mdl);
    KtFreePages(Mdl);
}

// A request that pends ends by its timer, or by its cancel routine.
static VOID CheckWaits(PDEVICE_OBJECT Device)
{
    for (ULONG IsCancelled = 0; IsCancelled <= 1; IsCancelled += 1) {
        KEVENT Done;
        IO_STATUS_BLOCK Result = {0};
        ULONG Milliseconds = IsCancelled ? 60000 : 20;
        KeInitializeEvent(&Done, NotificationEvent, FALSE);
        const PIRP Irp =
            IoBuildDeviceIoControlRequest(IOCTL_STRANGER_WAIT, Device, &Milliseconds,
                                          sizeof(Milliseconds), NULL, 0, FALSE, &Done, &Result);
        KT_REQUIRE(Irp != NULL);
        KT_EQUAL(IoCallDriver(Device, Irp), STATUS_PENDING);
        if (IsCancelled) {
            KT_CHECK(IoCancelIrp(Irp));
        }
        KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL);
        KT_EQUAL(Result.Status, IsCancelled ? STATUS_CANCELLED : STATUS_SUCCESS);
    }
}

// The first load leaves keys of the registry behind, where a driver's settings stay; the others nothing.
static VOID StrangerWorksAndGoes(VOID)
{
    for (ULONG Round = 0; Round < 3; Round += 1) {
        const PDEVICE_OBJECT Device = LoadStranger();
        if (Device == NULL) {
            KT_SKIP("stranger.sys is not beside the kernel");
        }
        CheckControls(Device);
        CheckTransfers(Device);
        CheckWaits(Device);
        KT_EQUAL(IoUnloadDriver(NAME), STATUS_SUCCESS);
        KT_CHECK(IoFindDriver(NAME) == NULL);
        if (Round == 0) {
            KtKeepWhatIsHeld();
        }
    }
}

// A driver without AddDevice, and without anything else.
static VOID HelloComesAndGoes(VOID)
{
    for (ULONG Round = 0; Round < 2; Round += 1) {
        const NTSTATUS Status = IoLoadDriver("hello");
        if (Status == STATUS_OBJECT_NAME_NOT_FOUND) {
            KT_SKIP("hello.sys is not beside the kernel");
        }
        KT_EQUAL(Status, STATUS_SUCCESS);
        KT_EQUAL(IoLoadDriver("hello"), STATUS_IMAGE_ALREADY_LOADED);
        KT_EQUAL(IoUnloadDriver("hello"), STATUS_SUCCESS);
        if (Round == 0) {
            KtKeepWhatIsHeld();
        }
    }
}

static const KT_TEST Tests[] = {
    {"the smallest driver comes and goes", HelloComesAndGoes},
    {"a function driver of a third party works, waits, cancels and goes, three times",
     StrangerWorksAndGoes},
};
const KT_SUITE KtStrangerSuite = {"stranger", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
