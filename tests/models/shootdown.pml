/*
 * The broadcast of kernel/ke/multi.c, and an unmap that relies on it (mm/tlb.c): each of the other
 * processors runs a routine at IPI_LEVEL while the sender waits.
 *
 *   Unmapper(p)  processor p in MiFlushEverywhere or MiFlushTlbBatch: the entry is cleared, and KiBroadcast
 *                has it forgotten here and tells the others; one of them twice. It may hold a driver's lock
 *                meanwhile
 *   Spinner(p)   processor p in KeAcquireSpinLock: it spins for that lock at DISPATCH_LEVEL, and answers meanwhile
 *                without being interrupted (KiWaitWhileTaken); so does a sender who waits for his turn
 *   Ipi(p)       KiIpiInterrupt on processor p: comes whenever an IPI is pending and IRQL is below
 *                IPI_LEVEL; what it interrupts stands still until it ends
 *   Mmu          the page walks of another processor: at any time it may remember an entry that is there.
 *                (What the unmapper itself remembers it forgets by INVLPG, before the broadcast ends.)
 *
 * What is looked for, in every interleaving:
 *   - nobody waits for ever (an end of the model in which somebody has not come to his end),
 *   - when the sender returns, no processor has the translation,
 *   - the routine's context, which lies on the sender's stack, is never used when the sender is gone,
 *   - broadcasts exclude each other (MP2).
 *
 * Memory order: a step here is one access, and all see them in the same order. The code's order is weaker in
 * one point, stores that are not seen at once, and needs no more than this: what is waited for (Word,
 * Remaining) is written by locked instructions or with release and read with acquire, and what depends on it
 * (Routine, Context, the entry) is written before and read after. x86 delays no store behind a later one,
 * and an IPI that is sent by a store to the APIC comes behind the stores before it; in x2APIC mode, where it is
 * sent by WRMSR, a fence stands before it.
 *
 * Deliberate mistakes, each of which must be found:
 *   NO_WAIT        the sender does not wait for Remaining
 *   WAIT_HIGH      the sender waits for its turn at IPI_LEVEL, where it does not answer
 *   BIT_FIRST      a receiver takes its bit out before it runs the routine
 *   SPIN_HIGH      the driver's lock is taken at IPI_LEVEL (MP4 forbids it)
 *   NO_TURN        two senders may fill the slot at the same time
 *   ANSWER_LOW     who spins answers where an IPI may come in between
 */

#define PROCESSORS 3
#define ALL 7

#define PASSIVE_LEVEL 0
#define DISPATCH_LEVEL 2
#define CLOCK_LEVEL 13
#define IPI_LEVEL 14

#ifdef WAIT_HIGH
#define LEVEL_OF_WAIT IPI_LEVEL
#else
#define LEVEL_OF_WAIT CLOCK_LEVEL
#endif
#ifdef SPIN_HIGH
#define LEVEL_OF_LOCK IPI_LEVEL
#else
#define LEVEL_OF_LOCK DISPATCH_LEVEL
#endif

byte Irql[PROCESSORS];
bool Interrupted[PROCESSORS]; /* KiIpiInterrupt runs there */
bool Pending[PROCESSORS];     /* in the processor's interrupt controller */

bool Lock; /* a driver's */

/* KiBroadcastSlot */
bool Word;
byte Context; /* whose page is to be forgotten */
byte Remaining;
byte SenderCount; /* between the taking of Word and its return */

/* One page for each processor that unmaps. */
bool Entry[2];
byte Remembered[2]; /* bit p: in the TLB of processor p */

/* KiAnswer, at IPI_LEVEL */
inline Answer(Self, Page)
{
    if
    :: (Remaining & (1 << Self)) != 0 ->
#ifdef BIT_FIRST
        Page = Context;
        Remaining = Remaining & ~(1 << Self);
#else
        atomic {
            assert(SenderCount == 1);
            Page = Context
        }
#endif
        d_step { Remembered[Page] = Remembered[Page] & ~(1 << Self) }
#ifndef BIT_FIRST
        atomic {
            assert(Page == Context);
            Remaining = Remaining & ~(1 << Self); /* a locked instruction */
            Page = 0
        }
#else
        Page = 0
#endif
    :: else
    fi
}

