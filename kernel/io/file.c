// Open devices.
//
//   ZwCreateFile ─ IRP_MJ_CREATE ▶ file object ─ last handle: IRP_MJ_CLEANUP ─ last reference:
//   IRP_MJ_CLOSE
//
// Invariants:
//   F1  A file object whose create request succeeded keeps its device, and counts in the device's
//       ReferenceCount; one whose request failed does neither, and its driver hears no more of it.
//   F2  Each request to a file keeps the file, until IopFinishIrp lets it go.
//   F3  Requests to a synchronous file run one after another: FILE_OBJECT.Lock is a lock.
#include "kernel/io/iop.h"

static VOID IopCleanUpFile(PVOID Object);
static VOID IopCloseFile(PVOID Object);
static PVOID IopFileNameBase(PVOID Object, PUNICODE_STRING Suffix);

static OBJECT_TYPE IopFileType = {.Name = "File",
                                  .Delete = IopCloseFile,
                                  .CloseLastHandle = IopCleanUpFile,
                                  .IsWaitable = TRUE,
                                  .WaitOffset = FIELD_OFFSET(FILE_OBJECT, Event),
                                  .NameBase = IopFileNameBase};
POBJECT_TYPE IopFileObjectType = &IopFileType;
POBJECT_TYPE *IoFileObjectType = &IopFileObjectType;

typedef struct _IOP_ACCESS_ROW {
    ACCESS_MASK Generic;
    ACCESS_MASK Specific;
} IOP_ACCESS_ROW;

static const IOP_ACCESS_ROW IopGenericAccess[] = {
    {GENERIC_READ, READ_CONTROL | SYNCHRONIZE | FILE_READ_DATA | FILE_READ_ATTRIBUTES},
    {GENERIC_WRITE,
     READ_CONTROL | SYNCHRONIZE | FILE_WRITE_DATA | FILE_APPEND_DATA | FILE_WRITE_ATTRIBUTES},
    {GENERIC_EXECUTE, READ_CONTROL | SYNCHRONIZE | FILE_READ_ATTRIBUTES},
    {GENERIC_ALL, FILE_ALL_ACCESS},
    {MAXIMUM_ALLOWED, FILE_ALL_ACCESS},
};

static ACCESS_MASK IopMapAccess(ACCESS_MASK Access)
{
    for (ULONG Row = 0; Row < ARRAYSIZE(IopGenericAccess); Row += 1) {
        if ((Access & IopGenericAccess[Row].Generic) != 0) {
            Access = (Access & ~IopGenericAccess[Row].Generic) | IopGenericAccess[Row].Specific;
        }
    }
    return Access;
}

//
// Finding the device.
//

// What somebody wants to open.
typedef struct _IOP_TARGET {
    PDEVICE_OBJECT DeviceObject; // referenced
    PFILE_OBJECT RelatedFile;    // referenced, or NULL
    UNICODE_STRING FileName;     // into Buffer, or the caller's name
    PVOID Buffer;                // NULL, or to be freed
} IOP_TARGET, *PIOP_TARGET;

static VOID IopReleaseTarget(PIOP_TARGET Target)
{
    ObDereferenceObject(Target->DeviceObject);
    if (Target->RelatedFile != NULL) {
        ObDereferenceObject(Target->RelatedFile);
    }
    if (Target->Buffer != NULL) {
        ExFreePool(Target->Buffer);
    }
}

// A name relative to an open file is the driver's alone to understand.
static NTSTATUS IopFindRelative(const OBJECT_ATTRIBUTES *Attributes, PIOP_TARGET Target)
{
    PVOID File;
    const NTSTATUS Status = ObReferenceObjectByHandle(Attributes->RootDirectory, 0, &IopFileType,
                                                      KernelMode, &File, NULL);
    if (NT_SUCCESS(Status)) {
        Target->RelatedFile = File;
        Target->DeviceObject = Target->RelatedFile->DeviceObject;
        Target->FileName = *Attributes->ObjectName;
        ObReferenceObject(Target->DeviceObject);
    }
    return Status;
}

