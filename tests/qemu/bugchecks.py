"""What a caller must never do, and the bug check that each misuse must end in: name of the guest's
test (tests/kernel/bugchecks.c), code, four parameters, and the clauses of the contract that the
boot proves beside the one of its bug check. One boot each.

ANNOUNCED: the guest prints the value before the misuse, as `# param 2 0x1000`.
ANY: a value that nobody outside can know (the address of an internal record).
"""

ANY = "*"
ANNOUNCED = "announced"

TAG = int.from_bytes(b"Buck", "little")
OTHER_TAG = int.from_bytes(b"Othr", "little")

PFN_STATE_POOL = 4  # MiPfnPool
PFN_STATE_MDL = 5  # MiPfnMdl
PFN_STATE_DRIVER = 8  # MiPfnDriver
MM_WRITE_COMBINED = 2
WRITE_BACK = 0  # MiCacheWriteBack
POISONED_FRAME = 0xFFFFFFFFFFFFFFFF
POOL_NX = 0x200
MUST_SUCCEED = 2
ASSERTION_FAILURE = 0xFFFFFFFFC0000420
ACCESS_VIOLATION = 0xFFFFFFFFC0000005
IN_PAGE_ERROR = 0xFFFFFFFFC0000006
DIVIDE_BY_ZERO = 0xFFFFFFFFC0000094
DIRECT_MAP = 0xFFFF800000000000
MUTANT_NOT_OWNED = 0xFFFFFFFFC0000046
MINUS_ONE = 0xFFFFFFFFFFFFFFFF
HIGH_LEVEL = 15
DISPATCH_LEVEL = 2
READ, WRITE, EXECUTE = 0, 2, 0x10  # 0x50, parameter 2
AT_IRQL_READ, AT_IRQL_WRITE, AT_IRQL_EXECUTE = 0, 1, 8  # 0x0A, parameter 3
FREED, NO_TABLE, NON_CANONICAL = 0, 2, 4  # 0x50, parameter 4
DOUBLE_FAULT = 8

PTE_MISUSE = 0xDA
MEMORY_MANAGEMENT = 0x1A
PFN_LIST_CORRUPT = 0x4E
LOCKED_PAGES = 0x76
INVALID_MDL_RANGE = 0x12E
TARGET_TOO_SMALL = 0x40
UNHANDLED = 0x1E
NO_MORE_PTES = 0x3F
POOL_CALLER = 0xC2
POOL_HEADER = 0x19
PAGE_FAULT = 0x50
READ_ONLY = 0xBE
NO_EXECUTE = 0xFC
AT_IRQL = 0x0A
SWITCH_FROM_DPC = 0xB8

