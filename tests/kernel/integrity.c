// What blocks of a disk may hold; integrity.h says what is what.
#include "tests/kernel/integrity.h"

#include "kernel/inc/io.h"

#include <ntddivshmem.h>

#define WRONG_BLOCKS_SHOWN 4

// The words at the beginning of a block; the others are the last of these with a pattern on it.
enum { MagicAndTag, BlockNumber, Generation, Check, HeaderWords };

// Spreads the bits of a number over all others.
static ULONG64 Mix(ULONG64 Value)
{
    Value += 0x9E3779B97F4A7C15ull;
    Value = (Value ^ Value >> 30) * 0xBF58476D1CE4E5B9ull;
    Value = (Value ^ Value >> 27) * 0x94D049BB133111EBull;
    return Value ^ Value >> 31;
}

static ULONG64 CheckWord(const IT_DISK *Disk, ULONG Block, ULONG BlockGeneration)
{
    return Mix((ULONG64)BlockGeneration << 32 | Block) ^ Mix(Disk->Tag);
}

static ULONG64 PatternWord(ULONG Index)
{
    return Index * 0x9E3779B97F4A7C15ull;
}

VOID ItFillBlock(const IT_DISK *Disk, ULONG Block, ULONG BlockGeneration, PVOID Va)
{
    const PULONG64 Words = Va;
    const ULONG64 Word = CheckWord(Disk, Block, BlockGeneration);
    Words[MagicAndTag] = IT_MAGIC + Disk->Tag;
    Words[BlockNumber] = Block;
    Words[Generation] = BlockGeneration;
    Words[Check] = Word;
    for (ULONG Index = HeaderWords; Index < Disk->Disk.BlockBytes / sizeof(ULONG64); Index += 1) {
        Words[Index] = Word ^ PatternWord(Index);
    }
}

static BOOLEAN IsZero(const ULONG64 *Words, ULONG Count)
{
    ULONG64 Union = 0;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        Union |= Words[Index];
    }
    return Union == 0;
}

BOOLEAN ItIsBlock(const IT_DISK *Disk, ULONG Block, ULONG BlockGeneration, const VOID *Va)
{
    const ULONG64 *const Words = Va;
    const ULONG Count = Disk->Disk.BlockBytes / sizeof(ULONG64);
    if (BlockGeneration == IT_ZERO) {
        return IsZero(Words, Count);
    }
    const ULONG64 Word = CheckWord(Disk, Block, BlockGeneration);
    ULONG64 Difference = (Words[MagicAndTag] ^ (IT_MAGIC + Disk->Tag)) |
                         (Words[BlockNumber] ^ Block) | (Words[Generation] ^ BlockGeneration) |
                         (Words[Check] ^ Word);
    for (ULONG Index = HeaderWords; Index < Count; Index += 1) {
        Difference |= Words[Index] ^ Word ^ PatternWord(Index);
    }
    return Difference == 0;
}

VOID ItSetBlocks(PIT_DISK Disk, ULONG First, ULONG Count, ULONG BlockGeneration)
{
    for (ULONG Index = 0; Index < Count; Index += 1) {
        Disk->Blocks[First + Index] = (IT_BLOCK){{BlockGeneration}, 1};
    }
}

static BOOLEAN MayHold(const IT_BLOCK *Block, ULONG BlockGeneration)
{
    for (ULONG Index = 0; Index < Block->Count; Index += 1) {
        if (Block->Generations[Index] == BlockGeneration) {
            return TRUE;
        }
    }
    return FALSE;
}

VOID ItAddToBlocks(PIT_DISK Disk, ULONG First, ULONG Count, ULONG BlockGeneration)
{
    for (ULONG Index = 0; Index < Count; Index += 1) {
        const PIT_BLOCK Block = &Disk->Blocks[First + Index];
        if (!MayHold(Block, BlockGeneration) && KT_CHECK(Block->Count < IT_CANDIDATES)) {
            Block->Generations[Block->Count] = BlockGeneration;
            Block->Count += 1;
        }
    }
}

BOOLEAN ItHaveRoom(const IT_DISK *Disk, ULONG First, ULONG Count)
{
    for (ULONG Index = 0; Index < Count; Index += 1) {
        if (Disk->Blocks[First + Index].Count == IT_CANDIDATES) {
            return FALSE;
        }
    }
    return TRUE;
}

// The one that it holds; FALSE: none of those that it may hold.
static BOOLEAN Decide(const IT_DISK *Disk, ULONG Number, const UCHAR *Va)
{
    const PIT_BLOCK Block = &Disk->Blocks[Number];
    for (ULONG Index = 0; Index < Block->Count; Index += 1) {
        if (ItIsBlock(Disk, Number, Block->Generations[Index], Va)) {
            *Block = (IT_BLOCK){{Block->Generations[Index]}, 1};
            return TRUE;
        }
    }
    return FALSE;
}

