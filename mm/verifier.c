// The verifier: what is checked at level 1 only.
//
// Three sorts of rules. The IRQL of a call, by one table. The state of an MDL, by its flags and its
// frames. And advice: what is allowed, but should not be done by a driver (executable memory,
// obsolete routines, memory below 4 GiB); that is asked of drivers only, since the kernel and its
// tests do it on purpose.
//
// A rule that is broken stops the machine with the documented code. The sentence says which rule it
// was, who called, who made the thing in question, and when.
//
// IRQL: any; it is what is checked. No locks here.
#include "mm/mi.h"

ULONG MmVerifierLevel;

#define MI_SENTENCE_BYTES 256

// Codes of our own, where the documentation has a rule and no code, far from all that it has.
#define MI_OUR_FREE_OF_LOCKED_MDL 0x10000001
#define MI_OUR_UNALIGNED_RESERVATION 0x10000002
#define MI_OUR_UNKNOWN_PRIORITY 0x10000003

#define MI_FOUR_GIB 0x100000000ull
#define MI_KNOWN_PRIORITY_BITS                                                                     \
    (0xFFFFu | MdlMappingNoWrite | MdlMappingNoExecute | MdlMappingWithGuardPtes)

static DECLSPEC_NORETURN VOID NTAPI MiStop(ULONG_PTR Rule, ULONG_PTR P2, ULONG_PTR P3, ULONG_PTR P4,
                                           PVOID Caller, PCSTR Format, ...)
{
    CHAR Sentence[MI_SENTENCE_BYTES];
    CHAR Who[MI_WHO_BYTES];
    __builtin_ms_va_list Arguments;
    __builtin_ms_va_start(Arguments, Format);
    RtlFormatBufferArguments(Sentence, sizeof(Sentence), Format, Arguments);
    __builtin_ms_va_end(Arguments);
    MiDescribeWho(Caller, 0, Who, sizeof(Who));
    MiBugCheck(DRIVER_VERIFIER_DETECTED_VIOLATION, Rule, P2, P3, P4, "%s; called by %s", Sentence,
               Who);
}

//
// IRQL.
//

#define MI_RULE_APC_LTE 0x20019
#define MI_RULE_DISPATCH 0x2001A
#define MI_RULE_ALLOCATE_POOL 0x20004

