// Threads as objects: made, opened, ended, and what is left of them cleared away.
//
//   PsCreateSystemThread ──▶ runs ──▶ ends ──▶ reaper: stack, and the thread's own reference
//                                                                     │
//                                        whoever waits for it goes on ◀┘
//
// A thread holds a reference to its own object until the reaper, a thread of the highest priority, has
// freed its stack: nobody can free the stack that it stands on. The reaper signals the thread, too, so the
// stack and that reference are gone before any waiter runs, on whatever processor, and the object
// when the last handle and the last reference are.
#include "kernel/ps/psp.h"

#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ob.h"
#include "kernel/inc/ps.h"
#include "mm/mm.h"

static OBJECT_TYPE PspThreadType = {.Name = "Thread", .IsWaitable = TRUE};
POBJECT_TYPE PspThreadTypePointer = &PspThreadType;
POBJECT_TYPE *PsThreadType = &PspThreadTypePointer;

#define PSP_FIRST_THREAD_ID 8
#define PSP_ID_STEP 4

static volatile LONG64 PspLastThreadId = PSP_FIRST_THREAD_ID - PSP_ID_STEP;

// A thread that is ready to run, with the reference that it holds itself. NULL: no memory.
static PKTHREAD PspCreateThread(PKSTART_ROUTINE Routine, PVOID Context, PVOID Caller)
{
    const PKTHREAD Thread = ObAllocateObject(&PspThreadType, sizeof(*Thread));
    const PVOID Stack = Thread != NULL ? MmCreateKernelStack(Caller) : NULL;
    if (Stack == NULL) {
        if (Thread != NULL) {
            ObDereferenceObject(Thread);
        }
        return NULL;
    }
    KeInitializeThread(Thread, Stack, MM_KERNEL_STACK_BYTES, Routine, Context);
    Thread->ThreadId =
        (HANDLE)(ULONG_PTR)__atomic_add_fetch(&PspLastThreadId, PSP_ID_STEP, __ATOMIC_RELAXED);
    return Thread;
}

static BOOLEAN PspIsSystemProcess(HANDLE ProcessHandle)
{
    return ProcessHandle == NULL || ProcessHandle == PSP_CURRENT_PROCESS;
}

NTSTATUS NTAPI PsCreateSystemThread(PHANDLE ThreadHandle, ULONG DesiredAccess,
                                    struct _OBJECT_ATTRIBUTES *ObjectAttributes,
                                    HANDLE ProcessHandle, PCLIENT_ID ClientId,
                                    PKSTART_ROUTINE StartRoutine, PVOID StartContext)
{
    NT_ASSERT(KeArchReadIrql() == PASSIVE_LEVEL);
    if (!PspIsSystemProcess(ProcessHandle)) {
        return STATUS_INVALID_HANDLE;
    }
    const PKTHREAD Thread =
        PspCreateThread(StartRoutine, StartContext, __builtin_return_address(0));
    if (Thread == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // Ours, and the one that the thread has: a handle's name and access take the place of ours.
    ObReferenceObject(Thread);
    if (ClientId != NULL) {
        *ClientId = (CLIENT_ID){PSP_SYSTEM_PROCESS_ID, Thread->ThreadId};
    }
    const NTSTATUS Status = ObInsertAndOpen(Thread, ObjectAttributes, DesiredAccess, ThreadHandle);
    if (!NT_SUCCESS(Status)) {
        KeForgetThread(Thread);
        MmDeleteKernelStack((PVOID)Thread->StackBase);
        ObDereferenceObject(Thread);
        return Status;
    }
    KeReadyThread(Thread);
    return Status;
}

NTSTATUS NTAPI PsTerminateSystemThread(NTSTATUS ExitStatus)
{
    if (KeArchGetCurrentThread()->StartRoutine == NULL) {
        return STATUS_INVALID_PARAMETER;
    }
    KeTerminateThread(ExitStatus);
}

//
// The reaper.
//

static VOID PspReapThread(PKTHREAD Thread)
{
    MmDeleteKernelStack((PVOID)Thread->StackBase);
    if (KeFinishThread(Thread)) {
        ObDeleteReleased(Thread);
    }
}

static VOID NTAPI PspReaper(PVOID Context)
{
    UNREFERENCED_PARAMETER(Context);
    KeSetPriorityThread(KeGetCurrentThread(), HIGH_PRIORITY);
    for (;;) {
        KeWaitForReaperWork();
        for (PKTHREAD Thread = KeTakeEndedThread(); Thread != NULL; Thread = KeTakeEndedThread()) {
            PspReapThread(Thread);
        }
        ObDeleteDeferred();
    }
}

VOID PsInitSystem(VOID)
{
    PspInitializeProcess();
    KeMakeStaticThreadsObjects(&PspThreadType);
    ObSetPseudoHandles(PspResolvePseudoHandle);
    const PKTHREAD Reaper = PspCreateThread(PspReaper, NULL, NULL);
    if (Reaper == NULL) {
        KiBugCheckSaying(PHASE0_INITIALIZATION_FAILED, 2, 0, 0, 0,
                         "no memory for the first system thread");
    }
    KeReadyThread(Reaper);
    ObSetDeferral(KeRequestReaper);
}
