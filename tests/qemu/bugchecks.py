"""What a caller must never do, and the bug check that each misuse must end in: name of the guest's
test (tests/kernel/bugchecks.c), code, four parameters. One boot each.

ANNOUNCED: the guest prints the value before the misuse, as `# param 2 0x1000`.
ANY: a value that nobody outside can know (the address of an internal record).
"""

ANY = "*"
ANNOUNCED = "announced"

TAG = int.from_bytes(b"Buck", "little")
OTHER_TAG = int.from_bytes(b"Othr", "little")

PFN_STATE_MDL = 5  # MiPfnMdl
POISONED_FRAME = 0xFFFFFFFFFFFFFFFF
POOL_NX = 0x200
MUST_SUCCEED = 2
ASSERTION_FAILURE = 0xFFFFFFFFC0000420
DIVIDE_BY_ZERO = 0xFFFFFFFFC0000094
DIRECT_MAP = 0xFFFF800000000000
HIGH_LEVEL = 15
DISPATCH_LEVEL = 2
READ, WRITE, EXECUTE = 0, 2, 0x10  # 0x50, parameter 2
AT_IRQL_READ, AT_IRQL_WRITE, AT_IRQL_EXECUTE = 0, 1, 8  # 0x0A, parameter 3
FREED, NO_TABLE, NON_CANONICAL = 0, 2, 4  # 0x50, parameter 4
DOUBLE_FAULT = 8

PTE_MISUSE = 0xDA
MEMORY_MANAGEMENT = 0x1A
PFN_LIST_CORRUPT = 0x4E
NO_MORE_PTES = 0x3F
POOL_CALLER = 0xC2
POOL_HEADER = 0x19
PAGE_FAULT = 0x50
READ_ONLY = 0xBE
NO_EXECUTE = 0xFC
AT_IRQL = 0x0A

