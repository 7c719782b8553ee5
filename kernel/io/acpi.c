// ACPI tables, as far as finding them goes; their meaning is for whoever asks for one.
//
// The root pointer comes with the loader block. It names the XSDT (64-bit addresses) or, on older
// firmware, the RSDT (32-bit ones), which lists all other tables. Tables lie in what firmware calls
// ACPI or reserved memory: they are mapped read-only while they are read, and never otherwise.
// Nothing that firmware wrote is believed: lengths are bounded and checksums are checked.
#include "kernel/io/iop.h"

#define ACPI_MAXIMUM_TABLE_BYTES 0x100000
#define ACPI_SIGNATURE_CHARS 4

typedef struct __attribute__((packed)) _ACPI_ROOT_POINTER {
    CHAR Signature[8];
    UCHAR Checksum;
    CHAR OemId[6];
    UCHAR Revision;
    ULONG RsdtAddress;
    ULONG Length; // from here on only with Revision 2
    ULONG64 XsdtAddress;
    UCHAR ExtendedChecksum;
    UCHAR Reserved[3];
} ACPI_ROOT_POINTER;

C_ASSERT(sizeof(ACPI_ROOT_POINTER) == LOADER_ROOT_POINTER_BYTES);

// The two kinds of root table.
typedef struct _IOP_ROOT_TABLE {
    ULONG64 Address; // 0: there is none
    PCSTR Signature;
    ULONG EntryBytes;
} IOP_ROOT_TABLE;

static IOP_ROOT_TABLE IopRootTable;

static const VOID *IopMapFirmwareMemory(ULONG64 Address, ULONG ByteCount)
{
    PHYSICAL_ADDRESS Physical;
    Physical.QuadPart = (LONGLONG)Address;
    const VOID *Va = MmMapIoSpaceEx(Physical, ByteCount, PAGE_READONLY);
    if (Va == NULL) {
        CHAR Reason[160];
        MmDescribeLastRefusal(Reason, sizeof(Reason));
        DbgPrint("acpi: the table at 0x%llx cannot be read: %s\n", Address, Reason);
    }
    return Va;
}

static VOID IopUnmapFirmwareMemory(const VOID *Va, ULONG ByteCount)
{
    MmUnmapIoSpace((PVOID)(ULONG_PTR)Va, ByteCount);
}

// Reads the header of the table at Address.
static BOOLEAN IopReadTableHeader(ULONG64 Address, PACPI_HEADER Header)
{
    const VOID *Va = IopMapFirmwareMemory(Address, sizeof(*Header));
    if (Va == NULL) {
        return FALSE;
    }
    RtlCopyMemory(Header, Va, sizeof(*Header));
    IopUnmapFirmwareMemory(Va, sizeof(*Header));
    return TRUE;
}

static BOOLEAN IopHasSignature(const ACPI_HEADER *Header, PCSTR Signature)
{
    return RtlEqualMemory(Header->Signature, Signature, ACPI_SIGNATURE_CHARS);
}

static BOOLEAN IopSumsToZero(const VOID *Buffer, ULONG ByteCount)
{
    const UCHAR *Bytes = Buffer;
    UCHAR Sum = 0;
    for (ULONG Index = 0; Index < ByteCount; Index += 1) {
        Sum = (UCHAR)(Sum + Bytes[Index]);
    }
    return Sum == 0;
}

static const ACPI_HEADER *IopMapTableAt(ULONG64 Address, const ACPI_HEADER *Header)
{
    if (Header->Length < sizeof(*Header) || Header->Length > ACPI_MAXIMUM_TABLE_BYTES) {
        DbgPrint("acpi: table %.4s at 0x%llx claims %u bytes and is ignored\n", Header->Signature,
                 Address, Header->Length);
        return NULL;
    }
    const ACPI_HEADER *Table = IopMapFirmwareMemory(Address, Header->Length);
    if (Table != NULL && !IopSumsToZero(Table, Header->Length)) {
        DbgPrint("acpi: table %.4s at 0x%llx has a wrong checksum and is ignored\n",
                 Header->Signature, Address);
        IopUnmapFirmwareMemory(Table, Header->Length);
        return NULL;
    }
    return Table;
}

