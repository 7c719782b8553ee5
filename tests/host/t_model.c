// Random sequences of everything that mm offers, right and wrong calls, against the model.
//
//   host-fast --operations=10000000 --seed=1 model
//
// A failure prints the seed, the step and the last operations; the same seed gives the same steps.
#include <time.h>

#include "tests/host/steps.h"

#define STEPS_BETWEEN_LOOKS 100000ull
#define SECONDS_BETWEEN_LINES 30

// With --progress, a line now and then: for runs of hours.
static VOID TellProgress(ULONG64 StepCount)
{
    static time_t LastTime;
    const time_t Now = time(NULL);
    if (HostOption("progress", 0) != 0 && Now - LastTime >= SECONDS_BETWEEN_LINES) {
        LastTime = Now;
        printf("    # %llu of %llu operations\n", Step, StepCount);
        fflush(stdout);
    }
}

static VOID Run(ULONG64 Share)
{
    const ULONG64 StepCount = HostOption("operations", 300000) * Share / 100;
    const ULONG64 Seed = HostOption("seed", 1);
    printf("    # %llu operations, seed %llu\n", StepCount, Seed);
    StartSteps((CHOICES){.Random = RandomStart(Seed * 100 + Share)});
    while (Step < StepCount) {
        const ULONG64 Rest = StepCount - Step;
        DoSteps(Rest < STEPS_BETWEEN_LOOKS ? Rest : STEPS_BETWEEN_LOOKS);
        TellProgress(StepCount);
    }
    FinishSteps();
}

static VOID Random_operations_agree_with_the_model(VOID)
{
    Run(40);
}

static VOID Random_operations_agree_with_the_model_without_1_GiB_leaves(VOID)
{
    Run(26);
}

static VOID Random_operations_agree_with_the_model_with_4_KiB_leaves_only(VOID)
{
    Run(24);
}

static VOID Random_operations_agree_with_the_model_under_the_verifier(VOID)
{
    MmVerifierLevel = 1;
    MmInitSystem(&FakeLoaderBlock);
    Run(5);
}

// The TLB that is watched is the other processor's.
static VOID Random_operations_agree_with_the_model_on_two_processors(VOID)
{
    KeNumberProcessors = 2;
    Run(5);
    CHECK(FakeBroadcasts != 0);
}

// The processor uses every second page, so that the others need no flush.
static VOID Random_operations_agree_with_the_model_when_few_pages_are_used(VOID)
{
    WatchReads = WatchReadsSome;
    Run(5);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Random_operations_agree_with_the_model, "contract 4-7, all invariants",
             &FakeMachineMax),
    HOST_ROW(Random_operations_agree_with_the_model_without_1_GiB_leaves,
             "contract 4-7, all invariants", &FakeMachineQemu64),
    HOST_ROW(Random_operations_agree_with_the_model_with_4_KiB_leaves_only,
             "contract 4-7, all invariants", &FakeMachineLeaf4K),
    HOST_ROW(Random_operations_agree_with_the_model_under_the_verifier,
             "contract 4-7, 13, all invariants", &FakeMachineBare),
    HOST_ROW(Random_operations_agree_with_the_model_on_two_processors,
             "contract 4-7, 12.3.1, all invariants", &FakeMachineMax),
    HOST_ROW(Random_operations_agree_with_the_model_when_few_pages_are_used,
             "contract 4-7, 12.3.1, all invariants", &FakeMachineMax),
};

HOST_DEFINE_SUITE(model);
