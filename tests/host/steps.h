// Steps: calls of mm, right and wrong, each of which works out from the model what must happen,
// does it, and compares: the result, the pages at both ends and somewhere between. After every few
// thousand of them everything is compared: all pages, all frames, all counts, and MmVerify.
//
//   steps.c          the choices, the table of steps, the run, what is given back at its end
//   steps_io.c       I/O mappings, of device memory and of locked RAM; large ranges, again and again
//   steps_mdl.c      MDLs of every origin, mapped and unmapped
//   steps_part.c     MDLs that lock pages, parts of MDLs, MDLs that are advanced or protected
//   steps_reserve.c  reserved mappings
//   steps_pool.c     pool, claims
//   steps_block.c    contiguous and non-cached memory, copies
//   steps_wrong.c    questions; calls that refuse or stop the machine, and change nothing
//   steps_wild.c     calls with arguments that nobody chose with care
//   steps_bytes.c    a run that the bytes of a file choose
//
// What to do is chosen by CHOICES: random numbers (t_model.c, and the long run), or the bytes of a
// file (t_corpus.c, and the fuzzer). The same seed, or the same bytes, give the same steps.
#pragma once

#include "tests/host/model.h"
#include "tests/host/random.h"

//
// Choices.
//

typedef struct _CHOICES {
    RANDOM Random;
    const UCHAR *Bytes; // NULL: Random
    SIZE_T ByteCount;
    SIZE_T Position; // beyond the end every choice is 0
} CHOICES;

extern CHOICES Choices;

// 0 .. Limit - 1. Limit 0 gives 0.
ULONG64 Below(ULONG64 Limit);
BOOLEAN OneIn(ULONG64 Count);
// Any 64 bits.
ULONG64 AnyNumber(VOID);

// A random slot of an array whose first member says whether it is used.
#define CHOOSE(Slots) ((ULONG)Below(ARRAYSIZE(Slots)))

//
// What is out. A slot whose first member is NULL is free.
//

#define IO_SLOTS 40u
#define MDL_SLOTS 40u
#define RESERVATION_SLOTS 20u
#define POOL_SLOTS 64u
#define CLAIM_SLOTS 16u
#define MAXIMUM_MDL_PAGES 48u

typedef struct _IO_SLOT {
    PVOID Address;
    SIZE_T ByteCount;
    MI_PFN_RANGE Range;
    BOOLEAN IsRam;
    ULONG PoolSlot; // whose memory is mapped, or POOL_SLOTS
    MODEL_MAPPING Mapping;
} IO_SLOT;

typedef enum _MDL_KIND {
    MdlIoSpace,
    MdlPages,
    MdlHandMade,
    MdlLocked, // over a pool block
    MdlPartial,
} MDL_KIND;

typedef struct _MDL_SLOT {
    PMDL Mdl;
    MDL_KIND Kind;
    BOOLEAN IsIo; // its frames
    PFN_NUMBER PageCount;
    PFN_NUMBER Pfns[MAXIMUM_MDL_PAGES];
    PVOID Address;     // of its own mapping, or NULL
    ULONG Reservation; // it is mapped into, or RESERVATION_SLOTS
    ULONG Source;      // hand-made, partial: whose frames it describes; locked: the pool block
    ULONG UserCount;   // MDLs that use its frames
    MODEL_MAPPING Mapping;
} MDL_SLOT;

typedef struct _RESERVATION_SLOT {
    PVOID Va;
    ULONG Tag;
    ULONG Mdl; // slot, or MDL_SLOTS
    MODEL_MAPPING Mapping;
} RESERVATION_SLOT;

typedef struct _POOL_SLOT {
    PUCHAR Block;
    SIZE_T ByteCount;
    ULONG Tag;
    UCHAR Fill;
    ULONG UserCount;
} POOL_SLOT;

typedef struct _CLAIM_SLOT {
    PMM_CLAIM Claim;
    MI_PFN_RANGE Range;
} CLAIM_SLOT;

