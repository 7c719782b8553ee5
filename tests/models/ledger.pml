/*
 * The ledger's short ways and its general way (mm/ledger.c, mm/miquick.h): the short ways hold and release slots
 * of a leaf by compare and exchange, under the lock of their own processor's cache; the general way keeps them
 * out by MiIsLedgerChanging, and may then change everything, and free the leaf.
 *
 *   Worker(p)   processor p holds frames with a cache type and releases them again: MiHoldFramesQuickly and
 *               MiReleaseFramesQuickly, or, when these give up, MiHoldFrames and MiReleaseFrames. The two
 *               differ in their types, and in their frames but for one
 *   Trimmer     MiTrimLedger: frees the leaf when no slot of it is in use
 *   Late        the stores that a processor has made and others do not see yet; only the mistakes have any,
 *               because exchanges are seen at once
 *
 * What is looked for, in every interleaving:
 *   - nobody looks at a slot of a leaf that was freed, nor while the general way is at work,
 *   - no frame is held with two types,
 *   - whoever keeps the short ways out finds UsedCount right (C4),
 *   - in the end nobody holds anything, and nobody waits for ever.
 *
 * Memory order: a step is one access. A plain store may be seen late (x86 delays a store behind later loads); this
 * is what FLAG_PLAIN and LOCK_PLAIN are about.
 *
 * Deliberate mistakes, each of which must be found:
 *   NO_LOOK       the short way does not look whether the ledger is being changed
 *   NO_AWAIT      the general way does not wait for who is on a short way
 *   FLAG_PLAIN    MiIsLedgerChanging is set by a plain store
 *   LOCK_PLAIN    the lock of a cache is taken by a plain store
 *   COUNT_PLAIN   UsedCount is loaded, changed and stored
 *   NO_UNDO       who meets another type in the middle keeps what he has
 */

#define SLOTS 2

byte Holders[SLOTS];
byte Type[SLOTS];
byte UsedCount;
bool HasLeaf;

bool Changing;
bool ChangingLate;
bool Lock[2]; /* of the caches */
bool LockLate[2];
bool LedgerLock;
bool IsExclusive;
byte DoneCount;

inline TakeCache(Self)
{
#ifdef LOCK_PLAIN
    LockLate[Self] = true;
#else
    Lock[Self] = true; /* a processor takes its own, which nobody else has */
#endif
}

inline ReleaseCache(Self)
{
    atomic {
        !LockLate[Self]; /* stores are seen in their order */
        Lock[Self] = false
    }
}

/* Whether the short way is open. */
inline Look(IsOpen)
{
#ifdef NO_LOOK
    IsOpen = HasLeaf;
#else
    IsOpen = !Changing;
    if
    :: IsOpen -> IsOpen = HasLeaf
    :: else
    fi;
#endif
}

inline Count(Change, Seen)
{
#ifdef COUNT_PLAIN
    Seen = UsedCount;
    UsedCount = Seen + Change;
#else
    UsedCount = UsedCount + Change;
#endif
    Seen = 0
}

inline KeepOut()
{
    atomic { !LedgerLock -> LedgerLock = true }
#ifdef FLAG_PLAIN
    ChangingLate = true;
#else
    Changing = true;
#endif
#ifndef NO_AWAIT
    !Lock[0];
    !Lock[1];
#endif
    IsExclusive = true;
    assert(UsedCount == (Holders[0] != 0) + (Holders[1] != 0));
}

inline LetIn()
{
    IsExclusive = false;
    atomic {
        !ChangingLate;
        Changing = false
    }
    LedgerLock = false
}