ROWS = (
    # MmUnmapIoSpace.
    ("UnmapIoSpaceTwice", PTE_MISUSE, 0x400, ANNOUNCED, 3, 0, "4.3.3, 18.6"),
    ("UnmapIoSpaceInAnExample", PTE_MISUSE, 0x400, ANY, 1, 0, "4.3.3"),
    ("UnmapIoSpaceUnknown", PTE_MISUSE, 0x400, ANNOUNCED, 1, 0, "4.3.3"),
    ("UnmapIoSpaceTooMuch", PTE_MISUSE, 0x305, ANNOUNCED, 4, 3, "4.3.4, 18.6"),
    ("UnmapIoSpaceTooLittle", PTE_MISUSE, 0x305, ANNOUNCED, 2, 3, "4.3.4, 18.6"),
    ("UnmapIoSpaceInside", PTE_MISUSE, 0x304, ANNOUNCED, 2, 0, "4.3.6"),
    ("UnmapIoSpaceZeroBytes", PTE_MISUSE, 0x300, ANNOUNCED, 0, 0, "4.3.4"),
    ("UnmapIoSpaceOfAnMdl", PTE_MISUSE, 0x301, ANNOUNCED, 0, 0, "4.3.6"),
    ("UnmapIoSpaceOfAReservation", PTE_MISUSE, 0x301, ANNOUNCED, 0, 0, "4.3.6"),

    # MmUnmapLockedPages.
    ("UnmapMdlNotMapped", PTE_MISUSE, 0x06, ANNOUNCED, ANNOUNCED, 2, "6.10.3"),
    ("UnmapMdlTwice", PTE_MISUSE, 0x06, ANNOUNCED, ANNOUNCED, 2, "6.10.3"),
    ("UnmapMdlOfAReservation", PTE_MISUSE, 0x301, ANNOUNCED, 0, 0, "6.10.4"),
    ("UnmapMdlChangedSize", PTE_MISUSE, 0x02, ANY, 3, 2, "6.10.3"),
    ("UnmapMdlWrongAddress", PTE_MISUSE, 0x03, ANY, ANNOUNCED, ANNOUNCED, "6.10.3"),
    ("UnmapMdlChangedFrame", PTE_MISUSE, 0x04, ANY, ANNOUNCED, ANNOUNCED, "6.10.3"),
    ("UnmapMdlChangedStartVa", PTE_MISUSE, 0x05, ANY, 0, 0x10000, "6.10.3"),

    # Reserved mappings.
    ("ReserveZeroBytes", PTE_MISUSE, 0x100, 0, TAG, ANNOUNCED, "5.1.3, 18.11"),
    ("FreeReservationWrongTag", PTE_MISUSE, 0x101, ANNOUNCED, OTHER_TAG, TAG, "5.4.2, 18.13"),
    ("FreeNoReservation", PTE_MISUSE, 0x102, ANNOUNCED, TAG, 0, "5.4.3"),
    ("FreeReservationTwice", PTE_MISUSE, 0x102, ANNOUNCED, TAG, 0, "5.4.3"),
    ("FreeReservationWhileMapped", PTE_MISUSE, 0x103, ANNOUNCED, TAG, 5, "5.4.4, 18.13"),
    ("MapReservationWrongTag", PTE_MISUSE, 0x104, ANNOUNCED, OTHER_TAG, TAG, "5.2.7, 18.13"),
    ("MapNoReservation", PTE_MISUSE, 0x105, ANNOUNCED, TAG, 0, "5.2.8"),
    ("MapInsideReservation", PTE_MISUSE, 0x105, ANNOUNCED, TAG, 0, "5.2.8"),
    ("MapReservationTwice", PTE_MISUSE, 0x107, ANNOUNCED, ANNOUNCED, ANNOUNCED, "5.2.9, 18.13"),
    ("UnmapReservationWrongTag", PTE_MISUSE, 0x108, ANNOUNCED, OTHER_TAG, TAG, "5.3.3, 18.13"),
    ("UnmapNoReservation", PTE_MISUSE, 0x109, ANNOUNCED, TAG, 0, "5.3.4, 18.13"),
    ("UnmapReservationTooMany", PTE_MISUSE, 0x10A, ANNOUNCED, 3, 4, "5.3.5"),
    ("UnmapReservationNotMapped", PTE_MISUSE, 0x10B, ANNOUNCED, TAG, 2, "5.3.5, 18.13"),
    ("UnmapReservationTwice", PTE_MISUSE, 0x10B, ANNOUNCED, TAG, 2, "5.3.5, 18.13"),
    ("UnmapReservationPartly", PTE_MISUSE, 0x10C, ANNOUNCED, TAG, 1, "5.3.5"),
    ("UnmapReservationOtherMdl", PTE_MISUSE, 0x06, ANNOUNCED, ANNOUNCED, 2, "5.3.5"),

    # Frames.
    ("MapFreeFrame", MEMORY_MANAGEMENT, 0x1236, ANNOUNCED, ANNOUNCED, ANNOUNCED, "6.8.9"),
    ("MapFreeFrameIntoReservation", MEMORY_MANAGEMENT, 0x1236, ANNOUNCED, ANNOUNCED, ANNOUNCED,
     "6.8.9"),
    ("MapPageTableFrame", MEMORY_MANAGEMENT, 0x1236, ANNOUNCED, ANNOUNCED, ANNOUNCED, "6.8.9"),
    ("FreePagesTwice", MEMORY_MANAGEMENT, 0x1236, ANNOUNCED, ANNOUNCED, POISONED_FRAME, "7.3.3"),
    ("FreePagesOfPool", MEMORY_MANAGEMENT, 0x1236, ANNOUNCED, ANNOUNCED, ANNOUNCED, "7.3.3"),
    ("FreePagesStillMapped", PFN_LIST_CORRUPT, 0x9A, ANNOUNCED, PFN_STATE_MDL, 1, "7.3.4"),
    ("BuildMdlOverNothing", MEMORY_MANAGEMENT, 0x1240, ANNOUNCED, ANNOUNCED, 0, "6.5.4"),
    ("MapWithoutAddresses", NO_MORE_PTES, 0, 3, ANY, ANY, "6.8.6, 18.19"),
    ("MapObsoleteWithoutAddresses", NO_MORE_PTES, 0, 3, ANY, ANY, "6.9.1"),

    # Contiguous and non-cached memory.
    ("FreeContiguousUnknown", POOL_CALLER, 0x60, ANNOUNCED, 0, 0, "8.1.11, 18.24"),
    ("FreeContiguousTwice", POOL_CALLER, 0x60, ANNOUNCED, 0, 0, "8.1.11, 18.24"),
    ("FreeContiguousInside", POOL_CALLER, 0x60, ANNOUNCED, 0, 0, "8.1.11"),
    ("FreeContiguousWrongSize", POOL_CALLER, 0x60, ANNOUNCED, 0x1000, 0x2000, "8.1.12"),
    ("FreeContiguousWrongType", POOL_CALLER, 0x60, ANNOUNCED, MM_WRITE_COMBINED, WRITE_BACK,
     "8.1.12"),
    ("FreeContiguousStillMapped", PFN_LIST_CORRUPT, 0x9A, ANNOUNCED, PFN_STATE_DRIVER, 1, "8.1.11"),
    ("ReadFreedContiguous", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, FREED, "12.3.1"),
    ("FreeNonCachedWrongSize", PTE_MISUSE, 0x305, ANNOUNCED, 2, 3, "8.2.3"),
    ("FreeNonCachedTwice", PTE_MISUSE, 0x303, ANNOUNCED, 3, 0, "8.2.3"),
    ("FreeNonCachedInside", PTE_MISUSE, 0x304, ANNOUNCED, 1, 0, "8.2.3"),

    # Locked pages.
    ("UnlockTwice", LOCKED_PAGES, 1, ANNOUNCED, 0, 0, "6.7.3, 18.17"),
    ("UnlockPagesOfAnMdl", LOCKED_PAGES, 1, ANNOUNCED, 0, 0, "6.7.3"),
    ("UnlockCopy", LOCKED_PAGES, 1, ANNOUNCED, 1, 0, "6.7.3"),
    ("UnlockForeignFrame", PFN_LIST_CORRUPT, 0x07, ANNOUNCED, 0, 0, "6.7.3, 18.17"),
    ("FreeLockedPool", PFN_LIST_CORRUPT, 0x9A, ANNOUNCED, PFN_STATE_POOL, 1, "6.7.4"),

    # Parts of MDLs, and their protection.
    ("BuildPartOutside", INVALID_MDL_RANGE, ANNOUNCED, ANNOUNCED, ANNOUNCED, 0x1001,
     "6.3.3, 18.16"),
    ("BuildPartTooLarge", TARGET_TOO_SMALL, ANNOUNCED, 3, 1, 0, "6.3.4, 18.16"),
    ("ProtectChangedMdl", MEMORY_MANAGEMENT, 0x1235, ANNOUNCED, ANNOUNCED, ANNOUNCED),

    # Exceptions.
    ("RaiseUnhandled", UNHANDLED, IN_PAGE_ERROR, ANNOUNCED, 0, 0, "1.1.2"),
    ("RaiseInCatchUnhandled", UNHANDLED, ACCESS_VIOLATION, ANY, 0, 0, "1.1.2"),
    ("LockNothingUnhandled", UNHANDLED, ACCESS_VIOLATION, ANNOUNCED, 0, 0, "1.1.2, 6.6.3"),
    ("DriverRaisesUnhandled", UNHANDLED, 0xFFFFFFFFE0001234, ANY, 0, 0, "1.1.2"),
    ("DriverFaultsUnhandled", PAGE_FAULT, 0x3000, READ, ANY, NO_TABLE, "1.1.2"),
    ("DriverTriesKernelAddress", PAGE_FAULT, 0xFFFFA00000001000, READ, ANY, NO_TABLE, "1.1.5"),

    # Pool.
    ("FreeBlockTwice", POOL_CALLER, 0x07, 0, TAG, ANNOUNCED, "8.3.10"),
    ("FreePagesOfPoolTwice", POOL_CALLER, 0x99, ANNOUNCED, 0, 0, "8.3.10"),
    ("FreeBlockWrongTag", POOL_CALLER, 0x0A, ANNOUNCED, TAG, OTHER_TAG, "8.3.9"),
    ("FreePagesOfPoolWrongTag", POOL_CALLER, 0x0A, ANNOUNCED, TAG, OTHER_TAG, "8.3.9"),
    ("FreeInsideBlock", POOL_CALLER, 0x99, ANNOUNCED, 0, 0, "8.3.10"),
    ("FreeKernelData", POOL_CALLER, 0x99, ANNOUNCED, 0, 0, "8.3.10"),
    ("FreePageOfAnMdl", POOL_CALLER, 0x41, ANNOUNCED, ANNOUNCED, ANY, "8.3.10"),
    ("FreeUserAddress", POOL_CALLER, 0x40, 0x10000, DIRECT_MAP, 0, "8.3.10"),
    ("FreeOverrunBlock", POOL_HEADER, 0x20, ANNOUNCED, ANNOUNCED, 0, "8.3.10"),
    ("AllocateAtHighLevel", POOL_CALLER, 0x08, HIGH_LEVEL, POOL_NX, 100, "8.3.8"),
    ("FreeAtHighLevel", POOL_CALLER, 0x09, HIGH_LEVEL, 0, ANNOUNCED, "8.3.8"),
    ("AllocateWithTagZero", POOL_CALLER, 0x9B, POOL_NX, 100, ANNOUNCED, "8.3.5"),
    ("AllocateWithTagBig", POOL_CALLER, 0x9C, POOL_NX, 100, ANNOUNCED, "8.3.5"),
    ("AllocateWithTagUnprintable", POOL_CALLER, 0x9D, POOL_NX, 100, ANNOUNCED, "8.3.5"),
    ("AllocateMustSucceed", POOL_CALLER, 0x9A, MUST_SUCCEED, 100, TAG, "8.3.12"),
    ("FreeMdlTwice", POOL_CALLER, 0x07, ANNOUNCED, 0, 0, "6.2.4"),
    ("FreeForeignMdl", POOL_CALLER, 0x99, ANNOUNCED, 0, 0, "6.2.4"),

    # Accesses.
    ("ReadReservation", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, FREED, "5.1.2, 18.14"),
    ("WriteReservation", PAGE_FAULT, ANNOUNCED, WRITE, ANNOUNCED, FREED, "5.1.2, 18.14"),
    ("ExecuteReservation", PAGE_FAULT, ANNOUNCED, EXECUTE, ANNOUNCED, FREED, "5.1.2, 18.14"),
    ("ReadGuardPage", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, FREED, "2.3.4"),
    ("WriteBeforeReservation", PAGE_FAULT, ANNOUNCED, WRITE, ANNOUNCED, FREED, "5.1.6"),
    ("ReadAfterUnmap", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, FREED, "4.3.1"),
    ("ReadNull", PAGE_FAULT, 0, READ, ANNOUNCED, NO_TABLE),
    ("ReadNowhere", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, NO_TABLE),
    ("ReadNonCanonical", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, NON_CANONICAL),
    ("WriteNonCanonical", PAGE_FAULT, ANNOUNCED, WRITE, ANNOUNCED, NON_CANONICAL),
    ("ReadExecuteOnly", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, FREED, "2.2.3"),
    ("ReadInaccessible", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, FREED, "6.13.2"),
    ("WriteProtectedMdl", READ_ONLY, ANNOUNCED, ANNOUNCED, 0, 0, "6.13.1"),
    ("ReadPassedPage", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, FREED, "6.12.4"),
    ("WriteReadOnlyMapping", READ_ONLY, ANNOUNCED, ANNOUNCED, 0, 0, "4.2.2, 18.7"),
    ("ImageWritesItsConstants", READ_ONLY, ANNOUNCED, ANNOUNCED, 0, 0),
    ("ImageExecutesItsData", NO_EXECUTE, ANNOUNCED, ANNOUNCED, 0, 0),
    ("ImageCallsDiscardedCode", PAGE_FAULT, ANNOUNCED, EXECUTE, ANY, FREED),
    ("WriteReadOnlyLargeMapping", READ_ONLY, ANNOUNCED, ANNOUNCED, 0, 0, "4.2.2, 18.7"),
    ("WriteKernelText", READ_ONLY, ANNOUNCED, ANNOUNCED, 0, 0),
    ("WriteSelfMap", READ_ONLY, ANNOUNCED, ANNOUNCED, 0, 0),
    ("ExecuteMapping", NO_EXECUTE, ANNOUNCED, ANNOUNCED, 0, 0, "4.2.3, 18.7"),
    ("ExecutePool", NO_EXECUTE, ANNOUNCED, ANNOUNCED, 0, 0, "8.3.7"),
    ("ExecuteStack", NO_EXECUTE, ANNOUNCED, ANNOUNCED, 0, 0),
    ("ReadAtDispatch", AT_IRQL, ANNOUNCED, DISPATCH_LEVEL, AT_IRQL_READ, ANNOUNCED),
    ("WriteAtDispatch", AT_IRQL, ANNOUNCED, DISPATCH_LEVEL, AT_IRQL_WRITE, ANNOUNCED),
    ("ExecuteAtDispatch", AT_IRQL, ANNOUNCED, DISPATCH_LEVEL, AT_IRQL_EXECUTE, ANNOUNCED),

    # The processor, IRQL and locks.
    ("OverflowStack", 0x7F, DOUBLE_FAULT, 0, ANNOUNCED, 0),
    ("DivideByZero", 0x1E, DIVIDE_BY_ZERO, ANNOUNCED, 0, 0),
    ("RaiseToLower", 0x09, HIGH_LEVEL, DISPATCH_LEVEL, 0, ANNOUNCED),
    ("LowerToHigher", AT_IRQL, 0, DISPATCH_LEVEL, 0, ANNOUNCED),
    ("AcquireLockTwice", 0x0F, ANNOUNCED, 0, 0, 0),
    ("ReleaseFreeLock", 0x10, ANNOUNCED, 0, 0, 0),
    ("AcquireLocksInWrongOrder", 0x1E, ASSERTION_FAILURE, ANY, ANY, ANY),
    ("AcquireLockAtHighLevel", AT_IRQL, ANNOUNCED, HIGH_LEVEL, 0, 0),

    # The dispatcher.
    ("StopWithACallback", 0xE2, 0, 0, 0, 0),
    ("StopWhileOthersRun", 0xE2, 0, 0, 0, 0, "25.5.1"),
    ("StopWhileOthersStand", 0xE2, 0, 0, 0, 0),
    ("WaitAtDispatch", SWITCH_FROM_DPC, ANNOUNCED, 0, ANY, ANY),
    ("DelayAtDispatch", SWITCH_FROM_DPC, ANNOUNCED, 0, ANY, ANY),
    ("WaitInADpc", SWITCH_FROM_DPC, ANNOUNCED, 0, ANY, ANY),
    ("ReturnFromADpcAtAnotherIrql", 0xC8, 0, DISPATCH_LEVEL, ANNOUNCED, 0),
    ("AcquireFastMutexTwice", 0xBF, ANNOUNCED, ANNOUNCED, 0, 0),
    ("ReleaseFreeFastMutex", 0x11, ANNOUNCED, 0, ANNOUNCED, 0),
    ("AcquireFastMutexAtDispatch", AT_IRQL, 0, DISPATCH_LEVEL, 0, 0),
    ("ReleaseForeignMutex", UNHANDLED, MUTANT_NOT_OWNED, ANY, 0, 0),
    ("LeaveRegionThatWasNotEntered", 0x01, 0, 0, 0, 0),
    ("WaitForTooManyObjects", 0x0C, 4, 0, 0, 0),
    ("WaitForWhatIsNoObject", UNHANDLED, ASSERTION_FAILURE, ANY, ANY, 0),
    ("EndAThreadAtDispatch", 0x20, 0, 0, DISPATCH_LEVEL, 0),
    ("EndAThreadInACriticalRegion", 0x20, 0, MINUS_ONE, 0, 0),
    ("OverflowTheStackOfAThread", 0x7F, DOUBLE_FAULT, 0, ANY, 0),
    ("RaiseInAThread", UNHANDLED, ACCESS_VIOLATION, ANY, 0, 0),
    ("AcquireSpinLockTwice", 0x0F, ANNOUNCED, 0, 0, ANY),
    ("AcquireQueuedSpinLockTwice", 0x0F, ANNOUNCED, 0, 0, ANY),
    ("ReleaseFreeSpinLock", 0x10, ANNOUNCED, 0, 0, ANY),
    ("AcquireSpinLockAtPassive", 0x09, ANNOUNCED, 0, DISPATCH_LEVEL, ANY),

    # Interrupts.
    ("RaiseInDpc", UNHANDLED, IN_PAGE_ERROR, ANY, 0, 0, "1.1.9"),
    ("RaiseInInterrupt", UNHANDLED, ANY, ANY, ANY, ANY, "1.1.9"),
    ("InterruptLeavesIrqlRaised", 0xC8, HIGH_LEVEL, ANNOUNCED, ANNOUNCED, 0),
    ("ConnectAtDispatch", UNHANDLED, ASSERTION_FAILURE, ANY, ANY, ANY),

    # DMA: what would touch memory that is somebody else's.
    ("DmaFreeBufferTwiceAtLevel0", 0xE6, 0x03, 1, ANNOUNCED, ANNOUNCED),
    ("DmaFreeRegistersTwiceAtLevel0", 0xE6, 0x05, ANNOUNCED, ANNOUNCED, 0),
    ("DmaPutListTwiceAtLevel0", 0xE6, 0x06, 1, ANNOUNCED, ANNOUNCED, "9.4.10"),
    ("DmaUseReleasedAdapterAtLevel0", 0xE6, 0x18, ANNOUNCED, 0, 0),
    ("DmaUseNoAdapterAtLevel0", 0xE6, 0x19, 0, 0, 0),
    ("DmaFlushForeignBaseAtLevel0", 0xE6, 0x23, ANNOUNCED, ANNOUNCED, 0),
)

