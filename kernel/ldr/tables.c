// Tables that outlive the loading: the functions, for whoever walks a stack through the image, and
// the security cookie, which the image checks its own stack with.
#include "kernel/inc/ke.h"
#include "kernel/ldr/ldrp.h"

C_ASSERT(sizeof(LDRP_FUNCTION) == 12);

#define UNWIND_IS_ROW 0x1u // in UnwindData: the RVA of another row
#define UNWIND_VERSION_MASK 0x7
#define UNWIND_LAST_VERSION 2
#define UNWIND_HEADER_BYTES 4
#define UNWIND_FLAGS_SHIFT 3
#define UNWIND_FLAG_HANDLER 0x3 // for exceptions, for termination
#define UNWIND_FLAG_CHAINED 0x4

// The unwind information of a row lies in the image as a whole: header, codes in pairs, and what the
// flags say that follows.
static BOOLEAN LdrpIsUnwindDataWhole(const LDRP_LOAD *Load, ULONG Rva)
{
    const UCHAR *Header = LdrpAt(&Load->Image, Rva, UNWIND_HEADER_BYTES);
    if (Rva % sizeof(ULONG) != 0 || Header == NULL) {
        return FALSE;
    }
    const ULONG Version = Header[0] & UNWIND_VERSION_MASK;
    const ULONG Flags = Header[0] >> UNWIND_FLAGS_SHIFT;
    const ULONG CodeBytes = (((ULONG)Header[2] + 1) & ~1u) * (ULONG)sizeof(USHORT);
    const ULONG TailBytes = (Flags & UNWIND_FLAG_CHAINED) != 0   ? (ULONG)sizeof(LDRP_FUNCTION)
                            : (Flags & UNWIND_FLAG_HANDLER) != 0 ? (ULONG)sizeof(ULONG)
                                                                 : 0;
    return Version >= 1 && Version <= UNWIND_LAST_VERSION &&
           LdrpAt(&Load->Image, Rva, UNWIND_HEADER_BYTES + CodeBytes + TailBytes) != NULL;
}

NTSTATUS LdrpCheckFunctionTable(PLDRP_LOAD Load)
{
    const IMAGE_DATA_DIRECTORY Directory = LdrpDirectory(Load, IMAGE_DIRECTORY_ENTRY_EXCEPTION);
    const ULONG Count = Directory.Size / (ULONG)sizeof(LDRP_FUNCTION);
    if (Count == 0) {
        return STATUS_SUCCESS;
    }
    LDRP_REQUIRE(Load, Directory.VirtualAddress % sizeof(ULONG) == 0,
                 "the table of functions begins at 0x%x, which is not aligned",
                 Directory.VirtualAddress);
    const LDRP_FUNCTION *Rows =
        (const LDRP_FUNCTION *)(Load->Image.Bytes + Directory.VirtualAddress);
    ULONG Previous = 0;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        const LDRP_FUNCTION Row = Rows[Index];
        LDRP_REQUIRE(
            Load, Row.Begin >= Previous && Row.End > Row.Begin && Row.End <= Load->Image.ByteCount,
            "row %u of the table of functions, 0x%x-0x%x, is empty, out of order, or "
            "leaves the image",
            Index, Row.Begin, Row.End);
        const ULONG DataRva = Row.UnwindData & ~UNWIND_IS_ROW;
        LDRP_REQUIRE(Load,
                     (Row.UnwindData & UNWIND_IS_ROW) != 0
                         ? LdrpAt(&Load->Image, DataRva, sizeof(LDRP_FUNCTION)) != NULL
                         : LdrpIsUnwindDataWhole(Load, DataRva),
                     "the unwind information of the function at 0x%x is damaged", Row.Begin);
        Previous = Row.End;
    }
    Load->FunctionTable = (const struct _RUNTIME_FUNCTION *)(const VOID *)Rows;
    Load->FunctionCount = Count;
    return STATUS_SUCCESS;
}

//
// The security cookie.
//

#define DEFAULT_COOKIE 0x00002B992DDFA232ull
#define COOKIE_MASK 0x0000FFFFFFFFFFFFull // a text that overruns a buffer ends at a byte of zeroes

// Not to be guessed from outside, as far as a clock can provide for that.
static ULONG64 LdrpMakeCookie(ULONG64 Salt)
{
    ULONG64 Cookie = (KeReadCycles() ^ Salt) * 0x9E3779B97F4A7C15ull;
    Cookie = (Cookie ^ Cookie >> 32) & COOKIE_MASK;
    return Cookie == DEFAULT_COOKIE || Cookie == 0 ? DEFAULT_COOKIE + 1 : Cookie;
}

// An image without a load configuration, or with one that has no cookie, is left alone; and so is one
// whose cookie is not the default one any longer.
NTSTATUS LdrpSetSecurityCookie(const LDRP_LOAD *Load)
{
    const IMAGE_DATA_DIRECTORY Directory = LdrpDirectory(Load, IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG);
    const IMAGE_LOAD_CONFIG_DIRECTORY64 *Configuration =
        LdrpAt(&Load->Image, Directory.VirtualAddress, sizeof(*Configuration));
    if (Directory.Size == 0 || Configuration == NULL ||
        Configuration->Size < sizeof(*Configuration) || Configuration->SecurityCookie == 0) {
        return STATUS_SUCCESS;
    }
    const ULONG64 Rva = Configuration->SecurityCookie - (ULONG_PTR)Load->Image.Bytes;
    const PVOID Cookie = LdrpAt(&Load->Image, Rva, sizeof(ULONG64));
    LDRP_REQUIRE(Load, Cookie != NULL && LdrpIsInSectionWith(Load, Rva, IMAGE_SCN_MEM_WRITE),
                 "the security cookie at 0x%llx is not in writable memory of the image",
                 Configuration->SecurityCookie);
    if (LdrpReadUlong64(Cookie) == DEFAULT_COOKIE || LdrpReadUlong64(Cookie) == 0) {
        LdrpWriteUlong64(Cookie, LdrpMakeCookie((ULONG_PTR)Cookie));
    }
    return STATUS_SUCCESS;
}