ROWS = (
    # MmUnmapIoSpace.
    ("UnmapIoSpaceTwice", PTE_MISUSE, 0x400, ANNOUNCED, 3, 0),
    ("UnmapIoSpaceUnknown", PTE_MISUSE, 0x400, ANNOUNCED, 1, 0),
    ("UnmapIoSpaceTooMuch", PTE_MISUSE, 0x305, ANNOUNCED, 4, 3),
    ("UnmapIoSpaceTooLittle", PTE_MISUSE, 0x305, ANNOUNCED, 2, 3),
    ("UnmapIoSpaceInside", PTE_MISUSE, 0x304, ANNOUNCED, 2, 0),
    ("UnmapIoSpaceZeroBytes", PTE_MISUSE, 0x300, ANNOUNCED, 0, 0),
    ("UnmapIoSpaceOfAnMdl", PTE_MISUSE, 0x301, ANNOUNCED, 0, 0),
    ("UnmapIoSpaceOfAReservation", PTE_MISUSE, 0x301, ANNOUNCED, 0, 0),

    # MmUnmapLockedPages.
    ("UnmapMdlNotMapped", PTE_MISUSE, 0x06, ANNOUNCED, ANNOUNCED, 2),
    ("UnmapMdlTwice", PTE_MISUSE, 0x06, ANNOUNCED, ANNOUNCED, 2),
    ("UnmapMdlOfAReservation", PTE_MISUSE, 0x301, ANNOUNCED, 0, 0),
    ("UnmapMdlChangedSize", PTE_MISUSE, 0x02, ANY, 3, 2),
    ("UnmapMdlWrongAddress", PTE_MISUSE, 0x03, ANY, ANNOUNCED, ANNOUNCED),
    ("UnmapMdlChangedFrame", PTE_MISUSE, 0x04, ANY, ANNOUNCED, ANNOUNCED),
    ("UnmapMdlChangedStartVa", PTE_MISUSE, 0x05, ANY, 0, 0x10000),

    # Reserved mappings.
    ("ReserveZeroBytes", PTE_MISUSE, 0x100, 0, TAG, ANNOUNCED),
    ("FreeReservationWrongTag", PTE_MISUSE, 0x101, ANNOUNCED, OTHER_TAG, TAG),
    ("FreeNoReservation", PTE_MISUSE, 0x102, ANNOUNCED, TAG, 0),
    ("FreeReservationTwice", PTE_MISUSE, 0x102, ANNOUNCED, TAG, 0),
    ("FreeReservationWhileMapped", PTE_MISUSE, 0x103, ANNOUNCED, TAG, 5),
    ("MapReservationWrongTag", PTE_MISUSE, 0x104, ANNOUNCED, OTHER_TAG, TAG),
    ("MapNoReservation", PTE_MISUSE, 0x105, ANNOUNCED, TAG, 0),
    ("MapInsideReservation", PTE_MISUSE, 0x105, ANNOUNCED, TAG, 0),
    ("MapReservationTwice", PTE_MISUSE, 0x107, ANNOUNCED, ANNOUNCED, ANNOUNCED),
    ("UnmapReservationWrongTag", PTE_MISUSE, 0x108, ANNOUNCED, OTHER_TAG, TAG),
    ("UnmapNoReservation", PTE_MISUSE, 0x109, ANNOUNCED, TAG, 0),
    ("UnmapReservationTooMany", PTE_MISUSE, 0x10A, ANNOUNCED, 3, 4),
    ("UnmapReservationNotMapped", PTE_MISUSE, 0x10B, ANNOUNCED, TAG, 2),
    ("UnmapReservationTwice", PTE_MISUSE, 0x10B, ANNOUNCED, TAG, 2),
    ("UnmapReservationPartly", PTE_MISUSE, 0x10C, ANNOUNCED, TAG, 1),
    ("UnmapReservationOtherMdl", PTE_MISUSE, 0x06, ANNOUNCED, ANNOUNCED, 2),

    # Frames.
    ("MapFreeFrame", MEMORY_MANAGEMENT, 0x1236, ANNOUNCED, ANNOUNCED, ANNOUNCED),
    ("MapFreeFrameIntoReservation", MEMORY_MANAGEMENT, 0x1236, ANNOUNCED, ANNOUNCED, ANNOUNCED),
    ("MapPageTableFrame", MEMORY_MANAGEMENT, 0x1236, ANNOUNCED, ANNOUNCED, ANNOUNCED),
    ("FreePagesTwice", MEMORY_MANAGEMENT, 0x1236, ANNOUNCED, ANNOUNCED, POISONED_FRAME),
    ("FreePagesOfPool", MEMORY_MANAGEMENT, 0x1236, ANNOUNCED, ANNOUNCED, ANNOUNCED),
    ("FreePagesStillMapped", PFN_LIST_CORRUPT, 0x9A, ANNOUNCED, PFN_STATE_MDL, 1),
    ("BuildMdlOverNothing", MEMORY_MANAGEMENT, 0x1240, ANNOUNCED, ANNOUNCED, 0),
    ("MapWithoutAddresses", NO_MORE_PTES, 0, 3, ANY, ANY),
    ("MapObsoleteWithoutAddresses", NO_MORE_PTES, 0, 3, ANY, ANY),

    # Pool.
    ("FreeBlockTwice", POOL_CALLER, 0x07, 0, TAG, ANNOUNCED),
    ("FreePagesOfPoolTwice", POOL_CALLER, 0x99, ANNOUNCED, 0, 0),
    ("FreeBlockWrongTag", POOL_CALLER, 0x0A, ANNOUNCED, TAG, OTHER_TAG),
    ("FreePagesOfPoolWrongTag", POOL_CALLER, 0x0A, ANNOUNCED, TAG, OTHER_TAG),
    ("FreeInsideBlock", POOL_CALLER, 0x99, ANNOUNCED, 0, 0),
    ("FreeKernelData", POOL_CALLER, 0x99, ANNOUNCED, 0, 0),
    ("FreeUserAddress", POOL_CALLER, 0x40, 0x10000, DIRECT_MAP, 0),
    ("FreeOverrunBlock", POOL_HEADER, 0x20, ANNOUNCED, ANNOUNCED, 0),
    ("AllocateAtHighLevel", POOL_CALLER, 0x08, HIGH_LEVEL, POOL_NX, 100),
    ("FreeAtHighLevel", POOL_CALLER, 0x09, HIGH_LEVEL, 0, ANNOUNCED),
    ("AllocateWithTagZero", POOL_CALLER, 0x9B, POOL_NX, 100, ANNOUNCED),
    ("AllocateWithTagBig", POOL_CALLER, 0x9C, POOL_NX, 100, ANNOUNCED),
    ("AllocateWithTagUnprintable", POOL_CALLER, 0x9D, POOL_NX, 100, ANNOUNCED),
    ("AllocateMustSucceed", POOL_CALLER, 0x9A, MUST_SUCCEED, 100, TAG),
    ("FreeMdlTwice", POOL_CALLER, 0x07, ANNOUNCED, 0, 0),
    ("FreeForeignMdl", POOL_CALLER, 0x99, ANNOUNCED, 0, 0),

    # Accesses.
    ("ReadReservation", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, FREED),
    ("WriteReservation", PAGE_FAULT, ANNOUNCED, WRITE, ANNOUNCED, FREED),
    ("ExecuteReservation", PAGE_FAULT, ANNOUNCED, EXECUTE, ANNOUNCED, FREED),
    ("ReadGuardPage", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, FREED),
    ("WriteBeforeReservation", PAGE_FAULT, ANNOUNCED, WRITE, ANNOUNCED, FREED),
    ("ReadAfterUnmap", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, FREED),
    ("ReadNull", PAGE_FAULT, 0, READ, ANNOUNCED, NO_TABLE),
    ("ReadNowhere", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, NO_TABLE),
    ("ReadNonCanonical", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, NON_CANONICAL),
    ("WriteNonCanonical", PAGE_FAULT, ANNOUNCED, WRITE, ANNOUNCED, NON_CANONICAL),
    ("ReadExecuteOnly", PAGE_FAULT, ANNOUNCED, READ, ANNOUNCED, FREED),
    ("WriteReadOnlyMapping", READ_ONLY, ANNOUNCED, ANNOUNCED, 0, 0),
    ("WriteReadOnlyLargeMapping", READ_ONLY, ANNOUNCED, ANNOUNCED, 0, 0),
    ("WriteKernelText", READ_ONLY, ANNOUNCED, ANNOUNCED, 0, 0),
    ("WriteSelfMap", READ_ONLY, ANNOUNCED, ANNOUNCED, 0, 0),
    ("ExecuteMapping", NO_EXECUTE, ANNOUNCED, ANNOUNCED, 0, 0),
    ("ExecutePool", NO_EXECUTE, ANNOUNCED, ANNOUNCED, 0, 0),
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
)

# Accesses whose dump must show the walk to the faulting address.
FAULTS_WITH_AN_ADDRESS = ("ReadReservation", "WriteReservation", "ReadGuardPage", "ReadAfterUnmap",
                          "ReadNull", "ReadNowhere", "ReadAtDispatch", "WriteAtDispatch")
