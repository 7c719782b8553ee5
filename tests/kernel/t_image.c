// The loader: drivers as images. The images are real ones, made by the driver kit of tests/drivers, and
// lie beside the kernel as boot modules; damaged ones are copies of these.
#include "kernel/inc/ke.h"
#include "kernel/inc/ldr.h"
#include "kernel/inc/rtl.h"
#include "tests/kernel/tests.h"

#define TAG 'gmIT'
#define REFUSAL_BYTES 1024

typedef NTSTATUS(NTAPI KT_ENTRY)(PVOID DriverObject, PVOID RegistryPath);
typedef ULONG(NTAPI KT_CHECK_ROUTINE)(VOID);

// Not every machine of the tests has them.
#define NEEDS_DRIVERS()                                                                            \
    do {                                                                                           \
        SIZE_T ByteCount_;                                                                         \
        if (LdrFindModule("ldrbare.sys", &ByteCount_) == NULL) {                                   \
            KT_SKIP("the tests' drivers are not beside this kernel");                              \
        }                                                                                          \
    } while (0)

static PLDR_IMAGE Load(PCSTR Name)
{
    PLDR_IMAGE Image = NULL;
    SIZE_T ByteCount = 0;
    const VOID *File = LdrFindModule(Name, &ByteCount);
    if (KT_CHECK(File != NULL)) {
        KT_EQUAL(LdrLoadImage(File, ByteCount, Name, &Image), STATUS_SUCCESS);
    }
    return Image;
}

static NTSTATUS CallEntry(const LDR_IMAGE *Image)
{
    return ((KT_ENTRY *)Image->EntryPoint)(NULL, NULL);
}

static BOOLEAN IsAccess(const VOID *Va, PCSTR Access)
{
    MM_PAGE_INFORMATION Page;
    MmQueryPage(Va, &Page);
    return Page.Level == 1 && RtlStringsEqual(Page.Access, Access) &&
           RtlStringsEqual(Page.CacheType, "WB");
}

static BOOLEAN IsRefusal(PCSTR Words)
{
    CHAR Text[REFUSAL_BYTES];
    LdrDescribeLastRefusal(Text, sizeof(Text));
    return RtlFindSubstring(Text, Words) != NULL;
}

// A copy of a module's file that a test may damage.
static PUCHAR CopyOf(PCSTR Name, PSIZE_T ByteCount)
{
    const VOID *File = LdrFindModule(Name, ByteCount);
    const PUCHAR Copy = File != NULL ? ExAllocatePool2(POOL_FLAG_NON_PAGED, *ByteCount, TAG) : NULL;
    if (Copy != NULL) {
        RtlCopyMemory(Copy, File, *ByteCount);
    }
    return Copy;
}

//
// Loading and running.
//

static VOID AnImageIsLoadedRunsAndGoes(VOID)
{
    NEEDS_DRIVERS();
    const PLDR_IMAGE Image = Load("ldrlarge.sys");
    KT_REQUIRE(Image != NULL);
    KT_CHECK(LdrFindImage(Image->Base) == Image);
    KT_CHECK(LdrFindImage(Image->Base + Image->ByteCount - 1) == Image);
    KT_CHECK(LdrFindImage(Image->Base - 1) == NULL);
    KT_CHECK(LdrFindImage(Image->Base + Image->ByteCount) == NULL);
    KT_CHECK(Image->FunctionTable != NULL && Image->FunctionCount > 600);
    KT_CHECK(RtlStringsEqual(KiFindCodeOwner(Image->EntryPoint), "ldrlarge.sys"));
    KT_CHECK(KiIsDriverCode(Image->EntryPoint));
    ULONG_PTR Offset = 0;
    KT_CHECK(RtlStringsEqual(KiFindSymbol(Image->EntryPoint, &Offset), "ldrlarge.sys"));
    KT_EQUAL(Offset, Image->EntryPoint - Image->Base);
    KT_EQUAL(CallEntry(Image), STATUS_SUCCESS);
    const ULONG_PTR Base = Image->Base;
    LdrUnloadImage(Image);
    KT_CHECK(LdrFindImage(Base) == NULL && KiFindCodeOwner(Base) == NULL);
    KT_CHECK(!MmIsAddressValid((PVOID)Base));
}

