/*
 * Translations that are forgotten later (mm/tlb.c), and the slots whose addresses wait for that
 * (mm/mapping.c), at level 0 of the verifier.
 *
 *   Mapper(p)   a thread on processor p: MiAcquireMapping or MiAcquireQuickly, the store of an entry,
 *               MiArchTakePte, MiFlushPagesLater, MiReleaseMapping. Between the taking of the entry and its
 *               flush it may have been moved to another processor
 *   Settle      MiSettleMapping, for a slot of a list that is full (MiLetWait), for one that is trimmed
 *               (MiTrimMappings), and for a reservation, which is a slot that its owner takes again himself
 *   Forget      MiForgetEverything, MiForgetStamped. That all have forgotten when KiBroadcast returns is what
 *               shootdown.pml shows, and that one who sleeps need not, sleep.pml; here each does so in one
 *               step
 *   Typist(p)   a thread that gives a frame another cache type when nobody holds it any more:
 *               MiHoldQuickly, and MiForgetTypes behind it. (That looks at MiWokenEpoch, which only grows
 *               when nobody slept; here nobody sleeps, and it is CleanEpoch)
 *   Mmu         the page walk of a processor: at any time, and in one step, it marks an entry that is there
 *               as used and remembers it (SDM: no translation is remembered before the entry is marked)
 *
 * The lists of the processors and the common ones hand slots from anybody to anybody. Here any slot that is
 * in no use may be taken by anybody, which includes whatever the lists do: their locks make a slot one
 * owner's, and that is all that is used of them.
 *
 * What is looked for, in every interleaving:
 *   - when an entry is stored, no processor remembers an older one of the same address,
 *   - when a frame gets another cache type, no processor remembers it with the old one,
 *   - whatever is waited for comes.
 * An entry that no processor has marked is forgotten by nobody, and its slot is idle at once.
 *
 * Memory order: a step is one access, seen by all in the same order. What the code needs of that: the stamp is
 * loaded behind the exchange that took the entry, and the epoch grows, by a locked instruction, before
 * the first processor forgets.
 *
 * Deliberate mistakes, each of which must be found:
 *   REUSE_EARLY     a slot that waits is used again at once
 *   STAMP_EARLY     the stamp is loaded before the entry is taken
 *   EPOCH_LATE      the epoch grows after everybody has forgotten
 *   CLEAN_EARLY     the clean epoch grows before everybody has forgotten
 *   TAKE_BY_STORE   the entry is read, and cleared by a store
 *   NO_NOTE         the last stamp is not noted
 *   DECIDE_EARLY    the last stamp is looked at before the frame is taken, and not once more behind that
 */

#define PROCESSORS 2
#define SLOTS 2

mtype = { Idle, InUse, Waiting };

mtype State[SLOTS] = Idle;
byte Stamp[SLOTS];
bool Held[SLOTS];      /* the frame that is mapped here */
bool Entry[SLOTS];     /* is there */
bool Marked[SLOTS];    /* the Accessed bit of the entry */
byte Remembers[SLOTS]; /* bit p: processor p remembers an entry of this address */

bool ShootdownLock;
byte TlbEpoch = 1;
byte CleanEpoch = 1;
byte LastStamp;

inline ForgetOn(Who)
{
    d_step {
        Remembers[0] = Remembers[0] & ~(1 << Who);
        Remembers[1] = Remembers[1] & ~(1 << Who)
    }
}

inline ForgetNow(Number)
{
#ifndef EPOCH_LATE
    d_step {
        TlbEpoch++;
        Number = TlbEpoch
    }
#endif
#ifdef CLEAN_EARLY
    CleanEpoch = Number;
#endif
    ForgetOn(0);
    ForgetOn(1);
#ifdef EPOCH_LATE
    d_step {
        TlbEpoch++;
        Number = TlbEpoch
    }
#endif
    CleanEpoch = Number
}

inline Forget(Number)
{
    atomic { !ShootdownLock -> ShootdownLock = true }
    ForgetNow(Number);
    ShootdownLock = false;
    Number = 0
}

