// The driver of shared memory, drivers/ivshmem: each quarter of the device's memory is filled by another
// way of mapping it. What is left there is checked from outside, in the file that the host has
// (tests/qemu/shared.py): the physical addresses of all mappings are proved by who reads the file.
#include <ntddivshmem.h>

#include "kernel/inc/io.h"
#include "tests/kernel/tests.h"

#define WRITTEN_PATH 4    // of what requests write, beside those of the driver's own
#define CHUNK_BYTES 12360 // of a request; no whole pages

static PDEVICE_OBJECT FindSharedMemory(PULONG64 ByteCount)
{
    const PDEVICE_OBJECT Device = IoFindDevice(FILE_DEVICE_IVSHMEM, 0);
    IVSHMEM_INFORMATION Information = {0};
    ULONG_PTR Done;
    if (Device == NULL) {
        return NULL;
    }
    KT_EQUAL(IoControlSynchronously(Device, IOCTL_IVSHMEM_QUERY, NULL, 0, &Information,
                                    sizeof(Information), &Done),
             STATUS_SUCCESS);
    KT_EQUAL(Done, sizeof(Information));
    *ByteCount = Information.ByteCount;
    return Device;
}

static NTSTATUS Fill(PDEVICE_OBJECT Device, ULONG Path, ULONG64 Offset, ULONG64 ByteCount)
{
    const IVSHMEM_FILL Request = {Path, 0, Offset, ByteCount};
    ULONG_PTR Done;
    return IoControlSynchronously(Device, IOCTL_IVSHMEM_FILL, &Request, sizeof(Request), NULL, 0,
                                  &Done);
}

// Moves a chunk between the memory and Words.
static NTSTATUS Move(PDEVICE_OBJECT Device, UCHAR MajorFunction, PULONG64 Words, ULONG64 Offset,
                     ULONG ByteCount)
{
    const PMDL Mdl = IoAllocateMdl(Words, ByteCount, FALSE, FALSE, NULL);
    ULONG_PTR Done = 0;
    if (Mdl == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    MmBuildMdlForNonPagedPool(Mdl);
    const NTSTATUS Status =
        IoTransferSynchronously(Device, MajorFunction, Mdl, Offset, ByteCount, &Done);
    KT_EQUAL(Done, NT_SUCCESS(Status) ? ByteCount : 0);
    IoFreeMdl(Mdl);
    return Status;
}

static ULONG NextChunk(ULONG64 LeftBytes)
{
    return LeftBytes < CHUNK_BYTES ? (ULONG)LeftBytes : CHUNK_BYTES;
}

static VOID WriteQuarter(PDEVICE_OBJECT Device, PULONG64 Words, ULONG64 First, ULONG64 ByteCount)
{
    for (ULONG64 Place = 0; Place < ByteCount; Place += CHUNK_BYTES) {
        const ULONG Length = NextChunk(ByteCount - Place);
        for (ULONG Index = 0; Index < Length / sizeof(ULONG64); Index += 1) {
            Words[Index] = IVSHMEM_WORD(WRITTEN_PATH, First + Place + Index * sizeof(ULONG64));
        }
        KT_EQUAL(Move(Device, IRP_MJ_WRITE, Words, First + Place, Length), STATUS_SUCCESS);
    }
}

static ULONG64 CountWrongWords(PDEVICE_OBJECT Device, PULONG64 Words, ULONG64 ByteCount)
{
    ULONG64 WrongCount = 0;
    for (ULONG64 Place = 0; Place < ByteCount; Place += CHUNK_BYTES) {
        const ULONG Length = NextChunk(ByteCount - Place);
        KT_EQUAL(Move(Device, IRP_MJ_READ, Words, Place, Length), STATUS_SUCCESS);
        for (ULONG Index = 0; Index < Length / sizeof(ULONG64); Index += 1) {
            const ULONG64 Offset = Place + Index * sizeof(ULONG64);
            const ULONG64 Path = Offset / (ByteCount / 4) + 1;
            WrongCount += Words[Index] != IVSHMEM_WORD(Path, Offset) ? 1 : 0;
        }
    }
    return WrongCount;
}

static VOID EveryWayOfMappingReachesTheMemory(VOID)
{
    ULONG64 ByteCount = 0;
    const PDEVICE_OBJECT Device = FindSharedMemory(&ByteCount);
    if (Device == NULL) {
        KT_SKIP("there is no shared memory with a driver");
    }
    const ULONG64 Quarter = ByteCount / 4;
    const PULONG64 Words = ExAllocatePool2(POOL_FLAG_NON_PAGED, CHUNK_BYTES, KT_TAG);
    KT_REQUIRE(Words != NULL);
    KT_CHECK(ByteCount >= 16 * PAGE_SIZE);
    KT_EQUAL(Fill(Device, IvshmemWriteCombined, 0, Quarter), STATUS_SUCCESS);
    KT_EQUAL(Fill(Device, IvshmemCached, Quarter, Quarter), STATUS_SUCCESS);
    KT_EQUAL(Fill(Device, IvshmemReserved, 2 * Quarter, Quarter), STATUS_SUCCESS);
    WriteQuarter(Device, Words, 3 * Quarter, Quarter);
    KT_EQUAL(CountWrongWords(Device, Words, ByteCount), 0);
    ExFreePoolWithTag(Words, KT_TAG);
}

static VOID WrongRequestsAreRefused(VOID)
{
    ULONG64 ByteCount = 0;
    const PDEVICE_OBJECT Device = FindSharedMemory(&ByteCount);
    ULONG_PTR Done;
    if (Device == NULL) {
        KT_SKIP("there is no shared memory with a driver");
    }
    const PULONG64 Word = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Word), KT_TAG);
    KT_REQUIRE(Word != NULL);
    KT_EQUAL(Fill(Device, IvshmemCached, 0, 0), STATUS_INVALID_PARAMETER);
    KT_EQUAL(Fill(Device, IvshmemCached, 8, PAGE_SIZE), STATUS_INVALID_PARAMETER);
    KT_EQUAL(Fill(Device, IvshmemCached, 0, PAGE_SIZE - 8), STATUS_INVALID_PARAMETER);
    KT_EQUAL(Fill(Device, IvshmemCached, PAGE_SIZE, ByteCount), STATUS_INVALID_PARAMETER);
    KT_EQUAL(Fill(Device, IvshmemCached, MAXULONG64 & ~0xFFFull, PAGE_SIZE),
             STATUS_INVALID_PARAMETER);
    KT_EQUAL(Fill(Device, 0, 0, PAGE_SIZE), STATUS_INVALID_PARAMETER);
    KT_EQUAL(
        IoControlSynchronously(Device, IOCTL_IVSHMEM_FILL, Word, sizeof(*Word), NULL, 0, &Done),
        STATUS_BUFFER_TOO_SMALL);
    KT_EQUAL(Move(Device, IRP_MJ_READ, Word, ByteCount - 4, 8), STATUS_INVALID_PARAMETER);
    ExFreePoolWithTag(Word, KT_TAG);
}

static const KT_TEST Tests[] = {
    {"Shared memory is reached by every way of mapping it [4.4.1, 5.2.1, 6.8.1]",
     EveryWayOfMappingReachesTheMemory},
    {"The driver of shared memory refuses what is not in it", WrongRequestsAreRefused},
};

const KT_SUITE KtIvshmemSuite = {"ivshmem", KtNeedsDevices, Tests, ARRAYSIZE(Tests)};