// The codes of the rules of the DDI have the rule's text as P2, the others the IRQL.
static const struct {
    PCSTR Routine;
    KIRQL MaximumIrql;
    ULONG Code;
} MiIrqlRules[] = {
    [MiIrqlMapIoSpace] = {"MmMapIoSpace", DISPATCH_LEVEL, 0x73},
    [MiIrqlUnmapIoSpace] = {"MmUnmapIoSpace", DISPATCH_LEVEL, 0x7B},
    [MiIrqlProbeAndLockPages] = {"MmProbeAndLockPages", DISPATCH_LEVEL, 0x70},
    [MiIrqlProbeAndLockProcessPages] = {"MmProbeAndLockProcessPages", DISPATCH_LEVEL, 0x71},
    [MiIrqlProbeAndLockSelectedPages] = {"MmProbeAndLockSelectedPages", DISPATCH_LEVEL, 0x72},
    [MiIrqlMapLockedPages] = {"MmMapLockedPages", DISPATCH_LEVEL, 0x74},
    [MiIrqlMapLockedPagesUser] = {"MmMapLockedPages", APC_LEVEL, 0x75},
    [MiIrqlMapLockedPagesSpecifyCache] = {"MmMapLockedPagesSpecifyCache", DISPATCH_LEVEL, 0x76},
    [MiIrqlMapLockedPagesSpecifyCacheUser] = {"MmMapLockedPagesSpecifyCache", APC_LEVEL, 0x77},
    [MiIrqlUnlockPages] = {"MmUnlockPages", DISPATCH_LEVEL, 0x78},
    [MiIrqlUnmapLockedPages] = {"MmUnmapLockedPages", DISPATCH_LEVEL, 0x79},
    [MiIrqlUnmapLockedPagesUser] = {"MmUnmapLockedPages", APC_LEVEL, 0x7A},
    [MiIrqlAllocatePagesForMdl] = {"MmAllocatePagesForMdl", DISPATCH_LEVEL, 0x7E},
    [MiIrqlFreePagesFromMdl] = {"MmFreePagesFromMdl", DISPATCH_LEVEL, 0x7E},
    [MiIrqlAllocateMdlForIoSpace] = {"MmAllocateMdlForIoSpace", DISPATCH_LEVEL, MI_RULE_DISPATCH},
    [MiIrqlIoAllocateMdl] = {"IoAllocateMdl", DISPATCH_LEVEL, MI_RULE_DISPATCH},
    [MiIrqlIoFreeMdl] = {"IoFreeMdl", DISPATCH_LEVEL, MI_RULE_DISPATCH},
    [MiIrqlIoBuildPartialMdl] = {"IoBuildPartialMdl", DISPATCH_LEVEL, MI_RULE_DISPATCH},
    [MiIrqlBuildMdlForNonPagedPool] = {"MmBuildMdlForNonPagedPool", DISPATCH_LEVEL,
                                       MI_RULE_DISPATCH},
    [MiIrqlAdvanceMdl] = {"MmAdvanceMdl", DISPATCH_LEVEL, MI_RULE_DISPATCH},
    [MiIrqlProtectMdlSystemAddress] = {"MmProtectMdlSystemAddress", DISPATCH_LEVEL,
                                       MI_RULE_DISPATCH},
    [MiIrqlMapMdl] = {"MmMapMdl", DISPATCH_LEVEL, MI_RULE_DISPATCH},
    [MiIrqlMapReserved] = {"MmMapLockedPagesWithReservedMapping", DISPATCH_LEVEL, MI_RULE_DISPATCH},
    [MiIrqlUnmapReserved] = {"MmUnmapReservedMapping", DISPATCH_LEVEL, MI_RULE_DISPATCH},
    [MiIrqlAllocateMappingAddress] = {"MmAllocateMappingAddress", APC_LEVEL, MI_RULE_APC_LTE},
    [MiIrqlFreeMappingAddress] = {"MmFreeMappingAddress", APC_LEVEL, MI_RULE_APC_LTE},
    [MiIrqlAllocateContiguous] = {"MmAllocateContiguousMemory", DISPATCH_LEVEL, MI_RULE_DISPATCH},
    [MiIrqlFreeContiguous] = {"MmFreeContiguousMemory", DISPATCH_LEVEL, MI_RULE_DISPATCH},
    [MiIrqlAllocateNonCached] = {"MmAllocateNonCachedMemory", APC_LEVEL, MI_RULE_APC_LTE},
    [MiIrqlFreeNonCached] = {"MmFreeNonCachedMemory", APC_LEVEL, MI_RULE_APC_LTE},
    [MiIrqlCopyMemory] = {"MmCopyMemory", APC_LEVEL, MI_RULE_APC_LTE},
    [MiIrqlMapVideoDisplay] = {"MmMapVideoDisplay", PASSIVE_LEVEL, MI_RULE_APC_LTE},
    [MiIrqlUnmapVideoDisplay] = {"MmUnmapVideoDisplay", PASSIVE_LEVEL, MI_RULE_APC_LTE},
    [MiIrqlGetPhysicalMemoryRanges] = {"MmGetPhysicalMemoryRanges", PASSIVE_LEVEL, MI_RULE_APC_LTE},
    [MiIrqlIsAddressValid] = {"MmIsAddressValid", DISPATCH_LEVEL, MI_RULE_DISPATCH},
    [MiIrqlAllocatePool] = {"ExAllocatePool", DISPATCH_LEVEL, MI_RULE_ALLOCATE_POOL},
    [MiIrqlAllocatePagedPool] = {"ExAllocatePool of paged pool", APC_LEVEL, MI_RULE_ALLOCATE_POOL},
};
C_ASSERT(ARRAYSIZE(MiIrqlRules) == MiIrqlRuleCount);

static PCSTR MiTextOfRule(ULONG Code)
{
    switch (Code) {
    case MI_RULE_APC_LTE:
        return "IrqlMmApcLte";
    case MI_RULE_DISPATCH:
        return "IrqlMmDispatch";
    case MI_RULE_ALLOCATE_POOL:
        return "IrqlExAllocatePool";
    default:
        return NULL;
    }
}