extern IO_SLOT Ios[IO_SLOTS];
extern MDL_SLOT Mdls[MDL_SLOTS];
extern RESERVATION_SLOT Reservations[RESERVATION_SLOTS];
extern POOL_SLOT Pools[POOL_SLOTS];
extern CLAIM_SLOT Claims[CLAIM_SLOTS];

#define TAG_A 0x41424344u
#define TAG_B 0x61626364u

//
// steps.c
//

extern ULONG64 Step;

// Every step that calls mm says so first: the last ones are printed when a check fails.
VOID Note(const CHAR *Operation, ULONG64 A, ULONG64 B, ULONG64 C);

// Now and then the allocations of the next call fail. StopFailures tells: TRUE, one did; then the
// call, when it refused, must have changed nothing.
VOID MaybeStartFailures(VOID);
BOOLEAN StopFailures(BOOLEAN IsRefused);

// Parts of I/O space.
typedef struct _IO_WINDOW {
    ULONG64 Base;
    PFN_NUMBER PageCount;
} IO_WINDOW;

#define IO_WINDOWS 5
extern const IO_WINDOW Windows[IO_WINDOWS];

// Most of what happens in the window for large ranges happens here, where all sizes meet.
#define CROWDED_PAGES 4096

VOID ChooseIoBytes(ULONG64 *Base, SIZE_T *ByteCount);
MI_CACHE_TYPE ChooseCacheType(PFN_NUMBER Pfn);
MEMORY_CACHING_TYPE CachingOf(MI_CACHE_TYPE CacheType);
ULONG ProtectModifierOf(MI_CACHE_TYPE CacheType);
MI_PFN_RANGE RangeOf(ULONG64 Base, SIZE_T ByteCount);

VOID CheckEnds(const MODEL_MAPPING *Mapping);
VOID CheckGone(const MODEL_MAPPING *Mapping);

// A run: what is out at its beginning is the machine's own.
VOID StartSteps(CHOICES Source);
VOID DoSteps(ULONG64 StepCount);
VOID DoStepsOfBytes(VOID); // until they are used up
// Gives everything back, so that what remains is a leak.
VOID FinishSteps(VOID);

// A run of its own, from the start of a machine to the last check: the first byte chooses the
// machine, the others the steps.
VOID RunBytes(const UCHAR *Bytes, SIZE_T ByteCount);

//
// steps_io.c to steps_wild.c
//

VOID StepIo(VOID);
VOID StepRange(VOID);
VOID FinishIo(VOID);

VOID StepMdl(VOID);
VOID FinishMdls(VOID);
// A new MDL in the slot, with the frames that it has now.
VOID RecordMdl(MDL_SLOT *Slot, PMDL Mdl, MDL_KIND Kind);
// What mapping an MDL decides.
VOID DecideMdl(const MDL_SLOT *Slot, MI_CACHE_TYPE CacheType);
// Whether its mappings are those of who has locked the frames, which the verifier does not rely on.
BOOLEAN IsUncounted(PMDL Mdl);
// The model's side of an unmap, whichever routine did it.
VOID ForgetMdlMapping(MDL_SLOT *Slot);

// MDLs that lock pool, or describe a part of another one; and what is done to one that exists.
VOID LockPool(MDL_SLOT *Slot);
VOID MakePartialMdl(MDL_SLOT *Slot);
VOID AdvanceMdl(MDL_SLOT *Slot);
VOID ProtectMdl(MDL_SLOT *Slot);
VOID CallWithMdl(MDL_SLOT *Slot);

VOID StepReservation(VOID);
VOID FinishReservations(VOID);

VOID StepPool(VOID);
VOID FinishPool(VOID);
VOID StepClaim(VOID);
VOID FinishClaims(VOID);

VOID StepBlock(VOID);
VOID FinishBlocks(VOID);
// Adjacent frames of a block. FALSE: there was none where it looked.
BOOLEAN ChooseBlockPages(PFN_NUMBER *FirstPfn, PFN_NUMBER *PageCount);
VOID StepCopy(VOID);

VOID StepQuery(VOID);
VOID StepRefusedMap(VOID);
VOID StepRefusedMdl(VOID);
VOID StepMisuse(VOID);

VOID StepWildRequest(VOID);
VOID StepWildRelease(VOID);