static VOID ReportWrongBlock(const IT_DISK *Disk, ULONG Number, const ULONG64 *Words)
{
    const IT_BLOCK *const Block = &Disk->Blocks[Number];
    DbgPrint("    # disk %u, block %u: %llx, block %llu, generation %llu, check %llx; it may hold "
             "%u generations, %u %u %u\n",
             Disk->Tag, Number, Words[MagicAndTag], Words[BlockNumber], Words[Generation],
             Words[Check], Block->Count, Block->Generations[0], Block->Generations[1],
             Block->Generations[2]);
}

ULONG ItCheckBlocks(PIT_DISK Disk, ULONG First, ULONG Count, const UCHAR *Va)
{
    ULONG WrongCount = 0;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        const UCHAR *const Bytes = Va + (SIZE_T)Index * Disk->Disk.BlockBytes;
        if (!Decide(Disk, First + Index, Bytes)) {
            WrongCount += 1;
            if (WrongCount <= WRONG_BLOCKS_SHOWN) {
                ReportWrongBlock(Disk, First + Index, (const ULONG64 *)Bytes);
            }
        }
    }
    return WrongCount;
}

//
// Disks.
//

static BOOLEAN ReadTag(PIT_DISK Disk)
{
    KT_BUFFER Buffer;
    if (!KT_CHECK(KtAllocateBuffer(&Buffer, Disk->Disk.BlockBytes))) {
        return FALSE;
    }
    const ULONG64 *const Words = (const ULONG64 *)Buffer.Va;
    const BOOLEAN IsMarked = NT_SUCCESS(KtTransferDisk(&Disk->Disk, IRP_MJ_READ, Buffer.Va,
                                                       Disk->Disk.ByteCount - Disk->Disk.BlockBytes,
                                                       Disk->Disk.BlockBytes)) &&
                             Words[0] == IT_MAGIC;
    Disk->Tag = (ULONG)Words[1];
    Disk->NamespaceId = (ULONG)Words[2];
    KtFreeBuffer(&Buffer);
    return IsMarked;
}

BOOLEAN ItOpenDisk(ULONG Index, PIT_DISK Disk)
{
    RtlZeroMemory(Disk, sizeof(*Disk));
    if (!KtOpenDisk(Index, &Disk->Disk) || !KT_CHECK(Disk->Disk.IsScratch && ReadTag(Disk))) {
        return FALSE;
    }
    Disk->BlockCount = (ULONG)(Disk->Disk.ByteCount / Disk->Disk.BlockBytes) - 1;
    if (!KT_CHECK(KtAllocateBuffer(&Disk->Memory, Disk->BlockCount * (ULONG)sizeof(IT_BLOCK)))) {
        return FALSE;
    }
    Disk->Blocks = (PIT_BLOCK)Disk->Memory.Va;
    ItSetBlocks(Disk, 0, Disk->BlockCount, IT_ZERO);
    return TRUE;
}

VOID ItCloseDisk(PIT_DISK Disk)
{
    KtFreeBuffer(&Disk->Memory);
}

//
// The end: the model in the shared memory, disk after disk, and a header of zeros.
//

typedef struct _MODEL_HEADER {
    ULONG64 Magic;
    ULONG Tag;
    ULONG BlockCount;
} MODEL_HEADER;

// KtTransferDisk looks at no more of a disk than its device.
static BOOLEAN Put(const KT_DISK *Memory, const VOID *Va, PULONG64 Offset, ULONG ByteCount)
{
    const NTSTATUS Status =
        KtTransferDisk(Memory, IRP_MJ_WRITE, (PVOID)(ULONG_PTR)Va, *Offset, ByteCount);
    *Offset += ByteCount;
    return KT_EQUAL(Status, STATUS_SUCCESS);
}

BOOLEAN ItTellHost(const IT_DISK *Disks, ULONG Count)
{
    const KT_DISK Memory = {.Device = IoFindDevice(FILE_DEVICE_IVSHMEM, 0)};
    MODEL_HEADER *const Header = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Header), KT_TAG);
    ULONG64 Offset = 0;
    BOOLEAN IsTold = KT_CHECK(Memory.Device != NULL && Header != NULL);
    for (ULONG Index = 0; IsTold && Index < Count; Index += 1) {
        const IT_DISK *const Disk = &Disks[Index];
        *Header = (MODEL_HEADER){IT_MAGIC, Disk->Tag, Disk->BlockCount};
        IsTold = Put(&Memory, Header, &Offset, sizeof(*Header)) &&
                 Put(&Memory, Disk->Blocks, &Offset, Disk->BlockCount * (ULONG)sizeof(IT_BLOCK));
    }
    if (Header != NULL) {
        RtlZeroMemory(Header, sizeof(*Header));
        IsTold = IsTold && Put(&Memory, Header, &Offset, sizeof(*Header));
        ExFreePoolWithTag(Header, KT_TAG);
    }
    return IsTold;
}
