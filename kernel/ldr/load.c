// Loading an image, and unloading it.
//
//   headers       what the file claims, checked           header.c      nothing is allocated yet
//   memory        zeroed, readable and writable            mm/image.c
//   copy          headers and sections
//   relocations   addresses within the image               relocate.c
//   imports       addresses of others                      imports.c     names all that is missing
//   tables        security cookie, functions, exports      tables.c, export.c
//   protection    each section its own, never both writable and executable
//   record        from now on everybody sees the image     images.c
//
// Each step may refuse the image; then its memory is all there is to give back.
//
// An image is referenced by its loader and by each image that imports from it, so that it stays as long
// as one of them does. An image may be loaded only because another one imports from it.
//
// Lock: LdrpMutex, for all of it. Exports of other images are looked up under it, too.
#include "kernel/inc/ke.h"
#include "kernel/inc/loader.h"
#include "kernel/inc/rtl.h"
#include "kernel/ldr/ldrp.h"
#include "mm/mm.h"

static FAST_MUTEX LdrpMutex;
static const LOADER_BLOCK *LdrpLoaderBlock;

VOID LdrInitSystem(const LOADER_BLOCK *LoaderBlock)
{
    ExInitializeFastMutex(&LdrpMutex);
    LdrpLoaderBlock = LoaderBlock;
}

static const LOADER_MODULE *LdrpFindFile(PCSTR Name)
{
    for (ULONG Index = 0; Index < LdrpLoaderBlock->ModuleCount; Index += 1) {
        if (LdrpIsSameName(LdrpLoaderBlock->Modules[Index].Name, Name)) {
            return &LdrpLoaderBlock->Modules[Index];
        }
    }
    return NULL;
}

static const VOID *LdrpBytesOfFile(const LOADER_MODULE *Module)
{
    const PHYSICAL_ADDRESS Place = {.QuadPart = (LONG64)Module->BaseAddress};
    return MmGetVirtualForPhysical(Place);
}

const VOID *LdrFindModule(PCSTR Name, PSIZE_T ByteCount)
{
    const LOADER_MODULE *Module = LdrpFindFile(Name);
    *ByteCount = Module != NULL ? Module->ByteCount : 0;
    return Module != NULL ? LdrpBytesOfFile(Module) : NULL;
}

static NTSTATUS LdrpAllocate(PLDRP_LOAD Load)
{
    const IMAGE_OPTIONAL_HEADER64 *Header = &Load->Headers->OptionalHeader;
    const BOOLEAN IsMovable = LdrpIsMovable(Load);
    const PVOID Place = IsMovable ? NULL : (PVOID)Header->ImageBase;
    if (IsMovable || (Place != NULL && BYTE_OFFSET(Place) == 0)) {
        Load->Image.Bytes = MmAllocateImage(Place, Header->SizeOfImage);
        Load->Image.ByteCount = Header->SizeOfImage;
    }
    if (Load->Image.Bytes == NULL && !IsMovable) {
        return LdrpRefuse(
            Load, STATUS_CONFLICTING_ADDRESSES,
            "the image runs at 0x%llx only, because its relocations were stripped, and "
            "that is not free for drivers",
            Header->ImageBase);
    }
    if (Load->Image.Bytes == NULL) {
        return LdrpRefuse(Load, STATUS_INSUFFICIENT_RESOURCES,
                          "there is no memory for its 0x%x bytes", Header->SizeOfImage);
    }
    return STATUS_SUCCESS;
}

static VOID LdrpCopyHeaders(const LDRP_LOAD *Load)
{
    RtlCopyMemory(Load->Image.Bytes, Load->File.Bytes, Load->Headers->OptionalHeader.SizeOfHeaders);
}

static VOID LdrpCopySections(const LDRP_LOAD *Load)
{
    for (ULONG Index = 0; Index < Load->SectionCount; Index += 1) {
        const IMAGE_SECTION_HEADER *Section = &Load->Sections[Index];
        const ULONG Room = LdrpSectionBytes(Section);
        RtlCopyMemory(Load->Image.Bytes + Section->VirtualAddress,
                      Load->File.Bytes + Section->PointerToRawData,
                      Section->SizeOfRawData < Room ? Section->SizeOfRawData : Room);
    }
}

// What lies between sections stays read-only, as the headers.
static VOID LdrpProtectSections(const LDRP_LOAD *Load)
{
    MmProtectImage(Load->Image.Bytes, Load->Image.ByteCount, PAGE_READONLY);
    for (ULONG Index = 0; Index < Load->SectionCount; Index += 1) {
        const IMAGE_SECTION_HEADER *Section = &Load->Sections[Index];
        const ULONG Protect = LdrpProtectionOfSection(Section);
        if (Protect != PAGE_READONLY) {
            MmProtectImage(Load->Image.Bytes + Section->VirtualAddress, LdrpSectionBytes(Section),
                           Protect);
        }
    }
}