static VOID AnImageWithoutRelocationsIsLoadedAnywhere(VOID)
{
    NEEDS_DRIVERS();
    const PLDR_IMAGE Image = Load("ldrbare.sys");
    KT_REQUIRE(Image != NULL);
    KT_EQUAL(CallEntry(Image), STATUS_SUCCESS);
    LdrUnloadImage(Image);
}

static VOID AHundredLoadsLeaveNothingBehind(VOID)
{
    NEEDS_DRIVERS();
    for (ULONG Round = 0; Round < 100; Round += 1) {
        const PLDR_IMAGE Image = Load("ldrbare.sys");
        KT_REQUIRE(Image != NULL);
        LdrDiscardInitSections(Image);
        LdrUnloadImage(Image);
    }
}

static VOID EachSectionHasItsProtection(VOID)
{
    NEEDS_DRIVERS();
    const PLDR_IMAGE Library = Load("ldrlib.sys");
    const PLDR_IMAGE Image = Load("ldruser.sys");
    KT_REQUIRE(Library != NULL && Image != NULL);
    KT_CHECK(IsAccess((PVOID)Image->Base, "r--"));
    KT_CHECK(IsAccess((PVOID)Image->EntryPoint, "r-x"));
    KT_CHECK(IsAccess(LdrFindImageExport(Image, "LdrUserConstant"), "r--"));
    KT_CHECK(IsAccess(LdrFindImageExport(Image, "LdrUserVariable"), "rw-"));
    KT_CHECK(IsAccess(LdrFindImageExport(Image, "LdrUserZeroes"), "rw-"));
    KT_CHECK(IsAccess(LdrFindImageExport(Image, "LdrUserOnce"), "r-x"));
    for (SIZE_T At = 0; At < Image->ByteCount; At += PAGE_SIZE) {
        KT_CHECK(!IsAccess((PVOID)(Image->Base + At), "rwx"));
    }
    KE_PROBE_RESULT Result = KeProbeWrite(LdrFindImageExport(Image, "LdrUserConstant"), 1);
    KT_CHECK(Result.Faulted);
    Result = KeProbeExecute(LdrFindImageExport(Image, "LdrUserVariable"));
    KT_CHECK(Result.Faulted);
    LdrUnloadImage(Image);
    LdrUnloadImage(Library);
}

//
// Drivers that import from drivers.
//

static VOID ADriverImportsFromAnother(VOID)
{
    NEEDS_DRIVERS();
    const PLDR_IMAGE Library = Load("ldrlib.sys");
    const PLDR_IMAGE User = Load("ldruser.sys");
    KT_REQUIRE(Library != NULL && User != NULL);
    KT_CHECK_ROUTINE *const Check = LdrFindImageExport(User, "LdrUserCheck");
    KT_REQUIRE(Check != NULL);
    KT_EQUAL(Check(), 0);
    KT_CHECK(LdrFindImageExport(Library, "LdrLibLower") == NULL);
    KT_CHECK(LdrFindImageExport(Library, "Nothing") == NULL);
    LdrUnloadImage(Library); // the other one still needs it
    KT_EQUAL(Check(), 0);
    KT_CHECK(LdrFindImage(Library->Base) == Library);
    LdrUnloadImage(User);
    KT_CHECK(LdrFindImage(Library->Base) == NULL);
}

static VOID WithoutTheOtherDriverItIsRefused(VOID)
{
    NEEDS_DRIVERS();
    PLDR_IMAGE Image;
    SIZE_T ByteCount;
    const VOID *File = LdrFindModule("ldruser.sys", &ByteCount);
    KT_REQUIRE(File != NULL);
    const PUCHAR Copy = CopyOf("ldruser.sys", &ByteCount);
    KT_REQUIRE(Copy != NULL);
    for (SIZE_T At = 0; At + 6 < ByteCount; At += 1) {
        Copy[At] = RtlEqualMemory(Copy + At, "LDRLIB", 6) ? 'X' : Copy[At];
    }
    KT_EQUAL(LdrLoadImage(Copy, ByteCount, "ldruser.sys", &Image), STATUS_OBJECT_NAME_NOT_FOUND);
    KT_CHECK(Image == NULL);
    KT_CHECK(IsRefusal("LdrLibAnswer of XDRLIB.sys (not loaded)"));
    ExFreePoolWithTag(Copy, TAG);
}

