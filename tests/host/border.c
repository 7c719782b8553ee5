// The border: every exported routine that a test calls is entered through here, by the linker's
// --wrap, and so is every place of mm where frames and addresses become free. The watcher learns of
// calls that way, and what must hold when any routine returns is checked once, here, instead of in
// every test.
#include "tests/host/host.h"

#define BORDER(Result, Routine, Parameters, Arguments)                                             \
    Result NTAPI __real_##Routine Parameters;                                                      \
    Result NTAPI __wrap_##Routine Parameters;                                                      \
    Result NTAPI __wrap_##Routine Parameters                                                       \
    {                                                                                              \
        WatchBeginCall(#Routine);                                                                  \
        const Result Returned = __real_##Routine Arguments;                                        \
        WatchEndCall();                                                                            \
        return Returned;                                                                           \
    }

#define BORDER_VOID(Routine, Parameters, Arguments)                                                \
    VOID NTAPI __real_##Routine Parameters;                                                        \
    VOID NTAPI __wrap_##Routine Parameters;                                                        \
    VOID NTAPI __wrap_##Routine Parameters                                                         \
    {                                                                                              \
        WatchBeginCall(#Routine);                                                                  \
        __real_##Routine Arguments;                                                                \
        WatchEndCall();                                                                            \
    }

// A mapping that begins at Address has a page before and a page behind it where nothing is mapped.
static VOID CheckGuards(const CHAR *Routine, PVOID Address, SIZE_T ByteCount)
{
    const ULONG_PTR Va = (ULONG_PTR)PAGE_ALIGN(Address);
    const ULONG_PTR EndVa = (ULONG_PTR)PAGE_ALIGN((ULONG_PTR)Address + ByteCount + PAGE_SIZE - 1);
    if (Address != NULL && (FakeWalk(Va - PAGE_SIZE).Level != 0 || FakeWalk(EndVa).Level != 0)) {
        FAIL("%s maps 0x%llx-0x%llx without guard pages", Routine, Va, EndVa);
    }
}

#define BORDER_MAP(Routine, Parameters, Arguments, ByteCount)                                      \
    PVOID NTAPI __real_##Routine Parameters;                                                       \
    PVOID NTAPI __wrap_##Routine Parameters;                                                       \
    PVOID NTAPI __wrap_##Routine Parameters                                                        \
    {                                                                                              \
        WatchBeginCall(#Routine);                                                                  \
        const PVOID Returned = __real_##Routine Arguments;                                         \
        WatchEndCall();                                                                            \
        CheckGuards(#Routine, Returned, ByteCount);                                                \
        return Returned;                                                                           \
    }

BORDER_MAP(MmMapIoSpaceEx, (PHYSICAL_ADDRESS Base, SIZE_T Bytes, ULONG Protect),
           (Base, Bytes, Protect), Bytes)
BORDER_MAP(MmMapIoSpace, (PHYSICAL_ADDRESS Base, SIZE_T Bytes, MEMORY_CACHING_TYPE Type),
           (Base, Bytes, Type), Bytes)
BORDER_VOID(MmUnmapIoSpace, (PVOID Base, SIZE_T Bytes), (Base, Bytes))
BORDER_MAP(MmMapVideoDisplay, (PHYSICAL_ADDRESS Base, SIZE_T Bytes, MEMORY_CACHING_TYPE Type),
           (Base, Bytes, Type), Bytes)
BORDER_VOID(MmUnmapVideoDisplay, (PVOID Base, SIZE_T Bytes), (Base, Bytes))
BORDER(NTSTATUS, MmGetCacheAttribute, (PHYSICAL_ADDRESS Base, MEMORY_CACHING_TYPE *Type),
       (Base, Type))
BORDER(NTSTATUS, MmGetCacheAttributeEx,
       (PHYSICAL_ADDRESS Base, ULONG Flags, MEMORY_CACHING_TYPE *Type), (Base, Flags, Type))
BORDER(NTSTATUS, MmSetPermanentCacheAttribute,
       (PHYSICAL_ADDRESS Base, LARGE_INTEGER Bytes, MEMORY_CACHING_TYPE Type, ULONG Flags),
       (Base, Bytes, Type, Flags))
BORDER(LOGICAL, MmIsIoSpaceActive, (PHYSICAL_ADDRESS Base, SIZE_T Bytes), (Base, Bytes))
BORDER(PHYSICAL_ADDRESS, MmGetPhysicalAddress, (PVOID Va), (Va))
BORDER(BOOLEAN, MmIsAddressValid, (PVOID Va), (Va))
BORDER(PPHYSICAL_MEMORY_RANGE, MmGetPhysicalMemoryRanges, (VOID), ())
BORDER(PPHYSICAL_MEMORY_RANGE, MmGetPhysicalMemoryRangesEx, (PVOID Partition), (Partition))
BORDER(PPHYSICAL_MEMORY_RANGE, MmGetPhysicalMemoryRangesEx2, (PVOID Partition, ULONG Flags),
       (Partition, Flags))
BORDER(PVOID, MmGetVirtualForPhysical, (PHYSICAL_ADDRESS Address), (Address))
BORDER(NTSTATUS, MmCopyMemory,
       (PVOID Target, MM_COPY_ADDRESS Source, SIZE_T Bytes, ULONG Flags, PSIZE_T Copied),
       (Target, Source, Bytes, Flags, Copied))

BORDER(PVOID, MmAllocateContiguousMemory, (SIZE_T Bytes, PHYSICAL_ADDRESS Highest),
       (Bytes, Highest))
BORDER(PVOID, MmAllocateContiguousMemorySpecifyCache,
       (SIZE_T Bytes, PHYSICAL_ADDRESS Lowest, PHYSICAL_ADDRESS Highest, PHYSICAL_ADDRESS Boundary,
        MEMORY_CACHING_TYPE Type),
       (Bytes, Lowest, Highest, Boundary, Type))
BORDER(PVOID, MmAllocateContiguousMemorySpecifyCacheNode,
       (SIZE_T Bytes, PHYSICAL_ADDRESS Lowest, PHYSICAL_ADDRESS Highest, PHYSICAL_ADDRESS Boundary,
        MEMORY_CACHING_TYPE Type, NODE_REQUIREMENT Node),
       (Bytes, Lowest, Highest, Boundary, Type, Node))
BORDER(PVOID, MmAllocateContiguousNodeMemory,
       (SIZE_T Bytes, PHYSICAL_ADDRESS Lowest, PHYSICAL_ADDRESS Highest, PHYSICAL_ADDRESS Boundary,
        ULONG Protect, NODE_REQUIREMENT Node),
       (Bytes, Lowest, Highest, Boundary, Protect, Node))
BORDER(NTSTATUS, MmAllocateContiguousMemoryEx,
       (PSIZE_T Bytes, PHYSICAL_ADDRESS Lowest, PHYSICAL_ADDRESS Highest, PHYSICAL_ADDRESS Boundary,
        NODE_REQUIREMENT Node, ULONG Protect, PVOID Partition, ULONG Tag, ULONG Flags, PVOID *Base),
       (Bytes, Lowest, Highest, Boundary, Node, Protect, Partition, Tag, Flags, Base))
BORDER_VOID(MmFreeContiguousMemory, (PVOID Base), (Base))
BORDER_VOID(MmFreeContiguousMemorySpecifyCache,
            (PVOID Base, SIZE_T Bytes, MEMORY_CACHING_TYPE Type), (Base, Bytes, Type))
BORDER(PVOID, MmAllocateNonCachedMemory, (SIZE_T Bytes), (Bytes))
BORDER_VOID(MmFreeNonCachedMemory, (PVOID Base, SIZE_T Bytes), (Base, Bytes))

BORDER(NTSTATUS, MmAllocateMdlForIoSpace, (PMM_PHYSICAL_ADDRESS_LIST List, SIZE_T Count, PMDL *Mdl),
       (List, Count, Mdl))
BORDER(PMDL, IoAllocateMdl,
       (PVOID Va, ULONG Bytes, BOOLEAN Secondary, BOOLEAN Quota, struct _IRP *Irp),
       (Va, Bytes, Secondary, Quota, Irp))
BORDER_VOID(IoFreeMdl, (PMDL Mdl), (Mdl))
BORDER_VOID(MmBuildMdlForNonPagedPool, (PMDL Mdl), (Mdl))
BORDER_MAP(MmMapLockedPagesSpecifyCache,
           (PMDL Mdl, KPROCESSOR_MODE Mode, MEMORY_CACHING_TYPE Type, PVOID Wanted, ULONG BugCheck,
            ULONG Priority),
           (Mdl, Mode, Type, Wanted, BugCheck, Priority), Mdl->ByteCount)
BORDER_MAP(MmMapLockedPages, (PMDL Mdl, KPROCESSOR_MODE Mode), (Mdl, Mode), Mdl->ByteCount)
BORDER_VOID(MmUnmapLockedPages, (PVOID Base, PMDL Mdl), (Base, Mdl))

BORDER_VOID(IoBuildPartialMdl, (PMDL Source, PMDL Target, PVOID Va, ULONG Bytes),
            (Source, Target, Va, Bytes))
BORDER_VOID(MmUnlockPages, (PMDL Mdl), (Mdl))
BORDER(PMDL, MmCreateMdl, (PMDL Mdl, PVOID Base, SIZE_T Bytes), (Mdl, Base, Bytes))
BORDER(NTSTATUS, MmAdvanceMdl, (PMDL Mdl, ULONG Bytes), (Mdl, Bytes))
BORDER(NTSTATUS, MmProtectMdlSystemAddress, (PMDL Mdl, ULONG Protect), (Mdl, Protect))

BORDER(PMDL, MmAllocatePagesForMdl,
       (PHYSICAL_ADDRESS Low, PHYSICAL_ADDRESS High, PHYSICAL_ADDRESS Skip, SIZE_T Bytes),
       (Low, High, Skip, Bytes))
BORDER(PMDL, MmAllocatePagesForMdlEx,
       (PHYSICAL_ADDRESS Low, PHYSICAL_ADDRESS High, PHYSICAL_ADDRESS Skip, SIZE_T Bytes,
        MEMORY_CACHING_TYPE Type, ULONG Flags),
       (Low, High, Skip, Bytes, Type, Flags))
BORDER(PMDL, MmAllocateNodePagesForMdlEx,
       (PHYSICAL_ADDRESS Low, PHYSICAL_ADDRESS High, PHYSICAL_ADDRESS Skip, SIZE_T Bytes,
        MEMORY_CACHING_TYPE Type, ULONG Node, ULONG Flags),
       (Low, High, Skip, Bytes, Type, Node, Flags))
BORDER(PMDL, MmAllocatePartitionNodePagesForMdlEx,
       (PHYSICAL_ADDRESS Low, PHYSICAL_ADDRESS High, PHYSICAL_ADDRESS Skip, SIZE_T Bytes,
        MEMORY_CACHING_TYPE Type, ULONG Node, ULONG Flags, PVOID Partition),
       (Low, High, Skip, Bytes, Type, Node, Flags, Partition))
BORDER_VOID(MmFreePagesFromMdl, (PMDL Mdl), (Mdl))
BORDER_VOID(MmFreePagesFromMdlEx, (PMDL Mdl, ULONG Flags), (Mdl, Flags))

BORDER(PVOID, MmAllocateMappingAddress, (SIZE_T Bytes, ULONG Tag), (Bytes, Tag))
BORDER(PVOID, MmAllocateMappingAddressEx, (SIZE_T Bytes, ULONG Tag, ULONG Flags),
       (Bytes, Tag, Flags))
BORDER_VOID(MmFreeMappingAddress, (PVOID Base, ULONG Tag), (Base, Tag))
BORDER_MAP(MmMapLockedPagesWithReservedMapping,
           (PVOID Base, ULONG Tag, PMDL Mdl, MEMORY_CACHING_TYPE Type), (Base, Tag, Mdl, Type),
           Mdl->ByteCount)
BORDER_VOID(MmUnmapReservedMapping, (PVOID Base, ULONG Tag, PMDL Mdl), (Base, Tag, Mdl))

BORDER(PVOID, ExAllocatePool2, (POOL_FLAGS Flags, SIZE_T Bytes, ULONG Tag), (Flags, Bytes, Tag))
BORDER(PVOID, ExAllocatePoolWithTag, (POOL_TYPE Type, SIZE_T Bytes, ULONG Tag), (Type, Bytes, Tag))
BORDER(PVOID, ExAllocatePool, (POOL_TYPE Type, SIZE_T Bytes), (Type, Bytes))
BORDER(PVOID, ExAllocatePoolWithTagPriority,
       (POOL_TYPE Type, SIZE_T Bytes, ULONG Tag, EX_POOL_PRIORITY Priority),
       (Type, Bytes, Tag, Priority))
BORDER(PVOID, ExAllocatePool3,
       (POOL_FLAGS Flags, SIZE_T Bytes, ULONG Tag, PCPOOL_EXTENDED_PARAMETER Parameters,
        ULONG Count),
       (Flags, Bytes, Tag, Parameters, Count))
BORDER_VOID(ExFreePool2,
            (PVOID Block, ULONG Tag, PCPOOL_EXTENDED_PARAMETER Parameters, ULONG Count),
            (Block, Tag, Parameters, Count))
BORDER_VOID(ExFreePool, (PVOID Block), (Block))
BORDER_VOID(ExFreePoolWithTag, (PVOID Block, ULONG Tag), (Block, Tag))

//
// A routine that raises does not return: its call ends where it raises.
//

DECLSPEC_NORETURN VOID __real_KiRaiseStatus(PCSTR Routine, NTSTATUS Status, const VOID *Caller);
DECLSPEC_NORETURN VOID __wrap_KiRaiseStatus(PCSTR Routine, NTSTATUS Status, const VOID *Caller);
DECLSPEC_NORETURN VOID __wrap_KiRaiseStatus(PCSTR Routine, NTSTATUS Status, const VOID *Caller)
{
    WatchEndCalls();
    __real_KiRaiseStatus(Routine, Status, Caller);
}

//
// Places inside mm.
//

VOID __real_MiFreeFrame(PFN_NUMBER Pfn);
VOID __wrap_MiFreeFrame(PFN_NUMBER Pfn);
VOID __wrap_MiFreeFrame(PFN_NUMBER Pfn)
{
    WatchFreeFrame(Pfn);
    __real_MiFreeFrame(Pfn);
}

VOID __real_MiReleaseSystemVa(MI_REGION Region, ULONG_PTR Va, PFN_NUMBER PageCount,
                              PFN_NUMBER LeadingGuardPages);
VOID __wrap_MiReleaseSystemVa(MI_REGION Region, ULONG_PTR Va, PFN_NUMBER PageCount,
                              PFN_NUMBER LeadingGuardPages);
VOID __wrap_MiReleaseSystemVa(MI_REGION Region, ULONG_PTR Va, PFN_NUMBER PageCount,
                              PFN_NUMBER LeadingGuardPages)
{
    WatchFreeAddresses(Va, PageCount);
    __real_MiReleaseSystemVa(Region, Va, PageCount, LeadingGuardPages);
}

//
// For tests.
//

VOID HostAudit(VOID)
{
    WatchAudit();
    HostForgetPrinted();
    if (MmVerify() != 0) {
        FAIL("MmVerify: %s", HostPrinted());
    }
}

VOID HostCheckSameUse(const MM_MEMORY_USE *Before, const CHAR *What)
{
    MM_MEMORY_USE Now;
    MmQueryMemoryUse(&Now);
#define SAME(Member)                                                                               \
    if (Now.Member != Before->Member) {                                                            \
        FAIL("%s: " #Member " was %llu, is %llu", What, Before->Member, Now.Member);               \
    }
    SAME(PoolBlocks)
    SAME(MdlPages)
    SAME(DriverPages)
    SAME(DriverBlocks)
    SAME(ImagePages)
    SAME(Images)
    SAME(Mappings)
    SAME(SystemPtes)
    SAME(LedgerEntries)
    SAME(Claims)
    SAME(PoolPages)
#undef SAME
    // Tables are kept; nothing else may have taken free frames.
    if (Now.FreePages + Now.TablePages != Before->FreePages + Before->TablePages) {
        FAIL("%s: %llu free frames and tables were there, now %llu", What,
             Before->FreePages + Before->TablePages, Now.FreePages + Now.TablePages);
    }
}

VOID HostCheckRefusal(const CHAR *Words)
{
    CHAR Text[256];
    MmDescribeLastRefusal(Text, sizeof(Text));
    if (strstr(Text, Words) == NULL) {
        FAIL("the refusal says \"%s\", not \"...%s...\"", Text, Words);
    }
}

PMDL HostPagesMdl(PFN_NUMBER PageCount)
{
    const PMDL Mdl = MmAllocatePagesForMdl(Pa(0), Pa(MAXULONG64), Pa(0), PAGES(PageCount));
    CHECK(Mdl != NULL && MmGetMdlByteCount(Mdl) == PAGES(PageCount));
    return Mdl;
}

VOID HostFreePagesMdl(PMDL Mdl)
{
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
}
