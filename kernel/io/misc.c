// What drivers ask the I/O manager besides: logs, counts, stacks, shares.
#include "kernel/inc/kearch.h"
#include "kernel/inc/ps.h"
#include "kernel/io/pnp.h"

//
// Error logs.
//

typedef struct _IOP_LOG_ENTRY {
    PVOID IoObject; // referenced
    DECLSPEC_ALIGN(16) UCHAR Bytes[];
} IOP_LOG_ENTRY, *PIOP_LOG_ENTRY;

PVOID NTAPI IoAllocateErrorLogEntry(PVOID IoObject, UCHAR EntrySize)
{
    if (IoObject == NULL || EntrySize < sizeof(IO_ERROR_LOG_PACKET) ||
        EntrySize > ERROR_LOG_MAXIMUM_SIZE) {
        return NULL;
    }
    PIOP_LOG_ENTRY Entry =
        ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Entry) + EntrySize, IOP_TAG);
    if (Entry == NULL) {
        return NULL;
    }
    ObReferenceObject(IoObject);
    Entry->IoObject = IoObject;
    return Entry->Bytes;
}

VOID NTAPI IoFreeErrorLogEntry(PVOID ElEntry)
{
    PIOP_LOG_ENTRY Entry = CONTAINING_RECORD(ElEntry, IOP_LOG_ENTRY, Bytes);
    ObDereferenceObject(Entry->IoObject);
    ExFreePoolWithTag(Entry, IOP_TAG);
}

VOID NTAPI IoWriteErrorLogEntry(PVOID ElEntry)
{
    const IO_ERROR_LOG_PACKET *Packet = ElEntry;
    const PIOP_LOG_ENTRY Entry = CONTAINING_RECORD(ElEntry, IOP_LOG_ENTRY, Bytes);
    DbgPrint("io: error log of object %p: code 0x%08x, status 0x%08x, value 0x%x, function %u, "
             "retries %u\n",
             Entry->IoObject, Packet->ErrorCode, Packet->FinalStatus, Packet->UniqueErrorValue,
             Packet->MajorFunctionCode, Packet->RetryCount);
    IoFreeErrorLogEntry(ElEntry);
}

//
// Stacks.
//

PIRP NTAPI IoGetTopLevelIrp(VOID)
{
    return KeGetCurrentThread()->TopLevelIrp;
}

VOID NTAPI IoSetTopLevelIrp(PIRP Irp)
{
    KeGetCurrentThread()->TopLevelIrp = Irp;
}

VOID NTAPI IoGetStackLimits(PULONG_PTR LowLimit, PULONG_PTR HighLimit)
{
    const PKTHREAD Thread = KeGetCurrentThread();
    *LowLimit = Thread->StackLimit;
    *HighLimit = Thread->StackBase;
}

PVOID NTAPI IoGetInitialStack(VOID)
{
    return (PVOID)KeGetCurrentThread()->StackBase;
}

ULONG NTAPI IoWithinStackLimits(ULONG_PTR RegionStart, SIZE_T RegionSize)
{
    ULONG_PTR Low;
    ULONG_PTR High;
    IoGetStackLimits(&Low, &High);
    return RegionStart >= Low && RegionStart <= High && RegionSize <= High - RegionStart;
}

//
// Facts.
//

PCONFIGURATION_INFORMATION NTAPI IoGetConfigurationInformation(VOID)
{
    static CONFIGURATION_INFORMATION Configuration = {.Version = sizeof(Configuration)};
    return &Configuration;
}

BOOLEAN NTAPI IoIsWdmVersionAvailable(UCHAR MajorVersion, UCHAR MinorVersion)
{
    enum { Major = 6, Minor = 0 }; // the last version that WDM has
    return MajorVersion < Major || (MajorVersion == Major && MinorVersion <= Minor);
}

BOOLEAN NTAPI IoIs32bitProcess(PIRP Irp)
{
    UNREFERENCED_PARAMETER(Irp);
    return FALSE;
}

PEPROCESS NTAPI IoGetRequestorProcess(PIRP Irp)
{
    UNREFERENCED_PARAMETER(Irp);
    return PsInitialSystemProcess;
}

IO_PRIORITY_HINT NTAPI IoGetIoPriorityHint(PIRP Irp)
{
    // As documented: no hint is a normal one. In IRP.Flags, as NT has it: the hint plus one.
    const ULONG Hint = (Irp->Flags & IOP_PRIORITY_MASK) >> IOP_PRIORITY_SHIFT;
    return Hint == 0 ? IoPriorityNormal : (IO_PRIORITY_HINT)(Hint - 1);
}

