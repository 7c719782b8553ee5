// A driver of about 100 KiB with many functions, imports and relocations, to measure the loader with.
#define ROUTINE(Number)                                                                            \
    static unsigned Routine##Number(unsigned Value)                                                \
    {                                                                                              \
        volatile unsigned Local[4] = {Value, Number##u, Value * 3, Value ^ 0x5A};                  \
        for (unsigned Index = 0; Index < 4; Index += 1) {                                          \
            Value = Value * 31 + Local[(Index + Value) % 4];                                       \
        }                                                                                          \
        return Value;                                                                              \
    }
#define ADDRESS(Number) Routine##Number,

#define TEN(Apply, Tens)                                                                           \
    Apply(Tens##0) Apply(Tens##1) Apply(Tens##2) Apply(Tens##3) Apply(Tens##4) Apply(Tens##5)      \
        Apply(Tens##6) Apply(Tens##7) Apply(Tens##8) Apply(Tens##9)
#define HUNDRED(Apply, H)                                                                          \
    TEN(Apply, H##0)                                                                               \
    TEN(Apply, H##1)                                                                               \
    TEN(Apply, H##2)                                                                               \
    TEN(Apply, H##3)                                                                               \
    TEN(Apply, H##4)                                                                               \
    TEN(Apply, H##5) TEN(Apply, H##6) TEN(Apply, H##7) TEN(Apply, H##8) TEN(Apply, H##9)
#define SIX_HUNDRED(Apply)                                                                         \
    HUNDRED(Apply, 1)                                                                              \
    HUNDRED(Apply, 2) HUNDRED(Apply, 3) HUNDRED(Apply, 4) HUNDRED(Apply, 5) HUNDRED(Apply, 6)

SIX_HUNDRED(ROUTINE)

typedef unsigned ROUTINE_TYPE(unsigned);
static ROUTINE_TYPE *const Routines[] = {SIX_HUNDRED(ADDRESS) SIX_HUNDRED(ADDRESS)};

// Their types do not matter: only their addresses are looked at.
#define IMPORTS(Apply)                                                                                \
    Apply(DbgPrint) Apply(ExAllocatePool2) Apply(ExAllocatePoolWithTag) Apply(ExFreePool) Apply(      \
        ExFreePoolWithTag) Apply(ExRaiseStatus) Apply(HalGetBusDataByOffset)                          \
        Apply(HalSetBusDataByOffset) Apply(IoAllocateIrp) Apply(IoAllocateMdl) Apply(                 \
            IoAttachDeviceToDeviceStack) Apply(IoBuildPartialMdl) Apply(IoCreateDevice)               \
            Apply(IoDeleteDevice) Apply(IoDetachDevice) Apply(IoFreeIrp) Apply(IoFreeMdl) Apply(      \
                IofCallDriver) Apply(IofCompleteRequest) Apply(KeAcquireSpinLockRaiseToDpc)           \
                Apply(KeBugCheckEx) Apply(KeQueryPerformanceCounter) Apply(KeReleaseSpinLock)         \
                    Apply(KeStallExecutionProcessor) Apply(MmAdvanceMdl) Apply(                       \
                        MmAllocateContiguousMemory) Apply(MmAllocateContiguousMemorySpecifyCache)     \
                        Apply(MmAllocateMappingAddress) Apply(MmAllocateNonCachedMemory) Apply(       \
                            MmAllocatePagesForMdl) Apply(MmAllocatePagesForMdlEx)                     \
                            Apply(MmBuildMdlForNonPagedPool) Apply(MmFreeContiguousMemory) Apply(     \
                                MmFreeContiguousMemorySpecifyCache) Apply(MmFreeMappingAddress)       \
                                Apply(MmFreeNonCachedMemory) Apply(MmFreePagesFromMdl) Apply(         \
                                    MmGetPhysicalAddress) Apply(MmGetPhysicalMemoryRanges)            \
                                    Apply(MmGetSystemRoutineAddress) Apply(MmIsAddressValid)          \
                                        Apply(MmIsIoSpaceActive) Apply(MmMapIoSpace) Apply(           \
                                            MmMapLockedPages) Apply(MmMapLockedPagesSpecifyCache)     \
                                            Apply(MmMapLockedPagesWithReservedMapping) Apply(         \
                                                MmProbeAndLockPages) Apply(MmProtectMdlSystemAddress) \
                                                Apply(MmSizeOfMdl) Apply(MmUnlockPages) Apply(        \
                                                    MmUnmapIoSpace) Apply(MmUnmapLockedPages)         \
                                                    Apply(MmUnmapReservedMapping) Apply(              \
                                                        ExAllocatePool) Apply(ExAllocatePool3)        \
                                                        Apply(ExFreePool2) Apply(                     \
                                                            ExRaiseAccessViolation)                   \
                                                            Apply(KeAcquireSpinLockAtDpcLevel) Apply( \
                                                                KeReleaseSpinLockFromDpcLevel)        \
                                                                Apply(KfRaiseIrql)                    \
                                                                    Apply(KeLowerIrql) Apply(         \
                                                                        MmMapIoSpaceEx)               \
                                                                        Apply(MmCopyMemory) Apply(    \
                                                                            MmGetVirtualForPhysical)

#define DECLARE(Name) void Name(void);
#define LIST(Name) Name,
IMPORTS(DECLARE)

typedef void IMPORT_TYPE(void);
static IMPORT_TYPE *const Imports[] = {IMPORTS(LIST)};

int DriverEntry(void *DriverObject, void *RegistryPath);
int DriverEntry(void *DriverObject, void *RegistryPath)
{
    unsigned Value = (unsigned)(unsigned long long)DriverObject;
    for (unsigned Index = 0; Index < sizeof(Routines) / sizeof(Routines[0]); Index += 1) {
        Value = Routines[Index](Value);
    }
    return Imports[Value % (sizeof(Imports) / sizeof(Imports[0]))] != 0 && RegistryPath == 0 ? 0
                                                                                             : -1;
}