# --------------------------------------------------------------------------------------------------
# The verifier's rules: with verifier=1, and the second line names who called.

VERIFIER = 0xC4
APC, DISPATCH, ABOVE = 1, 2, 3
KERNEL_MODE, USER_MODE = 0, 1
MDL_MAPPED, MDL_LOCKED, MDL_NONPAGED, MDL_PARTIAL, MDL_WRITE = 0x1, 0x2, 0x4, 0x10, 0x80
APC_LTE, MM_DISPATCH, ALLOCATE_POOL = 0x20019, 0x2001A, 0x20004
CORRUPTION, FREED_BLOCK, BEYOND_BLOCK = 0xC1, 0xCC, 0xCD
DRIVER_FREED_BLOCK, DRIVER_BEYOND_BLOCK = 0xD5, 0xD6
LEFT_LOCKED_PAGES = 0xCB


def at_irql(routine, rule, irql=ABOVE, clauses="18.28"):
    """IRQL, then the first two arguments; or the text of a rule of the DDI, and the IRQL."""
    name = f"Irql{routine}"
    if rule in (APC_LTE, MM_DISPATCH, ALLOCATE_POOL):
        return name, VERIFIER, rule, ANY, irql, 0, clauses
    return name, VERIFIER, rule, irql, ANNOUNCED, ANNOUNCED, clauses