// From the file to an image that is whole. The tables come last: nothing is written afterwards.
static NTSTATUS LdrpFillImage(PLDRP_LOAD Load)
{
    LdrpCopyHeaders(Load);
    LdrpCopySections(Load);
    NTSTATUS Status = LdrpRelocate(Load);
    if (NT_SUCCESS(Status)) {
        Status = LdrpLinkImports(Load);
    }
    if (NT_SUCCESS(Status)) {
        Status = LdrpSetSecurityCookie(Load);
    }
    // Once more: a damaged image may have had addresses written over its headers.
    LdrpCopyHeaders(Load);
    if (NT_SUCCESS(Status)) {
        Status = LdrpCheckFunctionTable(Load);
    }
    return NT_SUCCESS(Status) ? LdrpCheckExports(Load) : Status;
}

//
// The record.
//

static LDR_IMAGE LdrpDescribe(const LDRP_LOAD *Load)
{
    const IMAGE_DATA_DIRECTORY Exports = LdrpDirectory(Load, IMAGE_DIRECTORY_ENTRY_EXPORT);
    const ULONG EntryRva = Load->Headers->OptionalHeader.AddressOfEntryPoint;
    LDR_IMAGE Image = {
        .Base = (ULONG_PTR)Load->Image.Bytes,
        .ByteCount = Load->Image.ByteCount,
        .EntryPoint = EntryRva != 0 ? (ULONG_PTR)Load->Image.Bytes + EntryRva : 0,
        .FunctionTable = Load->FunctionTable,
        .FunctionCount = Load->FunctionCount,
        .ReferenceCount = 1,
        .HeaderOffset = (ULONG)((const UCHAR *)Load->Headers - Load->File.Bytes),
        .ExportRva = Exports.VirtualAddress,
        .ExportBytes = Exports.Size,
    };
    RtlCopyString(Image.Name, sizeof(Image.Name), Load->Name);
    RtlCopyMemory(Image.Imports, Load->Imports, sizeof(Image.Imports));
    return Image;
}

static BOOLEAN LdrpImportsFrom(const ULONG64 *Imports, ULONG Index)
{
    return (Imports[Index / 64] >> (Index % 64) & 1) != 0;
}

static NTSTATUS LdrpPublish(const LDRP_LOAD *Load, PLDR_IMAGE *Image)
{
    const LDR_IMAGE Contents = LdrpDescribe(Load);
    *Image = LdrpPublishImage(&Contents);
    if (*Image == NULL) {
        return LdrpRefuse(Load, STATUS_INSUFFICIENT_RESOURCES, "%u images are loaded already",
                          LDR_MAXIMUM_IMAGES);
    }
    for (ULONG Index = 0; Index < LDR_MAXIMUM_IMAGES; Index += 1) {
        LdrpImageOfIndex(Index)->ReferenceCount += LdrpImportsFrom(Load->Imports, Index);
    }
    KiRegisterCode((*Image)->Name, (*Image)->Base, (*Image)->ByteCount, TRUE);
    return STATUS_SUCCESS;
}

static NTSTATUS LdrpLoad(const VOID *File, SIZE_T FileBytes, PCSTR Name, ULONG Depth,
                         PLDR_IMAGE *Image)
{
    LDRP_LOAD Load = {.Name = Name, .Depth = Depth, .File = {(PUCHAR)File, FileBytes}};
    NTSTATUS Status = LdrpReadHeaders(&Load);
    if (NT_SUCCESS(Status)) {
        Status = LdrpAllocate(&Load);
    }
    if (NT_SUCCESS(Status)) {
        Status = LdrpFillImage(&Load);
    }
    if (NT_SUCCESS(Status)) {
        LdrpProtectSections(&Load);
        Status = LdrpPublish(&Load, Image);
    }
    if (!NT_SUCCESS(Status) && Load.Image.Bytes != NULL) {
        MmFreeImage(Load.Image.Bytes);
    }
    return Status;
}

//
// References.
//

static VOID LdrpDereference(PLDR_IMAGE Image);

static VOID LdrpFree(PLDR_IMAGE Image)
{
    ULONG64 Imports[ARRAYSIZE(Image->Imports)];
    RtlCopyMemory(Imports, Image->Imports, sizeof(Imports));
    KiForgetCode(Image->Name);
    LdrpWithdrawImage(Image);
    MmFreeImage((PVOID)Image->Base);
    for (ULONG Index = 0; Index < LDR_MAXIMUM_IMAGES; Index += 1) {
        if (LdrpImportsFrom(Imports, Index)) {
            LdrpDereference(LdrpImageOfIndex(Index));
        }
    }
}

static VOID LdrpDereference(PLDR_IMAGE Image)
{
    NT_ASSERT(Image->ReferenceCount != 0);
    Image->ReferenceCount -= 1;
    if (Image->ReferenceCount == 0) {
        LdrpFree(Image);
    }
}

// What was loaded for an image that was refused then.
static VOID LdrpFreeUnused(VOID)
{
    PLDR_IMAGE Image = LdrpNextImage(NULL);
    while (Image != NULL) {
        if (Image->ReferenceCount == 0) {
            LdrpFree(Image);
        }
        Image = LdrpNextImage(Image);
    }
}