static VOID TheOtherDriverIsLoadedAlong(VOID)
{
    NEEDS_DRIVERS();
    const PLDR_IMAGE User = Load("ldruser.sys");
    KT_REQUIRE(User != NULL);
    KT_EQUAL(((KT_CHECK_ROUTINE *)LdrFindImageExport(User, "LdrUserCheck"))(), 0);
    const PLDR_IMAGE Library = Load("ldrlib.sys"); // now it is asked for, too
    LdrUnloadImage(User);
    KT_CHECK(Library != NULL && LdrFindImage(Library->Base) == Library);
    LdrUnloadImage(Library);
}

//
// Refusals.
//

static VOID EveryMissingImportIsNamed(VOID)
{
    NEEDS_DRIVERS();
    PLDR_IMAGE Image;
    SIZE_T ByteCount;
    const VOID *File = LdrFindModule("ldrmissing.sys", &ByteCount);
    KT_REQUIRE(File != NULL);
    KT_EQUAL(LdrLoadImage(File, ByteCount, "ldrmissing.sys", &Image),
             STATUS_DRIVER_ENTRYPOINT_NOT_FOUND);
    KT_CHECK(IsRefusal("ldrmissing.sys: imports are missing: CcSetFileSizes of ntoskrnl.exe, "
                       "FsRtlNotifyUninitializeSync of ntoskrnl.exe"));
}

static VOID ANameIsLoadedOnce(VOID)
{
    NEEDS_DRIVERS();
    PLDR_IMAGE Second;
    SIZE_T ByteCount;
    const PLDR_IMAGE First = Load("ldrbare.sys");
    const VOID *File = LdrFindModule("ldrbare.sys", &ByteCount);
    KT_REQUIRE(First != NULL && File != NULL);
    KT_EQUAL(LdrLoadImage(File, ByteCount, "LDRBARE.SYS", &Second), STATUS_IMAGE_ALREADY_LOADED);
    KT_EQUAL(LdrLoadImage(File, ByteCount, "other.sys", &Second), STATUS_SUCCESS);
    KT_CHECK(Second != First && Second->Base != First->Base);
    LdrUnloadImage(Second);
    LdrUnloadImage(First);
}

// Places from the beginning of the NT headers on (sections: of the first header).
typedef struct _KT_DAMAGE {
    PCSTR Name;
    ULONG Offset;
    ULONG ByteCount;
    ULONG64 Value;
    PCSTR Words;
} KT_DAMAGE;

#define NT_SECTIONS 264
static const KT_DAMAGE Damages[] = {
    {"signature", 0, 4, 0x4551, "signature"},
    {"machine", 4, 2, 0x14C, "machine"},
    {"no sections", 6, 2, 0, "no sections"},
    {"very many sections", 6, 2, 0xFFFF, "section table"},
    {"optional header too short", 20, 2, 200, "too few"},
    {"not executable", 22, 2, 0x20, "executable"},
    {"PE32", 24, 2, 0x10B, "PE32+"},
    {"entry point in the headers", 40, 4, 0x100, "not in code"},
    {"no entry point", 40, 4, 0, "no entry point"},
    {"section alignment", 56, 4, 0x800, "aligned to 0x800"},
    {"file alignment", 60, 4, 3, "raw data is aligned"},
    {"size of image", 80, 4, 0xFFFFF000, "claims"},
    {"size of image too small", 80, 4, 0x2000, "behind the image's end"},
    {"size of headers", 84, 4, 0x10, "headers claim"},
    {"subsystem", 92, 2, 3, "subsystem"},
    {"import directory", 24 + 112 + 8, 4, 0xFFFFFFF0, "directory 1"},
    {"relocation directory", 24 + 112 + 40, 8, 0xFFFFFFFF00001000, "directory 5"},
    {"section overlaps", NT_SECTIONS + 40 + 12, 4, 0x1000, "overlaps"},
    {"section misaligned", NT_SECTIONS + 12, 4, 0x1010, "not aligned"},
    {"section wraps", NT_SECTIONS + 8, 4, 0xFFFFFFFF, "behind the image's end"},
    {"raw data beyond the file", NT_SECTIONS + 20, 4, 0xFFFFF000, "of the file"},
    {"raw data wraps", NT_SECTIONS + 16, 4, 0xFFFFFFFF, "of the file"},
    {"writable and executable", NT_SECTIONS + 36, 4, 0xE0000020, "writable and executable"},
};