/* MiHoldFramesQuickly. IsDone: all of First to Last are held. */
inline HoldQuickly(Self, Mine, First, Last, Slot, Was, Seen, IsOpen, IsDone)
{
    TakeCache(Self);
    Look(IsOpen);
    Slot = First;
    do
    :: IsOpen && Slot <= Last ->
        atomic { /* compare and exchange */
            assert(HasLeaf && !IsExclusive);
            Was = Holders[Slot];
            if
            :: Was != 0 && Type[Slot] != Mine -> IsOpen = false
            :: else ->
                Holders[Slot] = Was + 1;
                Type[Slot] = Mine
            fi
        }
        if
        :: IsOpen && Was == 0 -> Count(1, Seen)
        :: else
        fi;
        if
        :: IsOpen -> Slot++
        :: else
        fi
    :: else -> break
    od;
    IsDone = IsOpen;
#ifndef NO_UNDO
    do
    :: !IsDone && Slot > First -> Slot--; DropQuickly(Slot, Was, Seen)
    :: else -> break
    od;
#endif
    ReleaseCache(Self);
    Slot = 0;
    Was = 0
}

inline DropQuickly(Slot, Was, Seen)
{
    atomic {
        assert(HasLeaf && !IsExclusive && Holders[Slot] != 0);
        Holders[Slot] = Holders[Slot] - 1;
        Was = Holders[Slot]
    }
    if
    :: Was == 0 -> Count(-1, Seen)
    :: else
    fi
}

/* MiReleaseFramesQuickly, of a leaf that stays when it is empty. */
inline ReleaseQuickly(Self, First, Last, Slot, Was, Seen, IsOpen)
{
    TakeCache(Self);
    Look(IsOpen);
    Slot = First;
    do
    :: IsOpen && Slot <= Last -> DropQuickly(Slot, Was, Seen); Slot++
    :: else -> break
    od;
    ReleaseCache(Self);
    Slot = 0;
    Was = 0
}

proctype Worker(byte Self; byte Mine; byte First; byte Last; byte Rounds)
{
    byte Slot;
    byte Was;
    byte Seen;
    bool IsOpen;
    bool IsHeld;
    do
    :: Rounds > 0 ->
        HoldQuickly(Self, Mine, First, Last, Slot, Was, Seen, IsOpen, IsHeld);
        if
        :: !IsHeld ->
            KeepOut();
            d_step {
                HasLeaf = true;
                IsHeld = (Holders[First] == 0 || Type[First] == Mine) && (Holders[Last] == 0 || Type[Last] == Mine);
                Slot = First;
                do
                :: IsHeld && Slot <= Last ->
                    UsedCount = UsedCount + (Holders[Slot] == 0);
                    Holders[Slot] = Holders[Slot] + 1;
                    Type[Slot] = Mine;
                    Slot++
                :: else -> break
                od;
                Slot = 0
            }
            LetIn()
        :: else
        fi;
        if
        :: IsHeld ->
            assert(Type[First] == Mine && Type[Last] == Mine);
            ReleaseQuickly(Self, First, Last, Slot, Was, Seen, IsOpen);
            if
            :: !IsOpen ->
                KeepOut();
                d_step {
                    Slot = First;
                    do
                    :: Slot <= Last ->
                        Holders[Slot] = Holders[Slot] - 1;
                        UsedCount = UsedCount - (Holders[Slot] == 0);
                        Slot++
                    :: else -> break
                    od;
                    Slot = 0
                }
                LetIn()
            :: else
            fi
        :: else
        fi;
        IsHeld = false;
        IsOpen = false;
        Rounds--
    :: else -> break
    od;
    DoneCount++
}

proctype Trimmer()
{
    KeepOut();
    if
    :: UsedCount == 0 -> HasLeaf = false
    :: else
    fi;
    LetIn();
    DoneCount++
}

proctype Late()
{
end:
    do
    :: atomic { ChangingLate -> Changing = true; ChangingLate = false }
    :: atomic { LockLate[0] -> Lock[0] = true; LockLate[0] = false }
    :: atomic { LockLate[1] -> Lock[1] = true; LockLate[1] = false }
    od
}

proctype End()
{
    DoneCount == 3;
    assert(Holders[0] == 0 && Holders[1] == 0 && UsedCount == 0)
}

init
{
    atomic {
        HasLeaf = true;
        run Worker(0, 1, 0, 1, 2);
        run Worker(1, 2, 1, 1, 2);
        run Trimmer();
        run Late();
        run End()
    }
}