VOID MiVerifyIrql(MI_IRQL_RULE Rule, ULONG_PTR Third, ULONG_PTR Fourth, PVOID Caller)
{
    const KIRQL Irql = KeGetCurrentIrql();
    const ULONG Code = MiIrqlRules[Rule].Code;
    const PCSTR Text = MiTextOfRule(Code);
    if (Irql > MiIrqlRules[Rule].MaximumIrql) {
        MiStop(Code, Text != NULL ? (ULONG_PTR)Text : Irql, Text != NULL ? Irql : Third,
               Text != NULL ? 0 : Fourth, Caller,
               "%s is called at IRQL %u; it may be called up to IRQL %u%s%s",
               MiIrqlRules[Rule].Routine, Irql, MiIrqlRules[Rule].MaximumIrql,
               Text != NULL ? ", says the rule " : "", Text != NULL ? Text : "");
    }
}

//
// Advice for drivers.
//

#define MI_EXECUTABLE_PROTECTIONS                                                                  \
    (PAGE_EXECUTE | PAGE_EXECUTE_READ | PAGE_EXECUTE_READWRITE | PAGE_EXECUTE_WRITECOPY)

static VOID MiAdviseAgainstExecution(ULONG Protect, PVOID Caller)
{
    if ((Protect & MI_EXECUTABLE_PROTECTIONS) != 0 && KiIsDriverCode((ULONG_PTR)Caller)) {
        MiStop(0x2001, (ULONG_PTR)Caller, Protect, 0, Caller,
               "a driver asks for memory with the executable protection 0x%x", Protect);
    }
}

VOID MiVerifyProtection(MI_IRQL_RULE Rule, ULONG Protect, PVOID Caller)
{
    MiVerifyIrql(Rule, 0, 0, Caller);
    MiAdviseAgainstExecution(Protect, Caller);
}

VOID MiVerifyAllocatePool(MI_POOL_KIND Kind, ULONG64 Type, SIZE_T ByteCount, ULONG Tag,
                          PVOID Caller)
{
    MiVerifyIrql(Kind == MiPoolPaged ? MiIrqlAllocatePagedPool : MiIrqlAllocatePool, 0, 0, Caller);
    if (ByteCount == 0) {
        MiStop(0x00, KeGetCurrentIrql(), Type, ByteCount, Caller, "no bytes of pool are asked for");
    }
    if (Kind == MiPoolExecutable && KiIsDriverCode((ULONG_PTR)Caller)) {
        MiStop(0x2000, (ULONG_PTR)Caller, Type, Tag, Caller,
               "a driver asks for executable pool, %llu bytes with tag 0x%08x", ByteCount, Tag);
    }
}

//
// I/O space, contiguous memory.
//

static VOID MiVerifyRamIsLocked(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T ByteCount, PVOID Caller)
{
    MI_PFN_RANGE Range;
    MI_REASON Reason;
    if (!MiRangeFromBytes((ULONG64)PhysicalAddress.QuadPart, ByteCount, &Range, &Reason)) {
        return;
    }
    for (PFN_NUMBER Pfn = Range.FirstPfn; Pfn <= Range.LastPfn && Pfn < MiPfnDatabaseEnd;
         Pfn += 1) {
        // Page tables and the kernel itself are refused, at every level.
        if (MiIsFree(MiPfnState(Pfn))) {
            MiStop(0x83, (ULONG_PTR)PhysicalAddress.QuadPart, ByteCount, Pfn, Caller,
                   "MmMapIoSpace is to map %llu bytes from 0x%llx, but frame 0x%llx is RAM that "
                   "nobody has locked",
                   ByteCount, PhysicalAddress.QuadPart, Pfn);
        }
    }
}

// Registers that are cached by oversight: the protection says nothing of the cache, and that means
// cached.
static VOID MiWarnOfCachedDevice(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T ByteCount, ULONG Protect,
                                 PVOID Caller)
{
    MI_PFN_RANGE Range;
    MI_REASON Reason;
    if ((Protect & MI_CACHE_MODIFIERS) == 0 && KiIsDriverCode((ULONG_PTR)Caller) &&
        MiRangeFromBytes((ULONG64)PhysicalAddress.QuadPart, ByteCount, &Range, &Reason) &&
        MiIsIoSpace(Range, &Reason)) {
        CHAR Who[MI_WHO_BYTES];
        MiDescribeWho(Caller, 0, Who, sizeof(Who));
        DbgPrint("mm: verifier: device memory at 0x%llx is mapped cached by %s; PAGE_NOCACHE or "
                 "PAGE_WRITECOMBINE is missing\n",
                 PhysicalAddress.QuadPart, Who);
    }
}

