// The few steps of every command that are too short for a call. With the queue lock, where they do not
// take it; contracts in nvme.h.
#pragma once

#include "nvme.h"

// KeAcquireSpinLock, with the change of IRQL in line.
static inline KIRQL NvmeAcquireQueue(PNVME_QUEUE Queue)
{
    KIRQL OldIrql;
    KeRaiseIrql(DISPATCH_LEVEL, &OldIrql);
    KeAcquireSpinLockAtDpcLevel(&Queue->Lock);
    return OldIrql;
}

// An end of an empty list is written when the list is read (NvmeTellFinished).
static inline VOID NvmeStartFinished(PNVME_FINISHED Finished)
{
    Finished->NextIrp = &Finished->FirstIrp;
    Finished->FirstIo = NULL;
    Finished->NextIo = &Finished->FirstIo;
}

static inline VOID NvmeAddFinished(PNVME_FINISHED Finished, PIRP Irp)
{
    *Finished->NextIrp = Irp;
    Finished->NextIrp = NvmeNextFinished(Irp);
}

static inline PNVME_TRACKER NvmeTakeTracker(PNVME_QUEUE Queue)
{
    if (Queue->FirstFree == NVME_NO_TRACKER) {
        return NULL;
    }
    const PNVME_TRACKER Tracker = &Queue->Trackers[Queue->FirstFree];
    Queue->FirstFree = Tracker->NextFree;
    Tracker->State = NvmeTrackerTaken;
    return Tracker;
}

static inline VOID NvmeReturnTracker(PNVME_QUEUE Queue, PNVME_TRACKER Tracker)
{
    Tracker->State = NvmeTrackerFree;
    Tracker->TimeLimit = 0;
    Tracker->NextFree = Queue->FirstFree;
    Queue->FirstFree = Tracker->Index;
}

// By stores of 8 bytes, one for each load: invariant Q3 of queue.c.
static inline VOID NvmePutIntoRing(PNVME_QUEUE Queue, const NVME_COMMAND *Command)
{
    const ULONG64 *From = (const ULONG64 *)Command;
    volatile ULONG64 *To = (volatile ULONG64 *)&Queue->Submission[Queue->Tail];
    To[0] = From[0];
    To[1] = From[1];
    To[2] = From[2];
    To[3] = From[3];
    To[4] = From[4];
    To[5] = From[5];
    To[6] = From[6];
    To[7] = From[7];
    const ULONG Next = Queue->Tail + 1u;
    Queue->Tail = (USHORT)(Next == Queue->EntryCount ? 0 : Next);
    Queue->Counters.Commands += 1;
}

C_ASSERT(sizeof(NVME_COMMAND) == 8 * sizeof(ULONG64));

// A new id for the command, and into the ring with it, if the queue is open.
static inline VOID NvmeGiveToController(PNVME_QUEUE Queue, PNVME_TRACKER Tracker)
{
    const ULONG Generation = Tracker->Generation + 1u;
    Tracker->Generation = (USHORT)Generation;
    Tracker->Command.CommandId = (USHORT)(Generation << NVME_TRACKER_INDEX_BITS | Tracker->Index);
    Tracker->StartTime = Queue->Controller->Clock;
    if (Queue->State == NvmeQueueOpen) {
        NvmePutIntoRing(Queue, &Tracker->Command);
    }
}

static inline VOID NvmeSubmitTracker(PNVME_QUEUE Queue, PNVME_TRACKER Tracker)
{
    NT_ASSERT(Tracker->State == NvmeTrackerTaken && Queue->State != NvmeQueueClosed);
    Tracker->State = NvmeTrackerSubmitted;
    Tracker->Trouble = 0;
    Queue->OutstandingCount += 1;
    NvmeGiveToController(Queue, Tracker);
}

// Describes a buffer within one page, in one piece: most are. FALSE: NvmeDescribeList is to do it.
static inline BOOLEAN NvmeDescribePage(PNVME_QUEUE Queue, PNVME_TRACKER Tracker,
                                       const SCATTER_GATHER_LIST *List, ULONG Offset,
                                       ULONG ByteCount)
{
    const SCATTER_GATHER_ELEMENT *Element = &List->Elements[0];
    const ULONG64 Address = (ULONG64)Element->Address.QuadPart + Offset;
    if ((ULONG64)Offset + ByteCount > Element->Length ||
        (Address & (PAGE_SIZE - 1)) + ByteCount > PAGE_SIZE ||
        (Address & (sizeof(ULONG) - 1)) != 0 || Queue->UsesLists) {
        return FALSE;
    }
    Tracker->Command.Prp1 = Address;
    Tracker->Command.Prp2 = 0;
    return TRUE;
}

// Has the adapter map ByteCount bytes of the MDL chain. The chain needs no more registers and elements
// than the longest transfer in one MDL.
static inline NTSTATUS NvmeBuildList(PNVME_QUEUE Queue, PNVME_TRACKER Tracker, PMDL Mdl,
                                     ULONG Offset, ULONG ByteCount, BOOLEAN WriteToDevice)
{
    Tracker->WriteToDevice = WriteToDevice;
    return Queue->Operations->BuildScatterGatherListEx(
        Queue->Adapter, Queue->DeviceObject, Tracker->TransferContext, Mdl, Offset, ByteCount,
        DMA_SYNCHRONOUS_CALLBACK, NULL, NULL, WriteToDevice, Tracker->ListBuffer,
        Queue->ListByteCount, NULL, NULL, &Tracker->List);
}

static inline VOID NvmePutList(PNVME_QUEUE Queue, PNVME_TRACKER Tracker)
{
    if (Tracker->List != NULL) {
        Queue->Operations->PutScatterGatherList(Queue->Adapter, Tracker->List,
                                                Tracker->WriteToDevice);
        Tracker->List = NULL;
    }
}

// Fills in everything of a read or write but the buffer.
static inline VOID NvmeDescribeBlocks(PNVME_COMMAND Command, UCHAR Opcode, ULONG NamespaceId,
                                      ULONG64 FirstBlock, ULONG BlockCount, ULONG Cdw12Flags)
{
    *Command = (NVME_COMMAND){.Opcode = Opcode,
                              .NamespaceId = NamespaceId,
                              .Cdw10 = (ULONG)FirstBlock,
                              .Cdw11 = (ULONG)(FirstBlock >> 32),
                              .Cdw12 = (BlockCount - 1) | Cdw12Flags};
}