static NTSTATUS IopFindTarget(const OBJECT_ATTRIBUTES *Attributes, PIOP_TARGET Target)
{
    PVOID Root = NULL;
    PVOID Object;
    RtlZeroMemory(Target, sizeof(*Target));
    if (Attributes->ObjectName == NULL) {
        return STATUS_OBJECT_NAME_INVALID;
    }
    if (Attributes->RootDirectory != NULL) {
        NTSTATUS Status =
            ObReferenceObjectByHandle(Attributes->RootDirectory, 0, NULL, KernelMode, &Root, NULL);
        if (!NT_SUCCESS(Status)) {
            return Status;
        }
        if (ObTypeOf(Root) == &IopFileType) {
            Status = IopFindRelative(Attributes, Target);
            ObDereferenceObject(Root);
            return Status;
        }
    }
    const NTSTATUS Status = ObLookupName(Root, Attributes->ObjectName, ObFollowLinks, &Object,
                                         &Target->FileName, &Target->Buffer);
    if (Root != NULL) {
        ObDereferenceObject(Root);
    }
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Target->DeviceObject = Object;
    if (ObTypeOf(Object) != IopDeviceObjectType) {
        IopReleaseTarget(Target);
        return STATUS_OBJECT_TYPE_MISMATCH;
    }
    return STATUS_SUCCESS;
}

//
// Opening.
//

static PFILE_OBJECT IopAllocateFile(const IOP_TARGET *Target, ACCESS_MASK Access, ULONG ShareAccess,
                                    ULONG Options)
{
    PFILE_OBJECT File =
        ObAllocateObject(&IopFileType, sizeof(*File) + Target->FileName.Length + sizeof(WCHAR));
    if (File == NULL) {
        return NULL;
    }
    PWSTR Name = (PWSTR)(File + 1);
    RtlCopyMemory(Name, Target->FileName.Buffer, Target->FileName.Length);
    File->Type = IO_TYPE_FILE;
    File->Size = sizeof(*File);
    File->FileName = (UNICODE_STRING){Target->FileName.Length,
                                      (USHORT)(Target->FileName.Length + sizeof(WCHAR)), Name};
    File->ReadAccess = (Access & FILE_READ_DATA) != 0;
    File->WriteAccess = (Access & (FILE_WRITE_DATA | FILE_APPEND_DATA)) != 0;
    File->DeleteAccess = (Access & DELETE) != 0;
    File->SharedRead = (ShareAccess & FILE_SHARE_READ) != 0;
    File->SharedWrite = (ShareAccess & FILE_SHARE_WRITE) != 0;
    File->SharedDelete = (ShareAccess & FILE_SHARE_DELETE) != 0;
    if ((Options & (FILE_SYNCHRONOUS_IO_ALERT | FILE_SYNCHRONOUS_IO_NONALERT)) != 0) {
        File->Flags |= FO_SYNCHRONOUS_IO;
    }
    if ((Options & FILE_WRITE_THROUGH) != 0) {
        File->Flags |= FO_WRITE_THROUGH;
    }
    KeInitializeEvent(&File->Lock, SynchronizationEvent, TRUE);
    KeInitializeEvent(&File->Event, NotificationEvent, FALSE);
    InitializeListHead(&File->IrpList);
    return File;
}