VOID MiVerifyMapIoSpace(PHYSICAL_ADDRESS PhysicalAddress, SIZE_T ByteCount, ULONG Protect,
                        PVOID Caller)
{
    MiVerifyIrql(MiIrqlMapIoSpace, (ULONG_PTR)PhysicalAddress.QuadPart, ByteCount, Caller);
    MiAdviseAgainstExecution(Protect, Caller);
    MiVerifyRamIsLocked(PhysicalAddress, ByteCount, Caller);
    MiWarnOfCachedDevice(PhysicalAddress, ByteCount, Protect, Caller);
}

VOID MiVerifyUnmapIoSpace(PVOID BaseAddress, SIZE_T ByteCount, PVOID Caller)
{
    static PVOID LastWarned;
    MiVerifyIrql(MiIrqlUnmapIoSpace, (ULONG_PTR)BaseAddress, ByteCount, Caller);
    // The routine's own page allows DISPATCH_LEVEL, the list of the verifier's codes does not.
    if (KeGetCurrentIrql() == DISPATCH_LEVEL && LastWarned != Caller) {
        CHAR Who[MI_WHO_BYTES];
        LastWarned = Caller;
        MiDescribeWho(Caller, 0, Who, sizeof(Who));
        DbgPrint("mm: verifier: MmUnmapIoSpace is called at DISPATCH_LEVEL by %s; on Windows the "
                 "verifier may object\n",
                 Who);
    }
}

VOID MiVerifyAllocateContiguous(PHYSICAL_ADDRESS Highest, SIZE_T ByteCount, ULONG Protect,
                                PVOID Caller)
{
    MiVerifyProtection(MiIrqlAllocateContiguous, Protect, Caller);
    if ((ULONG64)Highest.QuadPart < MI_FOUR_GIB && KiIsDriverCode((ULONG_PTR)Caller)) {
        MiStop(
            0x141, (ULONG_PTR)Highest.QuadPart, ByteCount, 0, Caller,
            "a driver asks for contiguous memory below 4 GiB; a device that needs that tells its "
            "DMA adapter");
    }
}

//
// MDLs.
//

static ULONG_PTR MiFlagsOf(const MDL *Mdl)
{
    return (USHORT)Mdl->MdlFlags;
}

// ", which was locked by NvmeRead+0x12, 3 ms ago": what the records know of the MDL.
static VOID MiDescribeMdl(PMDL Mdl, PCHAR Buffer, SIZE_T ByteCount)
{
    static const struct {
        MI_TRACK_KIND Kind;
        PCSTR Verb;
    } Rows[] = {
        {MiTrackLockedPages, "locked"},
        {MiTrackPages, "allocated with its pages"},
        {MiTrackMdl, "allocated"},
    };
    MI_TRACK Track;
    CHAR Who[MI_WHO_BYTES];
    Buffer[0] = '\0';
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        if (MiFindTrack(Rows[Row].Kind, Mdl, &Track)) {
            MiDescribeWho(Track.Caller, Track.Time, Who, sizeof(Who));
            RtlFormatBuffer(Buffer, ByteCount, ", which was %s by %s", Rows[Row].Verb, Who);
            return;
        }
    }
}

static DECLSPEC_NORETURN VOID MiStopAtMdl(ULONG_PTR Rule, PMDL Mdl, ULONG_PTR P4, PVOID Caller,
                                          PCSTR Routine, PCSTR Complaint)
{
    CHAR History[MI_WHO_BYTES + 32];
    MiDescribeMdl(Mdl, History, sizeof(History));
    MiStop(Rule, (ULONG_PTR)Mdl, MiFlagsOf(Mdl), P4, Caller, "%s: the MDL at 0x%p%s%s %s", Routine,
           Mdl, History, History[0] != '\0' ? "," : "", Complaint);
}

// What an MDL may not be, or must be, before a routine takes it.
typedef struct _MI_MDL_RULE {
    ULONG Rule;
    USHORT Flags;
    BOOLEAN MustHave; // one of Flags; else none
    PCSTR Complaint;
} MI_MDL_RULE;

static VOID MiVerifyMdlState(PMDL Mdl, const MI_MDL_RULE *Rules, ULONG RuleCount, PCSTR Routine,
                             PVOID Caller)
{
    for (ULONG Row = 0; Row < RuleCount; Row += 1) {
        const ULONG_PTR Found = MiFlagsOf(Mdl) & Rules[Row].Flags;
        if (Rules[Row].MustHave && Found == 0) {
            MiStopAtMdl(Rules[Row].Rule, Mdl, Rules[Row].Flags, Caller, Routine,
                        Rules[Row].Complaint);
        }
        if (!Rules[Row].MustHave && Found != 0) {
            MiStopAtMdl(Rules[Row].Rule, Mdl, Found, Caller, Routine, Rules[Row].Complaint);
        }
    }
}

