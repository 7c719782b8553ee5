/*
 * The lists of idle slots (mm/mapping.c, mm/miquick.h): one of idle slots and one of those that wait for each
 * processor, and a common one, from which and to which slots go in batches.
 *
 *   Mapper      a thread that maps and unmaps: MiAcquireQuickly or MiTakeSmallIdle, then MiReleaseQuickly,
 *               MiMakeSmallIdle or MiLetWait. Which processor's cache it uses it chooses anew each time, as
 *               MiThisCache may say one and the thread be moved to another behind that
 *   Push, Pop   MiPushSlot, MiPopSlot: two loads and two stores of links
 *   Settle      MiSettleSlots: everything of a list that was full is forgotten (epochs.pml), then
 *               MiMakeSmallIdle of each; MiTrimMappings takes the lists in the same way
 *
 * What is looked for, in every interleaving:
 *   - no slot is in two threads' hands, or in use and in a list,
 *   - no slot is lost: at the end all of them are in lists, and the counts are right,
 *   - whatever is waited for comes: nobody holds two of the locks at a time.
 *
 * Memory order: a step is one access. The links are only touched by who holds the list's lock, or the slot
 * alone, so that they need no order but the locks'.
 *
 * Deliberate mistakes, each of which must be found:
 *   NO_LOCK         a processor takes no lock for its own cache
 *   LINK_LATE       the link of a slot is read after it was given away
 *   NOT_EMPTIED     the list of which all are taken keeps its first
 */

#define SLOTS 3
#define NIL 3
#define LIMIT 1 /* MI_CACHED_SLOTS */

/* Lists: 0 and 1 are the idle ones of the processors, 2 and 3 those that wait, 4 is the common one. */
#define WAITING 2
#define COMMON 4

byte First[5];
byte Count[5];
byte Next[SLOTS];
bool InUse[SLOTS];
bool Lock[3]; /* 0 and 1 are the caches', 2 is MiMappingLock */
byte DoneCount;

#define COMMON_LOCK 2

inline AcquireLock(Which)
{
    atomic { !Lock[Which] -> Lock[Which] = true }
}

inline ReleaseLock(Which)
{
    Lock[Which] = false
}

#ifdef NO_LOCK
#define AcquireCache(Which) skip
#define ReleaseCache(Which) skip
#else
#define AcquireCache(Which) AcquireLock(Which)
#define ReleaseCache(Which) ReleaseLock(Which)
#endif

inline Push(List, Slot)
{
    Next[Slot] = First[List];
    First[List] = Slot;
    Count[List]++
}

inline Pop(List, Slot)
{
    Slot = First[List];
    if
    :: Slot != NIL ->
        First[List] = Next[Slot];
        Count[List]--
    :: else
    fi
}

/* MiMakeSmallIdle, and MiGiveBack of what is too much. */
inline MakeIdle(Slot, Surplus)
{
    AcquireCache(Cache);
    Push(Cache, Slot);
    Surplus = NIL;
    if
    :: Count[Cache] > LIMIT -> Pop(Cache, Surplus)
    :: else
    fi;
    ReleaseCache(Cache);
    if
    :: Surplus != NIL ->
        AcquireLock(COMMON_LOCK);
        Push(COMMON, Surplus);
        ReleaseLock(COMMON_LOCK)
    :: else
    fi;
    Surplus = NIL
}

inline TakeAll(List, Chain)
{
    Chain = First[List];
#ifndef NOT_EMPTIED
    First[List] = NIL;
#endif
    Count[List] = 0
}

inline Settle(Chain, Slot, Surplus)
{
    do
    :: Chain != NIL ->
        Slot = Chain;
#ifndef LINK_LATE
        Chain = Next[Slot];
#endif
        MakeIdle(Slot, Surplus);
#ifdef LINK_LATE
        Chain = Next[Slot];
#endif
        Slot = NIL
    :: else -> break
    od
}

proctype Mapper(byte Rounds)
{
    byte Cache;
    byte Slot = NIL;
    byte Other = NIL;
    byte Chain = NIL;
    do
    :: Rounds > 0 ->
        if
        :: Cache = 0
        :: Cache = 1
        fi;
        AcquireCache(Cache);
        Pop(Cache, Slot);
        ReleaseCache(Cache);
        if
        :: Slot == NIL ->
            AcquireLock(COMMON_LOCK);
            Pop(COMMON, Slot);
            Pop(COMMON, Other);
            ReleaseLock(COMMON_LOCK);
            if
            :: Other != NIL ->
                AcquireCache(Cache);
                Push(Cache, Other);
                ReleaseCache(Cache);
                Other = NIL
            :: else
            fi
        :: else
        fi;
        if
        :: Slot == NIL -> /* MiTrimMappings, of one processor */
            AcquireCache(Cache);
            TakeAll(WAITING + Cache, Chain);
            ReleaseCache(Cache);
            Settle(Chain, Slot, Other)
        :: else ->
            assert(!InUse[Slot]);
            InUse[Slot] = true;
            if
            :: Cache = 0
            :: Cache = 1
            fi;
            assert(InUse[Slot]);
            InUse[Slot] = false;
            if
            :: MakeIdle(Slot, Other)
            :: AcquireCache(Cache);
                Push(WAITING + Cache, Slot);
                if
                :: Count[WAITING + Cache] > LIMIT -> TakeAll(WAITING + Cache, Chain)
                :: else
                fi;
                ReleaseCache(Cache);
                Settle(Chain, Slot, Other)
            fi;
            Slot = NIL;
            Rounds--
        fi
    :: else -> break
    od;
    DoneCount++
}

/* All are done: each slot is in one list. */
proctype Counter()
{
    byte List;
    byte Length;
    byte Sum;
    byte Slot;
    DoneCount == 2;
    d_step {
        do
        :: List < 5 ->
            Slot = First[List];
            Length = 0;
            do
            :: Slot != NIL && Length <= SLOTS ->
                Slot = Next[Slot];
                Length++
            :: else -> break
            od;
            assert(Length == Count[List]);
            Sum = Sum + Length;
            List++
        :: else -> break
        od;
        assert(Sum == SLOTS)
    }
}

init
{
    d_step {
        First[0] = NIL;
        First[1] = NIL;
        First[2] = NIL;
        First[3] = NIL;
        First[COMMON] = 0;
        Next[0] = 1;
        Next[1] = 2;
        Next[2] = NIL;
        Count[COMMON] = SLOTS
    }
    atomic {
        run Mapper(2);
        run Mapper(1);
        run Counter()
    }
}