static NTSTATUS IopSendCreate(PFILE_OBJECT File, PDEVICE_OBJECT Top, ACCESS_MASK Access,
                              ULONG ShareAccess, ULONG Attributes, ULONG Options,
                              PIO_STATUS_BLOCK StatusBlock)
{
    IO_SECURITY_CONTEXT Security = {.DesiredAccess = Access, .FullCreateOptions = Options};
    PIRP Irp = IoAllocateIrp(Top->StackSize, FALSE);
    if (Irp == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    PIO_STACK_LOCATION Stack = IoGetNextIrpStackLocation(Irp);
    Irp->Flags = IRP_CREATE_OPERATION | IRP_SYNCHRONOUS_API;
    Irp->Tail.Overlay.Thread = PsGetCurrentThread();
    Stack->MajorFunction = IRP_MJ_CREATE;
    Stack->FileObject = File;
    Stack->Parameters.Create.SecurityContext = &Security;
    Stack->Parameters.Create.Options = Options;
    Stack->Parameters.Create.FileAttributes = (USHORT)Attributes;
    Stack->Parameters.Create.ShareAccess = (USHORT)ShareAccess;
    const NTSTATUS Status = IopSendAndWait(Top, Irp);
    if (Status == STATUS_PENDING) {
        // It was given up: the driver may still look at the file, which therefore stays for ever.
        ObReferenceObject(File);
        return STATUS_IO_TIMEOUT;
    }
    *StatusBlock = Irp->IoStatus;
    IoFreeIrp(Irp);
    return Status;
}

static NTSTATUS IopOpenTarget(const IOP_TARGET *Target, ACCESS_MASK Access, ULONG ShareAccess,
                              ULONG Attributes, ULONG Options, PIO_STATUS_BLOCK StatusBlock,
                              PFILE_OBJECT *Opened)
{
    const PDEVICE_OBJECT Device = Target->DeviceObject;
    *Opened = NULL;
    if ((Device->Flags & DO_DEVICE_INITIALIZING) != 0 || IopDeviceOf(Device)->IsDeleted ||
        IopDeviceOf(IopBaseOfStack(Device))->IsLeaving) {
        return STATUS_NO_SUCH_DEVICE;
    }
    PFILE_OBJECT File = IopAllocateFile(Target, Access, ShareAccess, Options);
    if (File == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if (!IopCountOpen(Device)) {
        ObDereferenceObject(File);
        return STATUS_ACCESS_DENIED;
    }
    PDEVICE_OBJECT Top = IoGetAttachedDeviceReference(Device);
    File->RelatedFileObject = Target->RelatedFile;
    File->DeviceObject = Device;
    const NTSTATUS Status =
        IopSendCreate(File, Top, Access, ShareAccess, Attributes, Options, StatusBlock);
    ObDereferenceObject(Top);
    File->RelatedFileObject = NULL; // only valid while the create request runs
    if (!NT_SUCCESS(Status)) {
        File->DeviceObject = NULL;
        IopCountClose(Device);
        ObDereferenceObject(File);
        return Status;
    }
    ObReferenceObject(Device);
    File->Flags |= FO_FILE_OPEN;
    File->FinalStatus = Status;
    *Opened = File;
    return Status;
}

static NTSTATUS IopOpen(PHANDLE Handle, ACCESS_MASK DesiredAccess,
                        const OBJECT_ATTRIBUTES *ObjectAttributes, PIO_STATUS_BLOCK StatusBlock,
                        ULONG FileAttributes, ULONG ShareAccess, ULONG Options)
{
    IOP_TARGET Target;
    PFILE_OBJECT File;
    IO_STATUS_BLOCK Local = {{STATUS_SUCCESS}, 0};
    const ACCESS_MASK Access = IopMapAccess(DesiredAccess);
    *Handle = NULL;
    NTSTATUS Status = IopFindTarget(ObjectAttributes, &Target);
    if (NT_SUCCESS(Status)) {
        Status =
            IopOpenTarget(&Target, Access, ShareAccess, FileAttributes, Options, &Local, &File);
        IopReleaseTarget(&Target);
    }
    if (NT_SUCCESS(Status)) {
        const NTSTATUS Made = ObCreateHandle(File, Access, ObjectAttributes->Attributes, Handle);
        if (NT_SUCCESS(Made)) {
            File->Flags |= FO_HANDLE_CREATED;
        } else {
            IopCleanUpFile(File);
            Status = Made;
        }
        ObDereferenceObject(File);
    }
    StatusBlock->Status = Status;
    StatusBlock->Information = Local.Information;
    return Status;
}

NTSTATUS NTAPI ZwCreateFile(PHANDLE FileHandle, ACCESS_MASK DesiredAccess,
                            POBJECT_ATTRIBUTES ObjectAttributes, PIO_STATUS_BLOCK IoStatusBlock,
                            PLARGE_INTEGER AllocationSize, ULONG FileAttributes, ULONG ShareAccess,
                            ULONG CreateDisposition, ULONG CreateOptions, PVOID EaBuffer,
                            ULONG EaLength)
{
    UNREFERENCED_PARAMETER(AllocationSize);
    UNREFERENCED_PARAMETER(EaBuffer);
    UNREFERENCED_PARAMETER(EaLength);
    if (CreateDisposition > FILE_MAXIMUM_DISPOSITION) {
        return STATUS_INVALID_PARAMETER;
    }
    return IopOpen(FileHandle, DesiredAccess, ObjectAttributes, IoStatusBlock, FileAttributes,
                   ShareAccess, (CreateDisposition << 24) | (CreateOptions & 0xFFFFFF));
}

NTSTATUS NTAPI ZwOpenFile(PHANDLE FileHandle, ACCESS_MASK DesiredAccess,
                          POBJECT_ATTRIBUTES ObjectAttributes, PIO_STATUS_BLOCK IoStatusBlock,
                          ULONG ShareAccess, ULONG OpenOptions)
{
    return ZwCreateFile(FileHandle, DesiredAccess, ObjectAttributes, IoStatusBlock, NULL, 0,
                        ShareAccess, FILE_OPEN, OpenOptions, NULL, 0);
}

NTSTATUS NTAPI IoGetDeviceObjectPointer(PUNICODE_STRING ObjectName, ACCESS_MASK DesiredAccess,
                                        PFILE_OBJECT *FileObject, PDEVICE_OBJECT *DeviceObject)
{
    OBJECT_ATTRIBUTES Attributes;
    IO_STATUS_BLOCK StatusBlock;
    HANDLE Handle;
    PVOID File;
    InitializeObjectAttributes(&Attributes, ObjectName, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE,
                               NULL, NULL);
    NTSTATUS Status =
        ZwOpenFile(&Handle, DesiredAccess, &Attributes, &StatusBlock, 0, FILE_NON_DIRECTORY_FILE);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Status = ObReferenceObjectByHandle(Handle, 0, &IopFileType, KernelMode, &File, NULL);
    if (NT_SUCCESS(Status)) {
        *FileObject = File;
        *DeviceObject = IoGetRelatedDeviceObject(File);
    }
    ZwClose(Handle);
    return Status;
}

PDEVICE_OBJECT NTAPI IoGetRelatedDeviceObject(PFILE_OBJECT FileObject)
{
    return IopTopOfStack(FileObject->DeviceObject);
}

NTSTATUS NTAPI IoAttachDevice(PDEVICE_OBJECT SourceDevice, PUNICODE_STRING TargetDevice,
                              PDEVICE_OBJECT *AttachedDevice)
{
    PFILE_OBJECT File;
    PDEVICE_OBJECT Top;
    NTSTATUS Status = IoGetDeviceObjectPointer(TargetDevice, FILE_READ_ATTRIBUTES, &File, &Top);
    if (NT_SUCCESS(Status)) {
        Status = IoAttachDeviceToDeviceStackSafe(SourceDevice, Top, AttachedDevice);
        ObDereferenceObject(File);
    }
    return Status;
}

//
// Closing.
//

// A request without parameters to a file's stack; the driver cannot refuse it.
static VOID IopTellFile(PFILE_OBJECT File, UCHAR MajorFunction)
{
    PDEVICE_OBJECT Top = IoGetAttachedDeviceReference(File->DeviceObject);
    PIRP Irp = IoAllocateIrp(Top->StackSize, FALSE);
    if (Irp == NULL) {
        DbgPrint("io: no memory to tell a driver that a file is closed\n");
    } else {
        Irp->Flags = IRP_SYNCHRONOUS_API | IRP_CLOSE_OPERATION;
        Irp->Tail.Overlay.Thread = PsGetCurrentThread();
        IoGetNextIrpStackLocation(Irp)->MajorFunction = MajorFunction;
        IoGetNextIrpStackLocation(Irp)->FileObject = File;
        if (IopSendAndWait(Top, Irp) != STATUS_PENDING) {
            IoFreeIrp(Irp);
        } else {
            ObReferenceObject(File); // as in IopSendCreate
        }
    }
    ObDereferenceObject(Top);
}

static VOID IopCleanUpFile(PVOID Object)
{
    const PFILE_OBJECT File = Object;
    IopTellFile(File, IRP_MJ_CLEANUP);
    File->Flags |= FO_CLEANUP_COMPLETE;
}

static VOID IopCloseFile(PVOID Object)
{
    const PFILE_OBJECT File = Object;
    const PDEVICE_OBJECT Device = File->DeviceObject;
    if (Device == NULL) {
        return;
    }
    PDEVICE_OBJECT Base = IoGetDeviceAttachmentBaseRef(Device);
    IopTellFile(File, IRP_MJ_CLOSE);
    IopCountClose(Device);
    ObDereferenceObject(Device);
    IopNoteClosedFile(Base);
    ObDereferenceObject(Base);
}

static PVOID IopFileNameBase(PVOID Object, PUNICODE_STRING Suffix)
{
    const PFILE_OBJECT File = Object;
    *Suffix = File->FileName;
    return File->DeviceObject;
}

//
// Requests to a file.
//

// A request on its way: from IopBeginRequest to IopRunRequest.
typedef struct _IOP_FILE_REQUEST {
    PFILE_OBJECT File; // referenced
    PKEVENT Event;     // referenced, or NULL
    PDEVICE_OBJECT Top;
    PIRP Irp;
    BOOLEAN IsSynchronous;
} IOP_FILE_REQUEST, *PIOP_FILE_REQUEST;

static VOID IopLockFile(PFILE_OBJECT File)
{
    KeWaitForSingleObject(&File->Lock, Executive, KernelMode, FALSE, NULL);
}

static VOID IopUnlockFile(PFILE_OBJECT File)
{
    KeSetEvent(&File->Lock, IO_NO_INCREMENT, FALSE);
}

static VOID IopEndRequest(PIOP_FILE_REQUEST Request)
{
    if (Request->IsSynchronous) {
        IopUnlockFile(Request->File);
    }
    ObDereferenceObject(Request->File);
}

// Undoes IopBeginRequest for a request that is not sent.
static NTSTATUS IopCancelRequest(PIOP_FILE_REQUEST Request, NTSTATUS Status)
{
    if (Request->Irp != NULL) {
        IopAbandonIrp(Request->Irp);
    }
    if (Request->Event != NULL) {
        ObDereferenceObject(Request->Event);
    }
    IopEndRequest(Request);
    return Status;
}

static NTSTATUS IopReferenceFileAndEvent(HANDLE FileHandle, HANDLE Event, PIOP_FILE_REQUEST Request)
{
    PVOID Object;
    NTSTATUS Status =
        ObReferenceObjectByHandle(FileHandle, 0, &IopFileType, KernelMode, &Object, NULL);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Request->File = Object;
    if (Event != NULL) {
        Status = ObReferenceObjectByHandle(Event, 0, *ExEventObjectType, KernelMode, &Object, NULL);
        if (!NT_SUCCESS(Status)) {
            ObDereferenceObject(Request->File);
            return Status;
        }
        Request->Event = Object;
        KeClearEvent(Request->Event);
    }
    return STATUS_SUCCESS;
}

static NTSTATUS IopBeginRequest(HANDLE FileHandle, HANDLE Event, PIO_APC_ROUTINE ApcRoutine,
                                PIO_STATUS_BLOCK StatusBlock, UCHAR MajorFunction,
                                PIOP_FILE_REQUEST Request)
{
    RtlZeroMemory(Request, sizeof(*Request));
    if (ApcRoutine != NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    const NTSTATUS Status = IopReferenceFileAndEvent(FileHandle, Event, Request);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    if ((Request->File->Flags & FO_SYNCHRONOUS_IO) != 0) {
        IopLockFile(Request->File);
        Request->IsSynchronous = TRUE;
    }
    KeClearEvent(&Request->File->Event);
    Request->Top = IoGetRelatedDeviceObject(Request->File);
    Request->Irp = IoAllocateIrp(Request->Top->StackSize, FALSE);
    if (Request->Irp == NULL) {
        return IopCancelRequest(Request, STATUS_INSUFFICIENT_RESOURCES);
    }
    Request->Irp->UserIosb = StatusBlock;
    IoGetNextIrpStackLocation(Request->Irp)->MajorFunction = MajorFunction;
    IoGetNextIrpStackLocation(Request->Irp)->FileObject = Request->File;
    return STATUS_SUCCESS;
}

// Sends it and, if the file is synchronous, waits.
static NTSTATUS IopRunFileRequest(PIOP_FILE_REQUEST Request)
{
    PIRP Irp = Request->Irp;
    ObReferenceObject(Request->File);
    Irp->Tail.Overlay.OriginalFileObject = Request->File;
    Irp->UserEvent = Request->Event;
    IopOwnIrpByThread(Irp);
    NTSTATUS Status = IoCallDriver(Request->Top, Irp);
    if (Status == STATUS_PENDING && Request->IsSynchronous) {
        KeWaitForSingleObject(&Request->File->Event, Executive, KernelMode, FALSE, NULL);
        Status = Request->File->FinalStatus;
    }
    return Status;
}

#define IOP_USE_FILE_POINTER (-2LL) // FILE_USE_FILE_POINTER_POSITION

static NTSTATUS IopTransferFile(UCHAR MajorFunction, HANDLE FileHandle, HANDLE Event,
                                PIO_APC_ROUTINE ApcRoutine, PIO_STATUS_BLOCK StatusBlock,
                                PVOID Buffer, ULONG Length, const LARGE_INTEGER *ByteOffset,
                                const ULONG *Key)
{
    IOP_FILE_REQUEST Request;
    NTSTATUS Status =
        IopBeginRequest(FileHandle, Event, ApcRoutine, StatusBlock, MajorFunction, &Request);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    const BOOLEAN UsesPointer = ByteOffset == NULL || ByteOffset->QuadPart == IOP_USE_FILE_POINTER;
    if (UsesPointer && !Request.IsSynchronous) {
        return IopCancelRequest(&Request, STATUS_INVALID_PARAMETER);
    }
    const LONGLONG Offset =
        UsesPointer ? Request.File->CurrentByteOffset.QuadPart : ByteOffset->QuadPart;
    IoGetNextIrpStackLocation(Request.Irp)->Parameters.Read.Key = Key != NULL ? *Key : 0;
    Status = IopAddTransferBuffer(Request.Irp, Request.Top, MajorFunction, Buffer, Length,
                                  (ULONG64)Offset);
    if (!NT_SUCCESS(Status)) {
        return IopCancelRequest(&Request, Status);
    }
    Status = IopRunFileRequest(&Request);
    if (Request.IsSynchronous && NT_SUCCESS(Status)) {
        Request.File->CurrentByteOffset.QuadPart = Offset + (LONGLONG)StatusBlock->Information;
    }
    IopEndRequest(&Request);
    return Status;
}

NTSTATUS NTAPI ZwReadFile(HANDLE FileHandle, HANDLE Event, PIO_APC_ROUTINE ApcRoutine,
                          PVOID ApcContext, PIO_STATUS_BLOCK IoStatusBlock, PVOID Buffer,
                          ULONG Length, PLARGE_INTEGER ByteOffset, PULONG Key)
{
    UNREFERENCED_PARAMETER(ApcContext);
    return IopTransferFile(IRP_MJ_READ, FileHandle, Event, ApcRoutine, IoStatusBlock, Buffer,
                           Length, ByteOffset, Key);
}

NTSTATUS NTAPI ZwWriteFile(HANDLE FileHandle, HANDLE Event, PIO_APC_ROUTINE ApcRoutine,
                           PVOID ApcContext, PIO_STATUS_BLOCK IoStatusBlock, PVOID Buffer,
                           ULONG Length, PLARGE_INTEGER ByteOffset, PULONG Key)
{
    UNREFERENCED_PARAMETER(ApcContext);
    return IopTransferFile(IRP_MJ_WRITE, FileHandle, Event, ApcRoutine, IoStatusBlock, Buffer,
                           Length, ByteOffset, Key);
}

NTSTATUS NTAPI ZwDeviceIoControlFile(HANDLE FileHandle, HANDLE Event, PIO_APC_ROUTINE ApcRoutine,
                                     PVOID ApcContext, PIO_STATUS_BLOCK IoStatusBlock,
                                     ULONG IoControlCode, PVOID InputBuffer,
                                     ULONG InputBufferLength, PVOID OutputBuffer,
                                     ULONG OutputBufferLength)
{
    IOP_FILE_REQUEST Request;
    UNREFERENCED_PARAMETER(ApcContext);
    NTSTATUS Status = IopBeginRequest(FileHandle, Event, ApcRoutine, IoStatusBlock,
                                      IRP_MJ_DEVICE_CONTROL, &Request);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Status = IopAddControlBuffers(Request.Irp, IoControlCode, InputBuffer, InputBufferLength,
                                  OutputBuffer, OutputBufferLength);
    if (!NT_SUCCESS(Status)) {
        return IopCancelRequest(&Request, Status);
    }
    Status = IopRunFileRequest(&Request);
    IopEndRequest(&Request);
    return Status;
}

NTSTATUS NTAPI ZwFlushBuffersFile(HANDLE FileHandle, PIO_STATUS_BLOCK IoStatusBlock)
{
    IOP_FILE_REQUEST Request;
    NTSTATUS Status =
        IopBeginRequest(FileHandle, NULL, NULL, IoStatusBlock, IRP_MJ_FLUSH_BUFFERS, &Request);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }
    Status = IopRunFileRequest(&Request);
    if (Status == STATUS_PENDING) {
        // This routine has no other way to tell that it is done.
        KeWaitForSingleObject(&Request.File->Event, Executive, KernelMode, FALSE, NULL);
        Status = Request.File->FinalStatus;
    }
    IopEndRequest(&Request);
    return Status;
}