VERIFIER_ROWS = (
    at_irql("MmMapIoSpace", 0x73),
    at_irql("MmMapIoSpaceEx", 0x73),
    at_irql("MmUnmapIoSpace", 0x7B),
    at_irql("MmMapVideoDisplay", APC_LTE, APC, "4.9.2, 18.28"),
    at_irql("MmUnmapVideoDisplay", APC_LTE, APC, "4.9.2, 18.28"),
    at_irql("MmProbeAndLockPages", 0x70),
    at_irql("MmProbeAndLockProcessPages", 0x71),
    at_irql("MmProbeAndLockSelectedPages", 0x72),
    at_irql("MmMapLockedPages", 0x74),
    at_irql("MmMapLockedPagesUser", 0x75, DISPATCH),
    at_irql("MmMapLockedPagesSpecifyCache", 0x76),
    at_irql("MmMapLockedPagesSpecifyCacheUser", 0x77, DISPATCH),
    at_irql("MmUnlockPages", 0x78),
    at_irql("MmUnmapLockedPages", 0x79),
    at_irql("MmUnmapLockedPagesUser", 0x7A, DISPATCH),
    ("IrqlMmAllocatePagesForMdl", VERIFIER, 0x7E, ABOVE, 2, 0, "18.28"),
    ("IrqlMmAllocatePagesForMdlEx", VERIFIER, 0x7E, ABOVE, 2, 0, "18.28"),
    ("IrqlMmAllocateNodePagesForMdlEx", VERIFIER, 0x7E, ABOVE, 2, 0, "18.28"),
    ("IrqlMmFreePagesFromMdl", VERIFIER, 0x7E, ABOVE, 2, 0, "18.28"),
    ("IrqlMmFreePagesFromMdlEx", VERIFIER, 0x7E, ABOVE, 2, 0, "18.28"),
    at_irql("MmAllocateMdlForIoSpace", MM_DISPATCH),
    at_irql("IoAllocateMdl", MM_DISPATCH),
    at_irql("IoFreeMdl", MM_DISPATCH),
    at_irql("IoBuildPartialMdl", MM_DISPATCH),
    at_irql("MmBuildMdlForNonPagedPool", MM_DISPATCH),
    at_irql("MmAdvanceMdl", MM_DISPATCH),
    at_irql("MmProtectMdlSystemAddress", MM_DISPATCH),
    at_irql("MmMapMdl", MM_DISPATCH),
    at_irql("MmMapLockedPagesWithReservedMapping", MM_DISPATCH),
    at_irql("MmUnmapReservedMapping", MM_DISPATCH),
    at_irql("MmAllocateMappingAddress", APC_LTE, DISPATCH),
    at_irql("MmAllocateMappingAddressEx", APC_LTE, DISPATCH),
    at_irql("MmFreeMappingAddress", APC_LTE, DISPATCH),
    at_irql("MmIsAddressValid", MM_DISPATCH),
    at_irql("MmAllocateContiguousMemory", MM_DISPATCH),
    at_irql("MmAllocateContiguousMemorySpecifyCache", MM_DISPATCH),
    at_irql("MmAllocateContiguousMemorySpecifyCacheNode", MM_DISPATCH),
    at_irql("MmAllocateContiguousMemoryEx", MM_DISPATCH),
    at_irql("MmAllocateContiguousNodeMemory", MM_DISPATCH),
    at_irql("MmFreeContiguousMemory", MM_DISPATCH),
    at_irql("MmFreeContiguousMemorySpecifyCache", MM_DISPATCH),
    at_irql("MmAllocateNonCachedMemory", APC_LTE, DISPATCH),
    at_irql("MmFreeNonCachedMemory", APC_LTE, DISPATCH),
    at_irql("MmCopyMemory", APC_LTE, DISPATCH),
    at_irql("MmGetPhysicalMemoryRanges", APC_LTE, APC),
    at_irql("MmGetPhysicalMemoryRangesEx", APC_LTE, APC),
    at_irql("MmGetPhysicalMemoryRangesEx2", APC_LTE, APC),
    at_irql("ExAllocatePool2", ALLOCATE_POOL),
    at_irql("ExAllocatePoolWithTag", ALLOCATE_POOL),
    at_irql("ExAllocatePool2Paged", ALLOCATE_POOL, DISPATCH),

    # MDLs in the wrong state.
    ("LockDeviceMemory", VERIFIER, 0x6F, ANNOUNCED, 0xFEE00, ANY, "14.1"),
    ("LockTwice", VERIFIER, 0xB0, ANNOUNCED, ANNOUNCED, MDL_LOCKED, "14.1"),
    ("LockTwiceForProcess", VERIFIER, 0xB1, ANNOUNCED, ANNOUNCED, MDL_LOCKED, "14.1"),
    ("UnlockNeverLocked", VERIFIER, 0x7C, ANNOUNCED, ANNOUNCED, 0, "14.1"),
    ("UnlockNonPagedPool", VERIFIER, 0x7D, ANNOUNCED, ANNOUNCED, 0, "6.7.5, 14.1"),
    ("UnlockPartial", VERIFIER, 0xB4, ANNOUNCED, ANNOUNCED, MDL_PARTIAL, "6.7.5, 14.1"),
    ("BuildMdlOverPagedPool", VERIFIER, 0x7F, 0, ANNOUNCED, 0, "14.1"),
    ("BuildMdlOverStack", VERIFIER, 0x140, 0, ANNOUNCED, ANNOUNCED, "14.1"),
    ("MapUnlockedRam", VERIFIER, 0x83, ANNOUNCED, 100, ANNOUNCED, "14.1, 18.4"),
    ("MapUnlockedRamAsVideo", VERIFIER, 0x83, ANNOUNCED, 100, ANNOUNCED, "4.9.1"),
    ("MapUnlockedFrame", VERIFIER, 0x85, ANNOUNCED, 1, ANNOUNCED, "14.1"),
    ("MapUnmarkedDeviceMemory", VERIFIER, 0x89, ANNOUNCED, ANNOUNCED, ANNOUNCED, "14.1"),
    ("MapMdlTwice", VERIFIER, 0xB2, ANNOUNCED, ANNOUNCED, MDL_MAPPED, "14.1"),
    ("MapMdlNotLocked", VERIFIER, 0xB3, ANNOUNCED, 0, MDL_LOCKED | MDL_PARTIAL, "14.1"),
    ("MapWithUnknownPriority", VERIFIER, 0x10000003, ANNOUNCED, 1 << 20, 0, "14.1"),
    ("MapReservedUnaligned", VERIFIER, 0x10000002, ANNOUNCED, ANNOUNCED, 0, "14.1"),
    ("UnmapInheritedAddress", VERIFIER, 0xB5, ANNOUNCED, ANNOUNCED, MDL_PARTIAL, "14.1"),
    ("UnmapMdlNotMappedAtLevel1", VERIFIER, 0xB6, ANNOUNCED, ANNOUNCED, MDL_MAPPED, "14.1"),
    ("UnmapUserAddress", VERIFIER, 0xB9, 0x10000, ANNOUNCED, 0, "14.1"),
    ("UseUpAddresses", 0xD8, ANY, 1, ANY, ANY),
    ("FreeMappedMdl", VERIFIER, 0xB8, ANNOUNCED, ANNOUNCED, 0, "14.1"),
    ("FreeLockedMdl", VERIFIER, 0x10000001, ANNOUNCED, ANNOUNCED, 0, "14.1"),

    # Advice for drivers.
    ("DriverMapsOrStops", VERIFIER, 0x82, ANNOUNCED, ANNOUNCED, 0, "14.1"),
    ("DriverMapsTheOldWay", VERIFIER, 0x81, ANNOUNCED, ANNOUNCED, 0, "14.1"),
    ("DriverMapsExecutable", VERIFIER, 0x2002, ANNOUNCED, 16, 0, "14.1"),
    ("DriverMapsIoSpaceExecutable", VERIFIER, 0x2001, ANNOUNCED, 0x220, 0, "14.1"),
    ("DriverWantsLowMemory", VERIFIER, 0x141, 0xFFFFFFFF, 4096, 0, "14.1"),
    ("DriverWantsExecutableMemory", VERIFIER, 0x2001, ANNOUNCED, 0x40, 0, "14.1"),
    ("DriverWantsExecutablePool", VERIFIER, 0x2000, ANNOUNCED, 0, TAG, "14.1"),

    # Pool.
    ("AllocateNoBytes", VERIFIER, 0x00, 0, 0x40, 0, "14.1"),
    ("AllocateNoBytesTheOldWay", POOL_CALLER, 0x00, 0, POOL_NX, TAG),
    ("WriteBeyondBlock", BEYOND_BLOCK, ANNOUNCED, 1, ANY, 0, "14.2"),
    ("ReadFreedBlock", FREED_BLOCK, ANNOUNCED, 0, ANY, 0, "14.2"),
    ("DriverReadsFreedBlock", DRIVER_FREED_BLOCK, ANNOUNCED, 0, ANNOUNCED, 0, "14.2"),
    ("DriverReadsBeyondBlock", DRIVER_BEYOND_BLOCK, ANNOUNCED, 0, ANNOUNCED, 0, "14.2"),
    ("WriteBeforeBlock", CORRUPTION, ANNOUNCED, ANNOUNCED, 0, 0x23, "14.2"),
    ("WriteBehindBlock", CORRUPTION, ANNOUNCED, ANNOUNCED, 0, 0x24, "14.2"),
    ("FreeInsideSpecialBlock", CORRUPTION, ANNOUNCED, 0, 0, 0x21, "14.2"),
    ("FreeSpecialTwice", POOL_CALLER, 0x07, 0, TAG, ANNOUNCED, "14.2"),
    ("FreePagedPoolAtDispatch", POOL_CALLER, 0x09, DISPATCH, 1, ANNOUNCED),

    # Leaks.
    ("LeakPool", VERIFIER, 0x62, ANNOUNCED, 100 + 4096, 2, "14.6"),
    ("LeaveLockedPages", LEFT_LOCKED_PAGES, ANNOUNCED, 0, ANNOUNCED, 2, "14.6"),
)