VOID MiVerifyProbeAndLock(MI_IRQL_RULE Rule, PMDL Mdl, ULONG_PTR Whose, PVOID Caller)
{
    MiVerifyIrql(Rule, (ULONG_PTR)Mdl, Whose, Caller);
    const MI_MDL_RULE State = {Rule == MiIrqlProbeAndLockProcessPages ? 0xB1 : 0xB0,
                               MI_UNLOCKABLE_FLAGS, FALSE,
                               "describes locked or nonpaged memory already"};
    MiVerifyMdlState(Mdl, &State, 1, MiIrqlRules[Rule].Routine, Caller);
}

VOID MiVerifyLockedFrames(PMDL Mdl, PVOID Caller)
{
    const PFN_NUMBER *Pfns = MmGetMdlPfnArray(Mdl);
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        if (MiPfnElement(Pfns[Page]) == NULL) {
            MiStop(0x6F, (ULONG_PTR)Mdl, Pfns[Page], MiHighestRamPfn(), Caller,
                   "the MDL at 0x%p is to lock frame 0x%llx, which is no RAM that the system knows",
                   Mdl, Pfns[Page]);
        }
    }
}

VOID MiVerifyUnlockPages(PMDL Mdl, PVOID Caller)
{
    static const MI_MDL_RULE Rules[] = {
        {0xB4, MDL_PARTIAL, FALSE, "is a partial one: its source owns the lock"},
        {0x7D, MDL_SOURCE_IS_NONPAGED_POOL, FALSE,
         "was built for nonpaged pool, and locks nothing"},
        {0x7C, MDL_PAGES_LOCKED, TRUE, "was never locked, or was unlocked already"},
    };
    MiVerifyIrql(MiIrqlUnlockPages, (ULONG_PTR)Mdl, 0, Caller);
    for (ULONG Row = 0; Row < ARRAYSIZE(Rules); Row += 1) {
        const BOOLEAN HasFlag = (MiFlagsOf(Mdl) & Rules[Row].Flags) != 0;
        if (HasFlag != Rules[Row].MustHave) {
            MiStopAtMdl(Rules[Row].Rule, Mdl, Rules[Row].Rule == 0xB4 ? MDL_PARTIAL : 0, Caller,
                        "MmUnlockPages", Rules[Row].Complaint);
        }
    }
}

// The frames of an MDL that is about to be mapped.
static VOID MiVerifyFrames(PMDL Mdl, PCSTR Routine, PVOID Caller)
{
    const PPFN_NUMBER Pfns = MmGetMdlPfnArray(Mdl);
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        const BOOLEAN IsRam = MiPfnElement(Pfns[Page]) != NULL;
        if (!IsRam && (Mdl->MdlFlags & MDL_IO_SPACE) == 0) {
            MiStop(0x89, (ULONG_PTR)Mdl, (ULONG_PTR)&Pfns[Page], Pfns[Page], Caller,
                   "%s: page %llu of the MDL at 0x%p is frame 0x%llx, which is no RAM, and the MDL "
                   "is not marked as I/O space",
                   Routine, Page, Mdl, Pfns[Page]);
        }
        if (IsRam && MiIsFree(MiPfnState(Pfns[Page]))) {
            MiStop(0x85, (ULONG_PTR)Mdl, PageCount, Pfns[Page], Caller,
                   "%s: page %llu of the MDL at 0x%p is frame 0x%llx, which nobody has locked",
                   Routine, Page, Mdl, Pfns[Page]);
        }
    }
}

static VOID MiVerifyMappable(PMDL Mdl, PCSTR Routine, PVOID Caller)
{
    static const MI_MDL_RULE Rules[] = {
        {0xB2, MI_UNMAPPABLE_FLAGS, FALSE, "has a system address already"},
        {0xB3, MDL_PAGES_LOCKED | MDL_PARTIAL, TRUE, "is not locked"},
    };
    MiVerifyMdlState(Mdl, Rules, ARRAYSIZE(Rules), Routine, Caller);
    MiVerifyFrames(Mdl, Routine, Caller);
}

