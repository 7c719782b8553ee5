// The run of steps, see steps.h.
#include "tests/host/steps.h"

#define STEPS_BETWEEN_CHECKS 4096
#define LOG_LINES 24u
// What is kept for the next use is given back when failures begin: every other stretch is free of them.
#define STRETCH_STEPS 512

IO_SLOT Ios[IO_SLOTS];
MDL_SLOT Mdls[MDL_SLOTS];
RESERVATION_SLOT Reservations[RESERVATION_SLOTS];
POOL_SLOT Pools[POOL_SLOTS];
CLAIM_SLOT Claims[CLAIM_SLOTS];
static MM_MEMORY_USE UseAtStart;

ULONG64 Step;
static BOOLEAN IsNoted; // this step called mm: some find nothing to do
static struct {
    ULONG64 Step;
    const CHAR *Operation;
    ULONG64 A;
    ULONG64 B;
    ULONG64 C;
} Log[LOG_LINES];

VOID Note(const CHAR *Operation, ULONG64 A, ULONG64 B, ULONG64 C)
{
    Log[Step % LOG_LINES].Step = Step;
    Log[Step % LOG_LINES].Operation = Operation;
    Log[Step % LOG_LINES].A = A;
    Log[Step % LOG_LINES].B = B;
    Log[Step % LOG_LINES].C = C;
    IsNoted = TRUE;
}

static VOID Explain(VOID)
{
    printf("    # step %llu; the last operations:\n", Step);
    for (ULONG64 Line = Step > LOG_LINES ? Step - LOG_LINES + 1 : 0; Line <= Step; Line += 1) {
        const ULONG Index = Line % LOG_LINES;
        if (Log[Index].Step == Line && Log[Index].Operation != NULL) {
            printf("    #   %llu %s 0x%llx 0x%llx 0x%llx\n", Line, Log[Index].Operation,
                   Log[Index].A, Log[Index].B, Log[Index].C);
        }
    }
}

//
// Choices.
//

CHOICES Choices;

static ULONG64 TakeBytes(ULONG Count)
{
    ULONG64 Value = 0;
    for (ULONG Index = 0; Index < Count; Index += 1) {
        const BOOLEAN IsThere = Choices.Position < Choices.ByteCount;
        Value = Value << 8 | (IsThere ? Choices.Bytes[Choices.Position] : 0);
        Choices.Position += 1;
    }
    return Value;
}

// As many bytes as the limit needs.
static ULONG BytesFor(ULONG64 Limit)
{
    ULONG Count = 1;
    while (Count < 8 && (Limit - 1) >> (8 * Count) != 0) {
        Count += 1;
    }
    return Count;
}

ULONG64 Below(ULONG64 Limit)
{
    if (Choices.Bytes == NULL) {
        return RandomBelow(&Choices.Random, Limit);
    }
    return Limit <= 1 ? 0 : TakeBytes(BytesFor(Limit)) % Limit;
}

BOOLEAN OneIn(ULONG64 Count)
{
    return Below(Count) == 0;
}

ULONG64 AnyNumber(VOID)
{
    return Choices.Bytes == NULL ? RandomNext(&Choices.Random) : TakeBytes(8);
}

//
// Failures on purpose.
//

static MM_MEMORY_USE UseBefore;
static BOOLEAN AreFailuresOn;

VOID MaybeStartFailures(VOID)
{
    AreFailuresOn = Step / STRETCH_STEPS % 2 == 0 && OneIn(6);
    if (AreFailuresOn) {
        MmQueryMemoryUse(&UseBefore);
        MmStartFailures(1 + (ULONG)Below(MM_FAIL_ALL), (ULONG)Below(4), OneIn(4) ? MAXULONG : 1);
    }
}

BOOLEAN StopFailures(BOOLEAN IsRefused)
{
    const BOOLEAN HasFailed = AreFailuresOn && MmStopFailures() != 0;
    if (HasFailed && IsRefused) {
        HostCheckSameUse(&UseBefore, "a call that failed for want of memory");
    }
    return HasFailed;
}

//
// What the operations choose from.
//