static VOID DamagedHeadersAreRefused(VOID)
{
    NEEDS_DRIVERS();
    SIZE_T ByteCount = 0;
    const PUCHAR Copy = CopyOf("ldrlarge.sys", &ByteCount);
    KT_REQUIRE(Copy != NULL);
    const ULONG Headers = *(const ULONG *)(Copy + 0x3C);
    for (ULONG Row = 0; Row < ARRAYSIZE(Damages); Row += 1) {
        const KT_DAMAGE *Damage = &Damages[Row];
        PLDR_IMAGE Image;
        ULONG64 Whole = 0;
        KtSetContext("%s", Damage->Name);
        RtlCopyMemory(&Whole, Copy + Headers + Damage->Offset, Damage->ByteCount);
        RtlCopyMemory(Copy + Headers + Damage->Offset, &Damage->Value, Damage->ByteCount);
        KT_EQUAL(LdrLoadImage(Copy, ByteCount, "damaged.sys", &Image), STATUS_INVALID_IMAGE_FORMAT);
        KT_CHECK(Image == NULL && IsRefusal(Damage->Words));
        RtlCopyMemory(Copy + Headers + Damage->Offset, &Whole, Damage->ByteCount);
    }
    ExFreePoolWithTag(Copy, TAG);
}

static VOID TruncatedFilesAreRefused(VOID)
{
    NEEDS_DRIVERS();
    SIZE_T ByteCount;
    const VOID *File = LdrFindModule("ldrbare.sys", &ByteCount);
    KT_REQUIRE(File != NULL);
    for (SIZE_T Bytes = 0; Bytes < ByteCount - 512; Bytes += 251) {
        PLDR_IMAGE Image;
        KtSetContext("%llu bytes", (ULONG64)Bytes);
        KT_EQUAL(LdrLoadImage(File, Bytes, "short.sys", &Image), STATUS_INVALID_IMAGE_FORMAT);
    }
}

static VOID AnImageThatCannotMoveIsRefused(VOID)
{
    NEEDS_DRIVERS();
    SIZE_T ByteCount;
    PLDR_IMAGE Image;
    const PUCHAR Copy = CopyOf("ldrbare.sys", &ByteCount);
    KT_REQUIRE(Copy != NULL);
    const ULONG Headers = *(const ULONG *)(Copy + 0x3C);
    *(PUSHORT)(Copy + Headers + 22) |= 1; // relocations stripped
    KT_EQUAL(LdrLoadImage(Copy, ByteCount, "fixed.sys", &Image), STATUS_CONFLICTING_ADDRESSES);
    KT_CHECK(IsRefusal("because its relocations were stripped"));
    ExFreePoolWithTag(Copy, TAG);
}

static VOID LoadingSurvivesLackOfMemory(VOID)
{
    NEEDS_DRIVERS();
    SIZE_T ByteCount;
    const VOID *File = LdrFindModule("ldrbare.sys", &ByteCount);
    KT_REQUIRE(File != NULL);
    for (ULONG Skip = 0; Skip < 100; Skip += 1) {
        PLDR_IMAGE Image;
        MmStartFailures(MM_FAIL_ALL, Skip, 1);
        const NTSTATUS Status = LdrLoadImage(File, ByteCount, "ldrbare.sys", &Image);
        if (MmStopFailures() == 0) {
            KT_EQUAL(Status, STATUS_SUCCESS);
            LdrUnloadImage(Image);
            return;
        }
        KT_EQUAL(Status, STATUS_INSUFFICIENT_RESOURCES);
        KT_CHECK(Image == NULL);
    }
    KT_CHECK(FALSE);
}

//
// Discardable sections.
//

