/*
 * A processor that sleeps may miss a broadcast, and forgets everything when it wakes (kernel/ke/multi.c).
 *
 *   Unmapper   the other processor, in MiFlushEverywhere: takes the entry away, and asks the sleeper to forget it
 *              (KiBroadcastToAwake, KiMayMiss)
 *   Sleeper    KiSleep, KiRunInterrupt with KiWakeUp, and KiIpiInterrupt. While it is awake it may use what it
 *              remembers at any time, and remember an entry that is there; while it sleeps it does neither
 *   Devices    interrupt the sleeper whenever they like
 *
 * What is looked for, in every interleaving:
 *   - when the unmapper goes on, the sleeper does not use the old translation any more, asleep or awake,
 *   - nobody waits for ever.
 *
 * Memory order: a step is one access, seen by all in the same order. The code's entry and Sleep change by
 * locked instructions, which is that.
 *
 * Deliberate mistakes, each of which must be found:
 *   LOOK_ONLY      the unmapper looks whether the other one sleeps, and does not say what it has missed
 *   LOOK_EARLY     he does so before he takes the entry away
 *   WAKE_BY_STORE  the sleeper loads what it has missed, and stores KiAwake after that
 *   FORGET_LATE    the sleeper serves the interrupt before it forgets
 */

#define ROUNDS 2

mtype = { Awake, Asleep, Missed };

mtype Sleep = Awake;
bool Entry;
bool Remembered; /* by the sleeper */
bool Gone;       /* the unmapper has gone on: its address may be used again */
bool Remaining;  /* of the broadcast: the sleeper has not run it */
bool Pending;    /* an interrupt, of a device or of the unmapper */

/* The exchange of KiMayMiss. */
inline LookWhetherItSleeps(May)
{
    atomic {
#ifdef LOOK_ONLY
        May = Sleep == Asleep
#else
        if
        :: Sleep == Asleep -> Sleep = Missed
        :: else
        fi;
        May = Sleep == Missed
#endif
    }
}

proctype Unmapper()
{
    byte Round;
    bool MayMiss;
    do
    :: Round < ROUNDS ->
        d_step {
            Gone = false;
            Entry = true
        }
#ifdef LOOK_EARLY
        LookWhetherItSleeps(MayMiss);
#endif
        Entry = false;
#ifndef LOOK_EARLY
        LookWhetherItSleeps(MayMiss);
#endif
        if
        :: !MayMiss ->
            Remaining = true;
            Pending = true;
            !Remaining
        :: else
        fi;
        d_step {
            Gone = true;
            MayMiss = false;
            Round++
        }
    :: else -> break
    od
}

/* What the sleeper does with its translations while it runs: any code. */
inline UseTranslation()
{
    if
    :: Remembered -> assert(!Gone)
    :: !Remembered && Entry -> Remembered = true
    :: !Remembered && !Entry
    fi
}

proctype Sleeper()
{
    mtype Was = Awake;
end:
    do
    :: Remembered || Entry -> UseTranslation()
    :: atomic { Pending -> Pending = false }
Interrupted:
        if
        :: Remaining -> Remembered = false; Remaining = false
        :: else -> UseTranslation() /* a device's routine */
        fi
    :: Sleep = Asleep;
        atomic { Pending -> Pending = false }
#ifdef WAKE_BY_STORE
        Was = Sleep;
        Sleep = Awake;
#else
        d_step {
            Was = Sleep;
            Sleep = Awake
        }
#endif
#ifdef FORGET_LATE
        UseTranslation();
#endif
        if
        :: Was == Missed -> Remembered = false
        :: else
        fi;
        Was = Awake;
        goto Interrupted
    od
}

proctype Devices()
{
end:
    do
    :: !Pending -> Pending = true
    od
}

init
{
    atomic {
        run Sleeper();
        run Unmapper();
        run Devices()
    }
}