# --------------------------------------------------------------------------------------------------
# DMA (tests/kernel/dmaviolations.c), with verifier=1. A map register is a page.

DMA = 0xE6
FOUR_PAGES, TWO_PAGES = 0x4000, 0x2000
TO_DEVICE = 1
WRITTEN = 0xEE

DMA_ROWS = (
    ("DmaFlushTooMuch", DMA, 0x00, 1, 0x1000, 0x1001, "18.25"),
    ("DmaMapTooMuch", DMA, 0x00, 2, 1, 0),
    ("DmaFreeBufferTwice", DMA, 0x03, 1, ANNOUNCED, ANNOUNCED),
    ("DmaFreeBufferOfOtherLength", DMA, 0x03, 1, 1000, 1001, "9.3.1"),
    ("DmaFreeChannelTwice", DMA, 0x04, ANNOUNCED, 1, 0),
    ("DmaFreeRegistersTwice", DMA, 0x05, ANNOUNCED, ANNOUNCED, 0),
    ("DmaPutListTwice", DMA, 0x06, 1, ANNOUNCED, ANNOUNCED, "9.4.10"),
    ("DmaPutWithBuffer", DMA, 0x07, ANNOUNCED, 1, ANY),
    ("DmaPutWithChannel", DMA, 0x08, ANNOUNCED, 1, ANY),
    ("DmaPutWithRegisters", DMA, 0x09, ANNOUNCED, 2, ANY),
    ("DmaPutWithList", DMA, 0x0A, ANNOUNCED, 1, ANY),
    ("DmaPutWithRequest", DMA, 0x11, ANNOUNCED, 1, ANY),
    ("DmaAllocateChannelTwice", DMA, 0x0B, 2, ANNOUNCED, ANNOUNCED),
    ("DmaAllocateTooManyRegisters", DMA, 0x0C, 5, 4, ANNOUNCED),
    ("DmaListOfTooManyPages", DMA, 0x15, 5, 4, ANNOUNCED),
    ("DmaFreeChannelUnflushed", DMA, 0x0D, 100, TWO_PAGES, ANNOUNCED, "18.25"),
    ("DmaMapExUnflushed", DMA, 0x0D, 100, TWO_PAGES, ANNOUNCED, "9.6.5, 18.25"),
    ("DmaMapUnlocked", DMA, 0x0E, ANNOUNCED, 0, 0),
    ("DmaWriteBeforeBuffer", DMA, 0x0F, 1, ANNOUNCED, WRITTEN),
    ("DmaWriteBehindBuffer", DMA, 0x0F, 2, ANNOUNCED, WRITTEN),
    ("DmaFreeRegistersMapped", DMA, 0x10, 100, TWO_PAGES, ANNOUNCED),
    ("DmaGetListAtPassive", DMA, 0x13, 1, DISPATCH, 0, "9.3.15"),
    ("DmaPutAtHighLevel", DMA, 0x13, 2, DISPATCH, HIGH_LEVEL, "9.3.15"),
    ("DmaFlushUnmapped", DMA, 0x16, ANNOUNCED, ANNOUNCED, 0),
    ("DmaFlushOtherDirection", DMA, 0x20, ANNOUNCED, ANNOUNCED, TO_DEVICE),
    ("DmaPutListOtherDirection", DMA, 0x20, ANNOUNCED, ANNOUNCED, TO_DEVICE, "9.4.10"),
    ("DmaUseReleasedAdapter", DMA, 0x18, ANNOUNCED, 0, 0),
    ("DmaUseNoAdapter", DMA, 0x19, 0, 0, 0),
    ("DmaMapOutside", DMA, 0x1B, ANNOUNCED, ANNOUNCED, 1),
    ("DmaMapTwice", DMA, 0x1D, ANNOUNCED, ANNOUNCED, ANNOUNCED),
    ("DmaGetObsoleteAdapter", DMA, 0x1E, ANNOUNCED, 0, 0),
    ("DmaListBefore", DMA, 0x1F, 1, ANNOUNCED, ANNOUNCED),
    ("DmaListBehind", DMA, 0x1F, 2, ANNOUNCED, ANNOUNCED),
    ("DmaMapNoBytes", DMA, 0x21, ANNOUNCED, ANNOUNCED, 0),
    ("DmaFlushForeignBase", DMA, 0x23, ANNOUNCED, ANNOUNCED, 0),
    ("DmaMapExBeyond", DMA, 0x24, 0x1000, ANNOUNCED, 0x1001),
    ("DmaUnknownVersion", DMA, 0x25, 4, ANNOUNCED, 0, "9.2.2"),
)