static VOID InitSectionsGo(VOID)
{
    NEEDS_DRIVERS();
    SIZE_T ByteCount;
    PLDR_IMAGE Image;
    const PLDR_IMAGE Library = Load("ldrlib.sys");
    const PUCHAR Copy = CopyOf("ldruser.sys", &ByteCount);
    KT_REQUIRE(Library != NULL && Copy != NULL);
    // Linkers for Windows make INIT writable, executable and discardable.
    PUCHAR Section = Copy + *(const ULONG *)(Copy + 0x3C) + NT_SECTIONS;
    while (!RtlEqualMemory(Section, "INIT", 4)) {
        Section += 40;
    }
    *(PULONG)(Section + 36) = 0xE2000020;
    KT_EQUAL(LdrLoadImage(Copy, ByteCount, "ldruser.sys", &Image), STATUS_SUCCESS);
    KT_REQUIRE(Image != NULL);
    const PVOID Once = LdrFindImageExport(Image, "LdrUserOnce");
    KT_CHECK(IsAccess(Once, "r-x"));
    KT_EQUAL(CallEntry(Image), STATUS_SUCCESS);
    LdrDiscardInitSections(Image);
    LdrDiscardInitSections(Image);
    KT_CHECK(!MmIsAddressValid(Once));
    KT_EQUAL(((KT_CHECK_ROUTINE *)LdrFindImageExport(Image, "LdrUserCheck"))(), 0);
    LdrUnloadImage(Image);
    LdrUnloadImage(Library);
    ExFreePoolWithTag(Copy, TAG);
}

static VOID ExportsAreFoundByName(VOID)
{
    UNICODE_STRING Known = RTL_CONSTANT_STRING(u"MmMapIoSpaceEx");
    UNICODE_STRING Prefix = RTL_CONSTANT_STRING(u"MmMapIoSpaceE");
    UNICODE_STRING Case = RTL_CONSTANT_STRING(u"mmMapIoSpaceEx");
    UNICODE_STRING Foreign = RTL_CONSTANT_STRING(u"MmMapIoSpac\u00e9");
    UNICODE_STRING Empty = {0, 0, NULL};
    KT_CHECK(MmGetSystemRoutineAddress(&Known) == (PVOID)MmMapIoSpaceEx);
    KT_CHECK(MmGetSystemRoutineAddress(&Prefix) == NULL);
    KT_CHECK(MmGetSystemRoutineAddress(&Case) == NULL);
    KT_CHECK(MmGetSystemRoutineAddress(&Foreign) == NULL);
    KT_CHECK(MmGetSystemRoutineAddress(&Empty) == NULL);
    KT_CHECK(LdrFindExport("DbgPrint") == (PVOID)DbgPrint);
}

static const KT_TEST Tests[] = {
    {"exports are found by name [20.2.1]", ExportsAreFoundByName},
    {"an image is loaded, runs, and goes [20.1.1]", AnImageIsLoadedRunsAndGoes},
    {"an image without relocations is loaded anywhere [20.1.1]",
     AnImageWithoutRelocationsIsLoadedAnywhere},
    {"each section has its own protection, and none is writable and executable [20.1.2]",
     EachSectionHasItsProtection},
    {"a driver imports from another one, which stays as long [20.2.2]", ADriverImportsFromAnother},
    {"without the other driver it is refused", WithoutTheOtherDriverItIsRefused},
    {"a driver that another one imports from is loaded along [20.2.3]",
     TheOtherDriverIsLoadedAlong},
    {"every missing import is named [20.2.4]", EveryMissingImportIsNamed},
    {"an image of a name is loaded once [20.1.6]", ANameIsLoadedOnce},
    {"damaged headers are refused, each with its reason [20.3.1]", DamagedHeadersAreRefused},
    {"truncated files are refused [20.3.2]", TruncatedFilesAreRefused},
    {"an image that cannot move is refused [20.1.3]", AnImageThatCannotMoveIsRefused},
    {"loading survives lack of memory [20.3.3]", LoadingSurvivesLackOfMemory},
    {"INIT sections go after the initialization [20.1.4]", InitSectionsGo},
    {"a hundred loads leave nothing behind [20.3.3]", AHundredLoadsLeaveNothingBehind},
};

const KT_SUITE KtImageSuite = {"image", KtNeedsNothing, Tests, ARRAYSIZE(Tests)};