VOID MiVerifyMapLockedPages(PMDL Mdl, KPROCESSOR_MODE AccessMode, PVOID Caller)
{
    MiVerifyIrql(AccessMode == KernelMode ? MiIrqlMapLockedPages : MiIrqlMapLockedPagesUser,
                 (ULONG_PTR)Mdl, (ULONG_PTR)AccessMode, Caller);
    if (KiIsDriverCode((ULONG_PTR)Caller)) {
        MiStopAtMdl(0x81, Mdl, 0, Caller, "MmMapLockedPages",
                    "is mapped by a routine that cannot fail; use MmMapLockedPagesSpecifyCache");
    }
    if (AccessMode == KernelMode) {
        MiVerifyMappable(Mdl, "MmMapLockedPages", Caller);
    }
}

static VOID MiAdviseOnMapping(PMDL Mdl, ULONG BugCheckOnFailure, ULONG Priority, PVOID Caller)
{
    if (!KiIsDriverCode((ULONG_PTR)Caller)) {
        return;
    }
    if (BugCheckOnFailure) {
        MiStopAtMdl(0x82, Mdl, 0, Caller, "MmMapLockedPagesSpecifyCache",
                    "is to be mapped or stop the machine; a driver must survive a failure");
    }
    if ((Priority & MdlMappingNoExecute) == 0) {
        MiStop(0x2002, (ULONG_PTR)Caller, Priority, 0, Caller,
               "a driver maps the MDL at 0x%p without MdlMappingNoExecute", Mdl);
    }
}

VOID MiVerifyMapLockedPagesSpecifyCache(PMDL Mdl, KPROCESSOR_MODE AccessMode,
                                        ULONG BugCheckOnFailure, ULONG Priority, PVOID Caller)
{
    MiVerifyIrql(AccessMode == KernelMode ? MiIrqlMapLockedPagesSpecifyCache
                                          : MiIrqlMapLockedPagesSpecifyCacheUser,
                 (ULONG_PTR)Mdl, (ULONG_PTR)AccessMode, Caller);
    if (AccessMode == KernelMode) {
        MiAdviseOnMapping(Mdl, BugCheckOnFailure, Priority, Caller);
        MiVerifyMappable(Mdl, "MmMapLockedPagesSpecifyCache", Caller);
    }
    if ((Priority & ~MI_KNOWN_PRIORITY_BITS) != 0) {
        MiStop(MI_OUR_UNKNOWN_PRIORITY, (ULONG_PTR)Mdl, Priority, 0, Caller,
               "MmMapLockedPagesSpecifyCache: the priority 0x%x has bits that mean nothing",
               Priority);
    }
}

VOID MiVerifyUnmapLockedPages(PVOID BaseAddress, PMDL Mdl, PVOID Caller)
{
    static const MI_MDL_RULE IsMapped = {0xB6, MDL_MAPPED_TO_SYSTEM_VA, TRUE, "is not mapped"};
    const BOOLEAN IsUser = (ULONG_PTR)BaseAddress < MiArchLayout[MiRegionDirectMap].BaseVa;
    MiVerifyIrql(IsUser ? MiIrqlUnmapLockedPagesUser : MiIrqlUnmapLockedPages,
                 (ULONG_PTR)BaseAddress, (ULONG_PTR)Mdl, Caller);
    if (IsUser) {
        MiStop(0xB9, (ULONG_PTR)BaseAddress, (ULONG_PTR)Mdl, 0, Caller,
               "MmUnmapLockedPages: 0x%p is a user address, and nothing is mapped there",
               BaseAddress);
    }
    // With a mapping of its own it is MmPrepareMdlForReuse that calls.
    if ((Mdl->MdlFlags & (MDL_PARTIAL | MDL_PARTIAL_HAS_BEEN_MAPPED)) == MDL_PARTIAL) {
        MiStopAtMdl(0xB5, Mdl, MDL_PARTIAL, Caller, "MmUnmapLockedPages",
                    "is a partial one, and its address is its source's");
    }
    MiVerifyMdlState(Mdl, &IsMapped, 1, "MmUnmapLockedPages", Caller);
}

typedef struct _MI_PTE_USE {
    PCSTR Owner;
    ULONG64 PageCount;
} MI_PTE_USE;