const IO_WINDOW Windows[IO_WINDOWS] = {
    {FAKE_IO_REGISTERS, 16}, {FAKE_IO_LOW, 96},        {FAKE_ECAM, 24},
    {FAKE_ACPI, 16},         {FAKE_IO_HIGH, 1u << 20},
};

static const struct {
    ULONG Modifier;
    MEMORY_CACHING_TYPE Caching;
    MEMORY_CACHING_TYPE OtherCaching;
} CacheTypes[] = {
    [MiCacheWriteBack] = {0, MmCached, MmHardwareCoherentCached},
    [MiCacheWriteCombined] = {PAGE_WRITECOMBINE, MmWriteCombined, MmUSWCCached},
    [MiCacheUncached] = {PAGE_NOCACHE, MmNonCached, MmNonCachedUnordered},
};

// Mostly the type that this part of I/O space usually has, so that conflicts are there, but not the
// rule.
MI_CACHE_TYPE ChooseCacheType(PFN_NUMBER Pfn)
{
    return (MI_CACHE_TYPE)(OneIn(5) ? Below(MiCacheTypeCount) : (Pfn >> 4) % MiCacheTypeCount);
}

MEMORY_CACHING_TYPE CachingOf(MI_CACHE_TYPE CacheType)
{
    return OneIn(2) ? CacheTypes[CacheType].Caching : CacheTypes[CacheType].OtherCaching;
}

ULONG ProtectModifierOf(MI_CACHE_TYPE CacheType)
{
    return CacheTypes[CacheType].Modifier;
}

// A range of I/O space: a few pages, now and then large leaves.
VOID ChooseIoBytes(ULONG64 *Base, SIZE_T *ByteCount)
{
    const ULONG Window = (ULONG)Below(ARRAYSIZE(Windows));
    if (Window == ARRAYSIZE(Windows) - 1 && OneIn(2)) {
        *Base = Windows[Window].Base +
                PAGES(Below(Windows[Window].PageCount / 512) * 512 + (OneIn(3) ? Below(512) : 0));
        *ByteCount = PAGES(OneIn(40) ? 262144 : 512 + Below(1200));
    } else {
        const PFN_NUMBER PageCount = Windows[Window].PageCount;
        const BOOLEAN IsCrowded = PageCount > CROWDED_PAGES && !OneIn(8);
        *Base = Windows[Window].Base + PAGES(Below(IsCrowded ? CROWDED_PAGES : PageCount));
        *ByteCount = 1 + Below(OneIn(3) ? PAGE_SIZE : PAGES(12));
    }
    *Base += OneIn(2) ? Below(PAGE_SIZE) : 0;
    // Behind the ACPI tables and the ECAM lies other memory.
    const ULONG64 Room = Windows[Window].Base + PAGES(Windows[Window].PageCount) - *Base;
    *ByteCount = *ByteCount < Room ? *ByteCount : Room;
}

MI_PFN_RANGE RangeOf(ULONG64 Base, SIZE_T ByteCount)
{
    return (MI_PFN_RANGE){Base >> PAGE_SHIFT, (Base + ByteCount - 1) >> PAGE_SHIFT};
}

VOID CheckEnds(const MODEL_MAPPING *Mapping)
{
    ModelCheckPage(Mapping, 0);
    ModelCheckPage(Mapping, Mapping->MappedCount - 1);
    ModelCheckPage(Mapping, Below(Mapping->MappedCount));
}

VOID CheckGone(const MODEL_MAPPING *Mapping)
{
    ModelCheckUnmapped(Mapping->Va);
    ModelCheckUnmapped(Mapping->Va + PAGES(Mapping->PageCount - 1));
    ModelCheckUnmapped(Mapping->Va + PAGES(Below(Mapping->PageCount)));
}

//
// The run.
//

// How often each operation is chosen, in a hundred. The verifier stops the machine for some that are
// refused otherwise.
static const struct {
    ULONG Weight;
    BOOLEAN IsRight; // also for the verifier
    VOID (*Routine)(VOID);
} Operations[] = {
    {20, TRUE, StepIo},          {24, TRUE, StepMdl},         {16, TRUE, StepReservation},
    {11, TRUE, StepPool},        {4, TRUE, StepClaim},        {5, TRUE, StepQuery},
    {5, TRUE, StepRange},        {5, TRUE, StepBlock},        {2, TRUE, StepCopy},
    {2, TRUE, StepRefusedMdl},   {2, FALSE, StepRefusedMap},  {2, FALSE, StepMisuse},
    {1, FALSE, StepWildRequest}, {1, FALSE, StepWildRelease},
};