/* Once more under the lock: somebody may have been at work while this one waited for it. */
inline ForgetStamped(Slot, Number)
{
    atomic { !ShootdownLock -> ShootdownLock = true }
    if
    :: Stamp[Slot] >= CleanEpoch -> ForgetNow(Number)
    :: Stamp[Slot] >= CleanEpoch -> /* MiForgetFewPages: this address only */
        Remembers[Slot] = Remembers[Slot] & ~1;
        Remembers[Slot] = Remembers[Slot] & ~2
    :: else
    fi;
    ShootdownLock = false;
    Number = 0
}

inline Settle(Slot, Number)
{
#ifndef REUSE_EARLY
    if
    :: Stamp[Slot] >= CleanEpoch -> ForgetStamped(Slot, Number)
    :: else
    fi;
#endif
    Stamp[Slot] = 0
}

inline NoteStamp(Value)
{
#ifdef NO_NOTE
    skip
#else
    d_step { /* a compare and exchange */
        if
        :: LastStamp < Value -> LastStamp = Value
        :: else
        fi
    }
#endif
}

proctype Mapper(byte Self; byte Rounds)
{
    byte Slot;
    byte Number;
    bool WasMarked;
    do
    :: Rounds > 0 ->
        if
        :: atomic { State[0] == Idle -> State[0] = InUse; Slot = 0 }
        :: atomic { State[1] == Idle -> State[1] = InUse; Slot = 1 }
        :: atomic { State[0] == Waiting -> State[0] = InUse; Slot = 0 }
            Settle(Slot, Number)
        :: atomic { State[1] == Waiting -> State[1] = InUse; Slot = 1 }
            Settle(Slot, Number)
        fi;
        atomic { !Held[Slot] -> Held[Slot] = true }
        d_step {
            assert(!Entry[Slot] && Stamp[Slot] == 0);
            assert(Remembers[Slot] == 0);
            Entry[Slot] = true;
            Marked[Slot] = false
        }

#ifdef STAMP_EARLY
        Number = TlbEpoch;
#endif
#ifdef TAKE_BY_STORE
        WasMarked = Marked[Slot];
        Entry[Slot] = false;
#else
        d_step {
            WasMarked = Marked[Slot];
            Entry[Slot] = false
        }
#endif
        if
        :: WasMarked ->
            if
            :: Remembers[Slot] = Remembers[Slot] & ~(1 << Self)
            :: Remembers[Slot] = Remembers[Slot] & ~(2 >> Self)
            fi;
#ifndef STAMP_EARLY
            Number = TlbEpoch;
#endif
            NoteStamp(Number);
            d_step {
                Stamp[Slot] = Number;
                WasMarked = false;
                Number = 0
            }
            Held[Slot] = false;
            State[Slot] = Waiting
        :: else ->
            Held[Slot] = false;
            State[Slot] = Idle
        fi;
        Rounds--
    :: else -> break
    od
}

proctype Typist()
{
    byte Number;
    byte Frame;
    bool MustForget;
    if
    :: Frame = 0
    :: Frame = 1
    fi;
#ifdef DECIDE_EARLY
    MustForget = LastStamp >= CleanEpoch;
#endif
    if
    :: Held[Frame] /* refused: it has its type still */
    :: atomic { !Held[Frame] -> Held[Frame] = true }
#ifndef DECIDE_EARLY
        MustForget = LastStamp >= CleanEpoch;
#endif
        if
        :: MustForget -> Forget(Number)
        :: else
        fi;
        assert(Remembers[Frame] == 0);
        Held[Frame] = false
    fi
}

proctype Mmu(byte Slot; byte Who)
{
end:
    do
    :: atomic { Entry[Slot] && (Remembers[Slot] & (1 << Who)) == 0 ->
            Marked[Slot] = true;
            Remembers[Slot] = Remembers[Slot] | (1 << Who)
        }
    od
}

init
{
    atomic {
        run Mmu(0, 0);
        run Mmu(0, 1);
        run Mmu(1, 0);
        run Mmu(1, 1);
        run Mapper(0, 2);
        run Mapper(1, 2);
        run Typist()
    }
}