static VOID MiAddToUse(PMI_MAPPING Mapping, PVOID Context)
{
    MI_PTE_USE *Use = Context;
    const PCSTR Owner = KiFindCodeOwner((ULONG_PTR)Mapping->Caller);
    if (Owner != NULL && RtlStringsEqual(Owner, Use->Owner)) {
        Use->PageCount += Mapping->PageCount;
    }
}

VOID MiVerifyPtesLeft(ULONG64 FreePages, ULONG64 TotalPages, PVOID Caller)
{
    MI_PTE_USE Use = {KiFindCodeOwner((ULONG_PTR)Caller), 0};
    if (Use.Owner == NULL) {
        return;
    }
    MiEnumerateMappings(MiAddToUse, &Use);
    MiBugCheck(DRIVER_USED_EXCESSIVE_PTES, (ULONG_PTR)Use.Owner, Use.PageCount, FreePages,
               TotalPages,
               "an MDL cannot be mapped, and %s, which asked for a bug check instead of NULL, has "
               "%llu pages mapped already",
               Use.Owner, Use.PageCount);
}

VOID MiVerifyIoFreeMdl(PMDL Mdl, PVOID Caller)
{
    MiVerifyIrql(MiIrqlIoFreeMdl, 0, 0, Caller);
    const ULONG_PTR Flags = MiFlagsOf(Mdl);
    if ((Flags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL)) == MDL_MAPPED_TO_SYSTEM_VA) {
        MiStopAtMdl(0xB8, Mdl, 0, Caller, "IoFreeMdl", "is still mapped");
    }
    // Device memory is locked for as long as its MDL lives, and a driver may have set the flag by hand.
    if ((Flags & MDL_PAGES_LOCKED) != 0 && (MiIsMdlSealed(Mdl) || MiIsMdlLocked(Mdl))) {
        MiStopAtMdl(MI_OUR_FREE_OF_LOCKED_MDL, Mdl, 0, Caller, "IoFreeMdl",
                    "still has its pages locked");
    }
}

// Whether a page may change its frame, or lose it, while an MDL describes it. FALSE: *Rule says what
// to call it.
static BOOLEAN MiIsStable(ULONG_PTR Va, ULONG *Rule)
{
    PFN_NUMBER Pfn;
    if (!MiTranslate(Va, &Pfn)) {
        return TRUE; // the routine itself has a code for that
    }
    const MI_PFN_STATE State = MiPfnState(Pfn);
    *Rule = MiIsPagedPoolFrame(Pfn) ? 0x7F : 0x140;
    return *Rule != 0x7F && !MiIsFree(State) && State != MiPfnTable && !KiIsStackAddress(Va);
}

VOID MiVerifyBuildMdlForNonPagedPool(PMDL Mdl, PVOID Caller)
{
    const PFN_NUMBER PageCount = MiMdlPageCount(Mdl);
    MiVerifyIrql(MiIrqlBuildMdlForNonPagedPool, 0, 0, Caller);
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        const ULONG_PTR Va = (ULONG_PTR)Mdl->StartVa + (Page << PAGE_SHIFT);
        ULONG Rule = 0;
        if (!MiIsStable(Va, &Rule)) {
            MiStop(Rule, KeGetCurrentIrql(), (ULONG_PTR)Mdl, Rule == 0x7F ? MiFlagsOf(Mdl) : Va,
                   Caller, "MmBuildMdlForNonPagedPool: the MDL at 0x%p describes 0x%p, %s", Mdl, Va,
                   Rule == 0x7F ? "which is paged pool"
                                : "which is a stack, a page table or free memory: lock it instead");
        }
    }
}

VOID MiVerifyMapReserved(PVOID MappingAddress, PMDL Mdl, PVOID Caller)
{
    MiVerifyIrql(MiIrqlMapReserved, 0, 0, Caller);
    if (BYTE_OFFSET(MappingAddress) != 0) {
        MiStop(MI_OUR_UNALIGNED_RESERVATION, (ULONG_PTR)MappingAddress, (ULONG_PTR)Mdl, 0, Caller,
               "MmMapLockedPagesWithReservedMapping: 0x%p is not where a reservation begins",
               MappingAddress);
    }
    MiVerifyMappable(Mdl, "MmMapLockedPagesWithReservedMapping", Caller);
}

VOID MiPoisonFrames(PPFN_NUMBER Pfns, PFN_NUMBER PageCount)
{
    for (PFN_NUMBER Page = 0; Page < PageCount; Page += 1) {
        Pfns[Page] = MI_POISONED_PFN;
    }
}