NTSTATUS NTAPI IoSetIoPriorityHint(PIRP Irp, IO_PRIORITY_HINT PriorityHint)
{
    if (PriorityHint >= MaxIoPriorityTypes) {
        return STATUS_INVALID_PARAMETER;
    }
    Irp->Flags =
        (Irp->Flags & ~IOP_PRIORITY_MASK) | (((ULONG)PriorityHint + 1) << IOP_PRIORITY_SHIFT);
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI IoValidateDeviceIoControlAccess(PIRP Irp, ULONG RequiredAccess)
{
    const FILE_OBJECT *File = IoGetCurrentIrpStackLocation(Irp)->FileObject;
    if ((RequiredAccess & ~(ULONG)(FILE_READ_ACCESS | FILE_WRITE_ACCESS)) != 0) {
        return STATUS_INVALID_PARAMETER;
    }
    // A request of the kernel's own has every access.
    if (File == NULL || Irp->RequestorMode == KernelMode) {
        return STATUS_SUCCESS;
    }
    const BOOLEAN Lacks = ((RequiredAccess & FILE_READ_ACCESS) != 0 && !File->ReadAccess) ||
                          ((RequiredAccess & FILE_WRITE_ACCESS) != 0 && !File->WriteAccess);
    return Lacks ? STATUS_ACCESS_DENIED : STATUS_SUCCESS;
}

//
// Shares.
//

static VOID IopNoteAccess(PFILE_OBJECT File, ACCESS_MASK Access, ULONG Share)
{
    File->ReadAccess = (Access & FILE_READ_DATA) != 0;
    File->WriteAccess = (Access & (FILE_WRITE_DATA | FILE_APPEND_DATA)) != 0;
    File->DeleteAccess = (Access & DELETE) != 0;
    File->SharedRead = (Share & FILE_SHARE_READ) != 0;
    File->SharedWrite = (Share & FILE_SHARE_WRITE) != 0;
    File->SharedDelete = (Share & FILE_SHARE_DELETE) != 0;
}

static BOOLEAN IopHasAccess(const FILE_OBJECT *File)
{
    return File->ReadAccess || File->WriteAccess || File->DeleteAccess;
}

// Sign 1 or -1. A file that neither reads nor writes is counted nowhere, as documented.
static VOID IopCountShare(const FILE_OBJECT *File, PSHARE_ACCESS Share, ULONG Sign)
{
    if (IopHasAccess(File)) {
        Share->OpenCount += Sign;
        Share->Readers += File->ReadAccess ? Sign : 0;
        Share->Writers += File->WriteAccess ? Sign : 0;
        Share->Deleters += File->DeleteAccess ? Sign : 0;
        Share->SharedRead += File->SharedRead ? Sign : 0;
        Share->SharedWrite += File->SharedWrite ? Sign : 0;
        Share->SharedDelete += File->SharedDelete ? Sign : 0;
    }
}

static BOOLEAN IopSharesConflict(const FILE_OBJECT *File, const SHARE_ACCESS *Share)
{
    return (File->ReadAccess && Share->SharedRead < Share->OpenCount) ||
           (File->WriteAccess && Share->SharedWrite < Share->OpenCount) ||
           (File->DeleteAccess && Share->SharedDelete < Share->OpenCount) ||
           (Share->Readers != 0 && !File->SharedRead) ||
           (Share->Writers != 0 && !File->SharedWrite) ||
           (Share->Deleters != 0 && !File->SharedDelete);
}

NTSTATUS NTAPI IoCheckShareAccess(ACCESS_MASK DesiredAccess, ULONG DesiredShareAccess,
                                  PFILE_OBJECT FileObject, PSHARE_ACCESS ShareAccess,
                                  BOOLEAN Update)
{
    IopNoteAccess(FileObject, DesiredAccess, DesiredShareAccess);
    if (IopHasAccess(FileObject) && IopSharesConflict(FileObject, ShareAccess)) {
        return STATUS_SHARING_VIOLATION;
    }
    if (Update) {
        IopCountShare(FileObject, ShareAccess, 1);
    }
    return STATUS_SUCCESS;
}

VOID NTAPI IoSetShareAccess(ACCESS_MASK DesiredAccess, ULONG DesiredShareAccess,
                            PFILE_OBJECT FileObject, PSHARE_ACCESS ShareAccess)
{
    IopNoteAccess(FileObject, DesiredAccess, DesiredShareAccess);
    RtlZeroMemory(ShareAccess, sizeof(*ShareAccess));
    IopCountShare(FileObject, ShareAccess, 1);
}

VOID NTAPI IoRemoveShareAccess(PFILE_OBJECT FileObject, PSHARE_ACCESS ShareAccess)
{
    IopCountShare(FileObject, ShareAccess, (ULONG)-1);
}

VOID NTAPI IoUpdateShareAccess(PFILE_OBJECT FileObject, PSHARE_ACCESS ShareAccess)
{
    IopCountShare(FileObject, ShareAccess, 1);
}