PLDR_IMAGE LdrpLoadDependency(const LDRP_LOAD *Load, PCSTR Name)
{
    PLDR_IMAGE Image = NULL;
    const LOADER_MODULE *Module = LdrpFindFile(Name);
    if (Module == NULL || Load->Depth == LDRP_MAXIMUM_DEPTH ||
        !NT_SUCCESS(LdrpLoad(LdrpBytesOfFile(Module), Module->ByteCount, Module->Name,
                             Load->Depth + 1, &Image))) {
        return NULL;
    }
    Image->IsDependency = TRUE;
    Image->ReferenceCount = 0; // until Load is whole
    return Image;
}

// An image that somebody loads by name, although it is there for others' sake, becomes his, too.
static NTSTATUS LdrpLoadAgain(PCSTR Name, PLDR_IMAGE Loaded, PLDR_IMAGE *Image)
{
    const LDRP_LOAD Load = {.Name = Name};
    if (!Loaded->IsDependency) {
        return LdrpRefuse(&Load, STATUS_IMAGE_ALREADY_LOADED, "an image of this name is loaded");
    }
    Loaded->IsDependency = FALSE;
    Loaded->ReferenceCount += 1;
    *Image = Loaded;
    return STATUS_SUCCESS;
}

NTSTATUS LdrLoadImage(const VOID *File, SIZE_T FileBytes, PCSTR Name, PLDR_IMAGE *Image)
{
    NT_ASSERT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    *Image = NULL;
    ExAcquireFastMutex(&LdrpMutex);
    const PLDR_IMAGE Loaded = LdrpFindImageByName(Name);
    const NTSTATUS Status = Loaded != NULL ? LdrpLoadAgain(Name, Loaded, Image)
                                           : LdrpLoad(File, FileBytes, Name, 0, Image);
    LdrpFreeUnused();
    ExReleaseFastMutex(&LdrpMutex);
    return Status;
}

VOID LdrUnloadImage(PLDR_IMAGE Image)
{
    NT_ASSERT(KeGetCurrentIrql() == PASSIVE_LEVEL);
    ExAcquireFastMutex(&LdrpMutex);
    LdrpDereference(Image);
    ExReleaseFastMutex(&LdrpMutex);
}

//
// The end of the initialization.
//

static BOOLEAN LdrpIsWithin(ULONG64 Rva, const IMAGE_SECTION_HEADER *Section)
{
    return Rva >= Section->VirtualAddress &&
           Rva - Section->VirtualAddress < LdrpSectionBytes(Section);
}

// Exports and what a walk of the stack reads must stay, wherever the linker has put them.
static BOOLEAN LdrpIsNeeded(const LDRP_LOAD *Load, const IMAGE_SECTION_HEADER *Section)
{
    const ULONG TableRva = LdrpDirectory(Load, IMAGE_DIRECTORY_ENTRY_EXCEPTION).VirtualAddress;
    const LDRP_FUNCTION *Rows = (const LDRP_FUNCTION *)(Load->Image.Bytes + TableRva);
    if (LdrpDirectory(Load, IMAGE_DIRECTORY_ENTRY_EXPORT).Size != 0 &&
        LdrpIsWithin(LdrpDirectory(Load, IMAGE_DIRECTORY_ENTRY_EXPORT).VirtualAddress, Section)) {
        return TRUE;
    }
    for (ULONG Index = 0; Index < Load->FunctionCount; Index += 1) {
        const ULONG64 RowRva = TableRva + (ULONG64)Index * sizeof(LDRP_FUNCTION);
        if (LdrpIsWithin(Rows[Index].UnwindData, Section) || LdrpIsWithin(RowRva, Section)) {
            return TRUE;
        }
    }
    return FALSE;
}

VOID LdrDiscardInitSections(PLDR_IMAGE Image)
{
    if (Image->IsInitialized) {
        return;
    }
    LDRP_LOAD Load = {
        .Name = Image->Name,
        .Image = {(PUCHAR)Image->Base, Image->ByteCount},
        .Headers = (const IMAGE_NT_HEADERS64 *)(Image->Base + Image->HeaderOffset),
        .FunctionCount = Image->FunctionCount,
    };
    Load.DirectoryCount = LdrpDirectoryCount(Load.Headers);
    const ULONG TableOffset = FIELD_OFFSET(IMAGE_NT_HEADERS64, OptionalHeader) +
                              Load.Headers->FileHeader.SizeOfOptionalHeader;
    Load.Sections = (const IMAGE_SECTION_HEADER *)((const UCHAR *)Load.Headers + TableOffset);
    for (ULONG Index = 0; Index < Load.Headers->FileHeader.NumberOfSections; Index += 1) {
        const IMAGE_SECTION_HEADER *Section = &Load.Sections[Index];
        if ((Section->Characteristics & IMAGE_SCN_MEM_DISCARDABLE) != 0 &&
            !LdrpIsNeeded(&Load, Section)) {
            MmDiscardImagePages(Load.Image.Bytes + Section->VirtualAddress,
                                LdrpSectionBytes(Section));
        }
    }
    Image->IsInitialized = TRUE;
}
