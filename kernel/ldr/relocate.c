// Relocation: the addresses in an image that count from the base it was linked for.
//
// Blocks follow each other; each is for the addresses from one RVA on:
//
//   | VirtualAddress | SizeOfBlock | type:4 offset:12 | ... | VirtualAddress | SizeOfBlock | ...
//
// A linker that finds no such address leaves the directory empty: the code is position independent and
// runs anywhere. RELOCS_STRIPPED says something else: there were some, and they are lost.
#include "kernel/ldr/ldrp.h"

#define TYPE_SHIFT 12
#define OFFSET_MASK 0xFFF

BOOLEAN LdrpIsMovable(const LDRP_LOAD *Load)
{
    return (Load->Headers->FileHeader.Characteristics & IMAGE_FILE_RELOCS_STRIPPED) == 0;
}

// Entries begins behind the block's header.
static NTSTATUS LdrpRelocateBlock(const LDRP_LOAD *Load, ULONG FirstRva, const UCHAR *Entries,
                                  ULONG EntryCount, ULONG64 Distance)
{
    for (ULONG Index = 0; Index < EntryCount; Index += 1) {
        USHORT Entry;
        __builtin_memcpy(&Entry, Entries + Index * sizeof(Entry), sizeof(Entry));
        const ULONG Type = Entry >> TYPE_SHIFT;
        if (Type == IMAGE_REL_BASED_ABSOLUTE) {
            continue; // fills a block up
        }
        const ULONG64 Rva = (ULONG64)FirstRva + (Entry & OFFSET_MASK);
        const PVOID Place = LdrpAt(&Load->Image, Rva, sizeof(ULONG64));
        LDRP_REQUIRE(Load, Type == IMAGE_REL_BASED_DIR64, "a relocation at 0x%llx is of type %u",
                     Rva, Type);
        LDRP_REQUIRE(Load, Place != NULL, "a relocation at 0x%llx leaves the image", Rva);
        LdrpWriteUlong64(Place, LdrpReadUlong64(Place) + Distance);
    }
    return STATUS_SUCCESS;
}

NTSTATUS LdrpRelocate(const LDRP_LOAD *Load)
{
    const IMAGE_DATA_DIRECTORY Directory = LdrpDirectory(Load, IMAGE_DIRECTORY_ENTRY_BASERELOC);
    const ULONG64 Distance = (ULONG_PTR)Load->Image.Bytes - Load->Headers->OptionalHeader.ImageBase;
    NTSTATUS Status = STATUS_SUCCESS;
    ULONG Done = 0;
    while (NT_SUCCESS(Status) && Distance != 0 && Done < Directory.Size) {
        // The directory lies in the image as a whole.
        const UCHAR *const At = Load->Image.Bytes + Directory.VirtualAddress + Done;
        const ULONG Rest = Directory.Size - Done;
        IMAGE_BASE_RELOCATION Block = {0, 0};
        if (Rest >= sizeof(Block)) {
            __builtin_memcpy(&Block, At, sizeof(Block));
        }
        LDRP_REQUIRE(Load,
                     Block.SizeOfBlock >= sizeof(Block) && Block.SizeOfBlock <= Rest &&
                         Block.SizeOfBlock % sizeof(USHORT) == 0,
                     "the block of relocations at 0x%x has 0x%x bytes, of 0x%x that are left",
                     Directory.VirtualAddress + Done, Block.SizeOfBlock, Rest);
        Status = LdrpRelocateBlock(Load, Block.VirtualAddress, At + sizeof(Block),
                                   (Block.SizeOfBlock - (ULONG)sizeof(Block)) / sizeof(USHORT),
                                   Distance);
        Done += Block.SizeOfBlock;
    }
    return Status;
}
