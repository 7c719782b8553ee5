// What blocks of a disk may hold: the model beside which t_integrity.c uses disks.
//
// Every block that is written says which block it is, of which disk, and by which write (its
// generation); all its bytes follow from that. The model has for every block the generations that it
// may hold: one, after a write that succeeded; the old and the new ones, after one that failed. A
// read must find one of them, and decides which.
//
// The host computes the same (tests/qemu/scenarios/integrity.py): layout and constants are the same
// there.
#pragma once

#include "tests/kernel/disks.h"

#define IT_MAGIC 0x31304B434F4C4249ull // "IBLOCK01"
#define IT_ZERO 0u                     // the generation of a block of zeros

#define IT_CANDIDATES 3

typedef struct _IT_BLOCK { // the host reads it
    ULONG Generations[IT_CANDIDATES];
    ULONG Count; // of those that it may hold
} IT_BLOCK, *PIT_BLOCK;

typedef struct _IT_DISK {
    KT_DISK Disk;
    ULONG Tag; // its name for the host, which wrote it into the last block
    ULONG NamespaceId;
    ULONG BlockCount; // without the last one
    ULONG Generation; // of the last write
    KT_BUFFER Memory;
    PIT_BLOCK Blocks;
} IT_DISK, *PIT_DISK;

// The content of a block.
VOID ItFillBlock(const IT_DISK *Disk, ULONG Block, ULONG Generation, PVOID Va);

// Whether it is just that, and if not, which generation it claims to be.
BOOLEAN ItIsBlock(const IT_DISK *Disk, ULONG Block, ULONG Generation, const VOID *Va);

// The only one that these blocks may hold from now on.
VOID ItSetBlocks(PIT_DISK Disk, ULONG First, ULONG Count, ULONG Generation);

// One more that they may hold. FALSE: they may hold too many already; ask before.
VOID ItAddToBlocks(PIT_DISK Disk, ULONG First, ULONG Count, ULONG Generation);
BOOLEAN ItHaveRoom(const IT_DISK *Disk, ULONG First, ULONG Count);

// Compares what was read with the model, which then knows what these blocks hold. Returns how many
// blocks are wrong, and prints the first ones.
ULONG ItCheckBlocks(PIT_DISK Disk, ULONG First, ULONG Count, const UCHAR *Va);

// A disk that the host has marked; all its blocks but the last are zero.
BOOLEAN ItOpenDisk(ULONG Index, PIT_DISK Disk);
VOID ItCloseDisk(PIT_DISK Disk);

// Tells the host the model of all disks, through the memory that it shares with the guest.
BOOLEAN ItTellHost(const IT_DISK *Disks, ULONG Count);