# The same with dma=bounce.
DMA_BOUNCE_ROWS = (
    ("DmaWriteFreeRegister", DMA, 0x0F, 3, ANY, WRITTEN),
    ("DmaWriteBeforeData", DMA, 0x0F, 4, ANY, WRITTEN),
    ("DmaWriteBehindData", DMA, 0x0F, 5, ANY, WRITTEN),
)

# Misuses by a driver of tests/drivers, with the sentence, which names it. The stack names it, too.
DRIVER_LINE = r"    0x[0-9a-f]{16} sehgcc\.sys\+0x[0-9a-f]+"
DRIVER_MISUSES = {
    "DriverRaisesUnhandled": (r"ExRaiseStatus, called by sehgcc\.sys\+0x[0-9a-f]+, raised status "
                              r"0xe0001234, and no handler encloses that call", DRIVER_LINE),
    "DriverFaultsUnhandled": (r"read of 0x0000000000003000 in sehgcc\.sys\+0x[0-9a-f]+: nothing is "
                              r"mapped there", r"  at 0x[0-9a-f]{16} sehgcc\.sys\+0x[0-9a-f]+"),
    "DriverLeavesTimer": (r"driver leaver was unloaded and leaves a timer that is set",),
    "DriverLeavesDpc": (r"driver leaver was unloaded and leaves a DPC that is queued",),
    "DriverLeavesWorkItem": (r"driver leaver was unloaded and leaves a work item that was not freed",),
    "DriverLeavesThread": (r"driver leaver was unloaded and leaves thread [0-9]+, which has not ended",),
    "DriverTriesKernelAddress": (r"read of 0xffffa00000001000 in sehgcc\.sys\+0x[0-9a-f]+",),
}