/* KiAnswerIfAsked */
inline AnswerIfAsked(Self, Before, Page)
{
    d_step {
        Before = Irql[Self];
#ifndef ANSWER_LOW
        Irql[Self] = IPI_LEVEL
#endif
    }
    Answer(Self, Page);
    d_step {
        Irql[Self] = Before;
        Before = 0
    }
}

/* KiSpin: while it is taken it may answer, or be interrupted */
inline Acquire(Which, Self, Before, Page)
{
    do
    :: atomic { !Which -> Which = true; break }
    :: Which && (Remaining & (1 << Self)) != 0 && Irql[Self] < IPI_LEVEL ->
        AnswerIfAsked(Self, Before, Page)
    od
}

/* KiBroadcast; Other1 and Other2 are the numbers of the others. */
inline Broadcast(Self, Old, Other1, Other2, Before, Page)
{
    Irql[Self] = LEVEL_OF_WAIT;
#ifndef NO_TURN
    Acquire(Word, Self, Before, Page);
#endif
    SenderCount++;
    Context = Self;
    Remaining = ALL & ~(1 << Self);
    if /* KiWaitPatiently, and who has not come until then */
    :: (Remaining & (1 << Other1)) == 0
    :: Pending[Other1] = true
    fi;
    if
    :: (Remaining & (1 << Other2)) == 0
    :: Pending[Other2] = true
    fi;
#ifndef NO_WAIT
    Remaining == 0;
#endif
    assert(SenderCount == 1);
    SenderCount--;
    Word = false;
    Irql[Self] = Old;
}

proctype Unmapper(byte Self; byte Other1; byte Other2; byte Rounds) provided (!Interrupted[Self])
{
    bool HasLock;
    byte Old;
    byte Before;
    byte Page;
    do
    :: Rounds > 0 ->
        Entry[Self] = true;
        if
        :: Old = LEVEL_OF_LOCK; Irql[Self] = Old; Acquire(Lock, Self, Before, Page); HasLock = true
        :: Old = PASSIVE_LEVEL; HasLock = false
        fi;
        Entry[Self] = false;
        Broadcast(Self, Old, Other1, Other2, Before, Page);
        assert(Remembered[Self] == 0);
        if
        :: HasLock -> Lock = false; Irql[Self] = PASSIVE_LEVEL
        :: else
        fi;
        Rounds--
    :: else -> break
    od
}

proctype Spinner(byte Self) provided (!Interrupted[Self])
{
    byte Before;
    byte Page;
    Irql[Self] = LEVEL_OF_LOCK;
    Acquire(Lock, Self, Before, Page);
    Lock = false;
    Irql[Self] = PASSIVE_LEVEL
}

proctype Ipi(byte Self)
{
    byte Page;
end:
    do
    :: atomic {
            Pending[Self] && Irql[Self] < IPI_LEVEL ->
            Interrupted[Self] = true;
            Pending[Self] = false
        }
        Answer(Self, Page);
        Interrupted[Self] = false
    od
}

proctype Mmu(byte Page; byte Who)
{
end:
    do
    :: atomic { Entry[Page] && (Remembered[Page] & (1 << Who)) == 0 ->
            Remembered[Page] = Remembered[Page] | (1 << Who)
        }
    od
}

init
{
    atomic {
        run Ipi(0);
        run Ipi(1);
        run Ipi(2);
        run Mmu(0, 1);
        run Mmu(0, 2);
        run Mmu(1, 0);
        run Mmu(1, 2);
        run Unmapper(0, 1, 2, 2);
        run Unmapper(1, 0, 2, 1);
        run Spinner(2)
    }
}
