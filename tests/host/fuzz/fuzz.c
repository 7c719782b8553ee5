// The fuzzer: libFuzzer makes up the bytes that choose the steps of steps_bytes.c.
//
//   host-fuzz -max_total_time=60 corpus/    makes up new inputs; the first folder takes what is new
//   host-fuzz crash-...                     runs one again
//
// mm starts anew for each input, from a state in which nothing of it ever ran, so that an input does
// the same alone as after a million others:
//
//   variables   stand together (state.ld), above a file that holds their first values; a private
//               mapping of it is replaced by a fresh one
//   memory      that the fakes asked for comes from one range of addresses, which is emptied
//   the file    of the physical memory is emptied
//
// With FUZZ_IMAGES the bytes are the file of a driver, which the loader loads or refuses; nothing may be
// left of it, so that one machine serves all inputs.
//
// A failed check prints what it has to say and aborts, which libFuzzer takes as a crash.
#define FUZZ_ITSELF
#include "tests/host/fuzz/arena.h"

#include <stdarg.h>
#include <stdint.h>

#include "tests/host/image.h"
#include "tests/host/steps.h"

#ifndef FUZZ_IMAGES
#define FUZZ_IMAGES 0
#endif

#define ARENA_VA 0x510000000000ull
#define ARENA_BYTES (1ull << 44)
#define MAXIMUM_PRINTED 4096

extern UCHAR FuzzStateStart[];
extern UCHAR FuzzStateEnd[];

static int StateFile = -1;
static int MemoryFile = -1;
static ULONG64 ArenaUsed;

static DECLSPEC_NORETURN VOID Stop(const CHAR *What)
{
    perror(What);
    abort();
}

//
// Memory for the fakes.
//

void *FuzzMap(void *Address, size_t ByteCount, int Access, int Flags, int File, off_t Offset)
{
    if (Address == NULL) {
        Address = (PVOID)(ARENA_VA + ArenaUsed);
        ArenaUsed += ROUND_TO_PAGES(ByteCount);
        if (ArenaUsed > ARENA_BYTES) {
            Stop("the arena is too small");
        }
    }
    return mmap(Address, ByteCount, Access, Flags | MAP_FIXED, File, Offset);
}

// The size stands before the block.
void *FuzzAllocate(size_t Count, size_t ByteCount)
{
    SIZE_T *Block = FuzzMap(NULL, Count * ByteCount + 2 * sizeof(SIZE_T), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (Block == MAP_FAILED) {
        return NULL;
    }
    Block[0] = Count * ByteCount;
    return Block + 2;
}

void *FuzzReallocate(void *Block, size_t ByteCount)
{
    PVOID New = FuzzAllocate(1, ByteCount);
    if (Block != NULL && New != NULL) {
        const SIZE_T OldBytes = ((const SIZE_T *)Block)[-2];
        memcpy(New, Block, OldBytes < ByteCount ? OldBytes : ByteCount);
    }
    return New;
}

int FuzzCreateFile(const char *Name, unsigned Flags)
{
    if (MemoryFile < 0) {
        MemoryFile = memfd_create(Name, Flags);
    }
    if (ftruncate(MemoryFile, 0) != 0) {
        Stop("ftruncate");
    }
    return MemoryFile;
}

//
// The state.
//

// Over the red zones between the variables, too.
__attribute__((no_sanitize("address"))) static VOID CopyState(volatile ULONG64 *Copy)
{
    const ULONG64 *State = (const ULONG64 *)FuzzStateStart;
    for (SIZE_T Index = 0; &State[Index] < (const ULONG64 *)FuzzStateEnd; Index += 1) {
        Copy[Index] = State[Index];
    }
}

static VOID SaveState(VOID)
{
    const SIZE_T ByteCount = (SIZE_T)(FuzzStateEnd - FuzzStateStart);
    StateFile = memfd_create("state", 0);
    if (StateFile < 0 || ftruncate(StateFile, (off_t)ByteCount) != 0) {
        Stop("no file for the state");
    }
    const PVOID Copy = mmap(NULL, ByteCount, PROT_READ | PROT_WRITE, MAP_SHARED, StateFile, 0);
    if (Copy == MAP_FAILED) {
        Stop("mmap of the state");
    }
    CopyState(Copy);
    munmap(Copy, ByteCount);
}

static VOID RestoreState(VOID)
{
    if (ArenaUsed != 0) {
        munmap((PVOID)ARENA_VA, ArenaUsed);
        ArenaUsed = 0;
    }
    if (mmap(FuzzStateStart, (SIZE_T)(FuzzStateEnd - FuzzStateStart), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_FIXED, StateFile, 0) == MAP_FAILED) {
        Stop("mmap of the state");
    }
}

//
// What runner.c is to the tests.
//

VOID (*HostExplain)(VOID);

VOID HostFail(const CHAR *File, int Line, const CHAR *Format, ...)
{
    CHAR Text[MAXIMUM_PRINTED];
    va_list Rest;
    va_start(Rest, Format);
    vsnprintf(Text, sizeof(Text), Format, Rest);
    va_end(Rest);
    printf("    # %s:%d: %s\n", File, Line, Text);
    if (HostExplain != NULL) {
        HostExplain();
    }
    fflush(stdout);
    abort();
}

//
// libFuzzer's two calls.
//

int LLVMFuzzerInitialize(int *Count, char ***Values);
int LLVMFuzzerInitialize(int *Count, char ***Values)
{
    UNREFERENCED_PARAMETER(Count);
    UNREFERENCED_PARAMETER(Values);
    SaveState();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *Bytes, size_t ByteCount);
int LLVMFuzzerTestOneInput(const uint8_t *Bytes, size_t ByteCount)
{
    if (FUZZ_IMAGES) {
        RunImageBytes(Bytes, ByteCount);
        return 0;
    }
    RestoreState();
    FakeMirrorsDirectMap = FALSE; // a system call for each of its leaves
    RunBytes(Bytes, ByteCount);
    return 0;
}