static ULONG64 WeightOfAll(VOID)
{
    ULONG64 Weight = 0;
    for (ULONG Index = 0; Index < ARRAYSIZE(Operations); Index += 1) {
        Weight += Operations[Index].Weight;
    }
    return Weight;
}

static VOID DoStep(VOID)
{
    ULONG64 Choice = Below(WeightOfAll());
    ULONG Index = 0;
    while (Choice >= Operations[Index].Weight) {
        Choice -= Operations[Index].Weight;
        Index += 1;
    }
    if (Operations[Index].IsRight || MmVerifierLevel == 0) {
        Operations[Index].Routine();
    }
}

static VOID CheckCounts(VOID)
{
    MM_MEMORY_USE Use;
    ULONG64 ClaimCount = 0;
    MmQueryMemoryUse(&Use);
    for (ULONG Index = 0; Index < CLAIM_SLOTS; Index += 1) {
        ClaimCount += Claims[Index].Claim != NULL;
    }
    CHECK_EQUAL(Use.Mappings, ModelMappingCount);
    CHECK_EQUAL(Use.Claims, ClaimCount);
    CHECK_EQUAL(Use.FreePages + Use.TablePages + Use.PoolPages + Use.MdlPages + Use.DriverPages,
                UseAtStart.FreePages + UseAtStart.TablePages + UseAtStart.PoolPages +
                    UseAtStart.MdlPages + UseAtStart.DriverPages);
}

static VOID CheckEverything(VOID)
{
    ModelCheckEverything();
    CheckCounts();
    HostAudit();
}

// Attributes that last for ever, before anything else is there: one frame by frame in the way of small
// mappings, one of a large page in the way of everything.
static VOID FixCacheTypes(VOID)
{
    static const struct {
        ULONG64 Base;
        PFN_NUMBER PageCount;
        MI_CACHE_TYPE CacheType;
    } Rows[] = {
        {FAKE_IO_LOW + PAGES(90), 4, MiCacheUncached},
        {FAKE_IO_HIGH + PAGES(3072), 512, MiCacheWriteCombined},
    };
    for (ULONG Row = 0; Row < ARRAYSIZE(Rows); Row += 1) {
        const MI_PFN_RANGE Range = RangeOf(Rows[Row].Base, PAGES(Rows[Row].PageCount));
        LARGE_INTEGER ByteCount;
        ByteCount.QuadPart = (LONG64)PAGES(Rows[Row].PageCount);
        CHECK_EQUAL(MmSetPermanentCacheAttribute(Pa(Rows[Row].Base), ByteCount,
                                                 CachingOf(Rows[Row].CacheType),
                                                 MM_PERMANENT_ADDRESS_IS_IO_SPACE),
                    STATUS_SUCCESS);
        CHECK(ModelHold(Range, Rows[Row].CacheType));
    }
}

VOID StartSteps(CHOICES Source)
{
    Choices = Source;
    HostExplain = Explain;
    ModelInitialize();
    FixCacheTypes();
    MmQueryMemoryUse(&UseAtStart);
}

VOID DoSteps(ULONG64 StepCount)
{
    const ULONG64 EndStep = Step + StepCount;
    while (Step < EndStep) {
        IsNoted = FALSE;
        DoStep();
        if (IsNoted && Step % STEPS_BETWEEN_CHECKS == 0) {
            CheckEverything();
        }
        Step += IsNoted;
    }
}

VOID DoStepsOfBytes(VOID)
{
    while (Choices.Position < Choices.ByteCount) {
        DoStep();
        Step += 1;
    }
}

VOID FinishSteps(VOID)
{
    FinishIo();
    FinishReservations();
    FinishMdls();
    FinishPool();
    FinishBlocks();
    FinishClaims();
    CheckEverything();
    HostCheckSameUse(&UseAtStart, "after everything was given back");
}