# Accesses whose dump must show the walk to the faulting address.
FAULTS_WITH_AN_ADDRESS = ("ReadReservation", "WriteReservation", "ReadGuardPage", "ReadAfterUnmap",
                          "ReadNull", "ReadNowhere", "ReadAtDispatch", "WriteAtDispatch",
                          "ReadFreedBlock", "DriverReadsBeyondBlock")

# --------------------------------------------------------------------------------------------------
# Objects and requests (tests/kernel/ioviolations.c), with verifier=1.

IO_MANAGER = 0xC9
UNLOADED, EXECUTION = 0xCE, 8

IO_ROWS = (
    ("IrpOfTheCallerFreed", IO_MANAGER, 0x1, ANNOUNCED, 0, 0),
    ("IrpOfAThreadFreed", IO_MANAGER, 0x2, ANNOUNCED, 0, 0),
    ("IrpDispatchLeavesIrqlRaised", IO_MANAGER, 0x5, ANNOUNCED, 0, DISPATCH_LEVEL),
    ("IrpCompletedAsPending", IO_MANAGER, 0x6, ANNOUNCED, 0x103, 0),
    ("IrpCompletedWithCancelRoutine", IO_MANAGER, 0x7, ANY, ANNOUNCED, 0),
    ("IrpCancelledAfterCompletion", 0x48, ANNOUNCED, ANY, 0, 0),
    ("ObjectDereferencedTooOften", 0x18, ANY, ANNOUNCED, 0, 0),
    ("HandleClosedTwice", 0x93, ANNOUNCED, 1, 0, 0),
    ("WorkItemQueuedTwice", 0xE4, 1, ANNOUNCED, ANY, 0),
    ("DriverLeavesTimer", UNLOADED, ANY, EXECUTION, ANY, 0),
    ("DriverLeavesDpc", UNLOADED, ANY, EXECUTION, ANY, 0),
    ("DriverLeavesWorkItem", UNLOADED, ANY, EXECUTION, ANY, 0),
    ("DriverLeavesThread", UNLOADED, ANY, EXECUTION, ANY, 0),
)