VOID IopUnmapAcpiTable(const ACPI_HEADER *Table)
{
    IopUnmapFirmwareMemory(Table, Table->Length);
}

static const ACPI_HEADER *IopMapRootTable(const IOP_ROOT_TABLE *Root)
{
    ACPI_HEADER Header;
    if (Root->Address == 0 || !IopReadTableHeader(Root->Address, &Header)) {
        return NULL;
    }
    return IopHasSignature(&Header, Root->Signature) ? IopMapTableAt(Root->Address, &Header) : NULL;
}

static ULONG IopRootEntryCount(const ACPI_HEADER *RootTable)
{
    return (RootTable->Length - sizeof(*RootTable)) / IopRootTable.EntryBytes;
}

static ULONG64 IopRootEntry(const ACPI_HEADER *RootTable, ULONG Index)
{
    ULONG64 Address = 0;
    RtlCopyMemory(&Address,
                  (const UCHAR *)(RootTable + 1) + (SIZE_T)Index * IopRootTable.EntryBytes,
                  IopRootTable.EntryBytes);
    return Address;
}

const ACPI_HEADER *IopMapAcpiTable(PCSTR Signature)
{
    const ACPI_HEADER *RootTable = IopMapRootTable(&IopRootTable);
    if (RootTable == NULL) {
        return NULL;
    }
    const ACPI_HEADER *Table = NULL;
    for (ULONG Index = 0; Index < IopRootEntryCount(RootTable) && Table == NULL; Index += 1) {
        const ULONG64 Address = IopRootEntry(RootTable, Index);
        ACPI_HEADER Header;
        if (IopReadTableHeader(Address, &Header) && IopHasSignature(&Header, Signature)) {
            Table = IopMapTableAt(Address, &Header);
        }
    }
    IopUnmapAcpiTable(RootTable);
    return Table;
}

static VOID IopPrintTables(const ACPI_HEADER *RootTable)
{
    DbgPrint("acpi: %s at 0x%llx lists", IopRootTable.Signature, IopRootTable.Address);
    for (ULONG Index = 0; Index < IopRootEntryCount(RootTable); Index += 1) {
        ACPI_HEADER Header;
        if (IopReadTableHeader(IopRootEntry(RootTable, Index), &Header)) {
            DbgPrint(" %.4s", Header.Signature);
        }
    }
    DbgPrint("\n");
}

static BOOLEAN IopUseRootTable(ULONG64 Address, PCSTR Signature, ULONG EntryBytes)
{
    IopRootTable = (IOP_ROOT_TABLE){Address, Signature, EntryBytes};
    const ACPI_HEADER *RootTable = IopMapRootTable(&IopRootTable);
    if (RootTable == NULL) {
        IopRootTable.Address = 0;
        return FALSE;
    }
    IopPrintTables(RootTable);
    IopUnmapAcpiTable(RootTable);
    return TRUE;
}

VOID IopInitializeAcpi(const LOADER_BLOCK *LoaderBlock)
{
    ACPI_ROOT_POINTER Root;
    RtlCopyMemory(&Root, LoaderBlock->RootPointer.Bytes, sizeof(Root));
    if (!LoaderBlock->RootPointer.IsValid) {
        DbgPrint("acpi: firmware gave no valid root pointer: there are no tables\n");
        return;
    }
    if (Root.Revision >= 2 && IopUseRootTable(Root.XsdtAddress, "XSDT", sizeof(ULONG64))) {
        return;
    }
    if (!IopUseRootTable(Root.RsdtAddress, "RSDT", sizeof(ULONG))) {
        DbgPrint("acpi: the root table cannot be used: there are no tables\n");
    }
}
