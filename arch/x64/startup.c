// The start of the other processors: INIT, STARTUP, and what they find in the startup page.
//
//   page 0   startup.S, KI_STARTUP_DATA
//   page 1   a top table: slot 0 -> page 2, upper half as in the kernel's
//   page 2   slot 0 -> page 3
//   page 3   slot 0 -> the low 2 MiB, in one leaf
//
// The pages lie below 1 MiB, where a processor in real mode can be. They are given back when every
// processor that answered has left them.
//
// Invariants:
//   ST1 One processor at a time is in the startup pages: the next is started when the last one has said
//       that it runs in the kernel's tables, or has not done so in time.
//   ST2 A processor that was given up may still come: the pages are kept then.

#include "arch/x64/x64.h"

#include "kernel/inc/ke.h"
#include "mm/miarch.h"

#define STARTUP_PAGES 4
#define LOW_MEMORY_END 0x100000ull // a STARTUP interrupt names a page below it

#define STARTUP_WRITABLE 0x3ull
#define STARTUP_LARGE 0x80ull
#define PTES_PER_TABLE 512
#define FIRST_UPPER_SLOT 256

// [x64] "Multiple-processor initialization": 10 ms after INIT, 200 us after a first STARTUP.
#define INIT_MICROSECONDS 10000
#define STARTUP_MICROSECONDS 200
#define ANSWER_MICROSECONDS 1000000
#define POLL_MICROSECONDS 50

#define DESCRIPTOR_CODE32 0x00CF9B000000FFFFull
#define DESCRIPTOR_CODE64 0x00AF9B000000FFFFull
#define DESCRIPTOR_DATA 0x00CF93000000FFFFull

// startup.S knows the places.
typedef struct __attribute__((packed)) _KI_STARTUP_DATA {
    USHORT GdtLimit; // 0x00
    ULONG GdtBase;
    USHORT Padding0;
    ULONG Enter32; // 0x08
    USHORT Enter32Selector;
    USHORT Padding1;
    ULONG Enter64; // 0x10
    USHORT Enter64Selector;
    USHORT Padding2;
    ULONG Root;    // 0x18
    ULONG Number;  // 0x1C
    ULONG64 Stack; // 0x20
    ULONG64 Entry; // 0x28
    ULONG64 Gdt[4];
} KI_STARTUP_DATA, *PKI_STARTUP_DATA;

C_ASSERT(FIELD_OFFSET(KI_STARTUP_DATA, Enter32) == 0x08);
C_ASSERT(FIELD_OFFSET(KI_STARTUP_DATA, Enter64) == 0x10);
C_ASSERT(FIELD_OFFSET(KI_STARTUP_DATA, Root) == 0x18);
C_ASSERT(FIELD_OFFSET(KI_STARTUP_DATA, Number) == 0x1C);
C_ASSERT(FIELD_OFFSET(KI_STARTUP_DATA, Stack) == 0x20);
C_ASSERT(FIELD_OFFSET(KI_STARTUP_DATA, Entry) == 0x28);

extern const UCHAR KiStartupCode[], KiStartupCode32[], KiStartupCode64[], KiStartupCodeEnd[];

static PUCHAR KiStartupPages; // NULL: none
static ULONG KiStartupAddress;
static BOOLEAN KiHasStraggler; // ST2
static PFN_NUMBER KiKernelRoot;
static volatile LONG KiHasArrived;

static PULONG64 KiStartupTable(ULONG Page)
{
    return (PULONG64)(KiStartupPages + (SIZE_T)Page * PAGE_SIZE);
}

static ULONG64 KiStartupEntry(ULONG Page)
{
    return (KiStartupAddress + Page * PAGE_SIZE) | STARTUP_WRITABLE;
}

// The kernel's top table, as the self-map shows it.
static const ULONG64 *KiTopTable(VOID)
{
    const ULONG64 Slot = MiArchSelfMapSlot();
    return (const ULONG64 *)(0xFFFF000000000000ull | Slot << 39 | Slot << 30 | Slot << 21 |
                             Slot << 12);
}

static VOID KiFillStartupTables(VOID)
{
    RtlZeroMemory(KiStartupTable(1), (SIZE_T)(STARTUP_PAGES - 1) * PAGE_SIZE);
    KiStartupTable(1)[0] = KiStartupEntry(2);
    KiStartupTable(2)[0] = KiStartupEntry(3);
    KiStartupTable(3)[0] = STARTUP_WRITABLE | STARTUP_LARGE;
    for (ULONG Slot = FIRST_UPPER_SLOT; Slot < PTES_PER_TABLE; Slot += 1) {
        KiStartupTable(1)[Slot] = KiTopTable()[Slot];
    }
}

static PKI_STARTUP_DATA KiStartupData(VOID)
{
    return (PKI_STARTUP_DATA)(KiStartupPages + (KiStartupCodeEnd - KiStartupCode));
}

static VOID KiFillStartupPage(VOID)
{
    const ULONG CodeBytes = (ULONG)(KiStartupCodeEnd - KiStartupCode);
    const PKI_STARTUP_DATA Data = KiStartupData();
    NT_ASSERT(CodeBytes + sizeof(*Data) <= PAGE_SIZE);
    RtlCopyMemory(KiStartupPages, KiStartupCode, CodeBytes);
    *Data = (KI_STARTUP_DATA){
        .GdtLimit = sizeof(Data->Gdt) - 1,
        .GdtBase = KiStartupAddress + CodeBytes + FIELD_OFFSET(KI_STARTUP_DATA, Gdt),
        .Enter32 = KiStartupAddress + (ULONG)(KiStartupCode32 - KiStartupCode),
        .Enter32Selector = 1 * sizeof(ULONG64),
        .Enter64 = KiStartupAddress + (ULONG)(KiStartupCode64 - KiStartupCode),
        .Enter64Selector = 2 * sizeof(ULONG64),
        .Root = KiStartupAddress + 1 * PAGE_SIZE,
        .Gdt = {0, DESCRIPTOR_CODE32, DESCRIPTOR_CODE64, DESCRIPTOR_DATA},
    };
}

BOOLEAN KeArchBeginStartup(VOID)
{
    PHYSICAL_ADDRESS Lowest = {.QuadPart = 0};
    PHYSICAL_ADDRESS Highest = {.QuadPart = LOW_MEMORY_END - 1};
    KiStartupPages = MmAllocateContiguousMemorySpecifyCache(STARTUP_PAGES * PAGE_SIZE, Lowest,
                                                            Highest, Lowest, MmCached);
    if (KiStartupPages == NULL) {
        return FALSE;
    }
    KiStartupAddress = (ULONG)MmGetPhysicalAddress(KiStartupPages).QuadPart;
    KiKernelRoot = MiArchReadRoot();
    KiHasStraggler = FALSE;
    KiFillStartupTables();
    KiFillStartupPage();
    return TRUE;
}

VOID KeArchEndStartup(VOID)
{
    if (!KiHasStraggler) {
        MmFreeContiguousMemorySpecifyCache(KiStartupPages, STARTUP_PAGES * PAGE_SIZE, MmCached);
    }
    KiStartupPages = NULL;
}

// The processor's first C code: on its own stack, interrupts off, in the startup tables.
static DECLSPEC_NORETURN VOID KiEnterKernel(ULONG Number)
{
    MiArchLoadRoot(KiKernelRoot);
    KeArchInitializeProcessor(Number);
    __atomic_store_n(&KiHasArrived, 1, __ATOMIC_RELEASE);
    KiRunNewProcessor();
}

static BOOLEAN KiWaitForArrival(ULONG Microseconds)
{
    for (ULONG Waited = 0; Waited < Microseconds; Waited += POLL_MICROSECONDS) {
        if (__atomic_load_n(&KiHasArrived, __ATOMIC_ACQUIRE)) {
            return TRUE;
        }
        KeStallExecutionProcessor(POLL_MICROSECONDS);
    }
    return FALSE;
}

BOOLEAN KeArchStartProcessor(ULONG Number, ULONG ApicId, ULONG_PTR StackBase)
{
    const PKI_STARTUP_DATA Data = KiStartupData();
    if (KiHasStraggler) {
        return FALSE;
    }
    Data->Number = Number;
    Data->Stack = StackBase;
    Data->Entry = (ULONG64)KiEnterKernel;
    KiHasArrived = 0;
    KiSetApicId(Number, ApicId);
    KiSendInit(ApicId);
    KeStallExecutionProcessor(INIT_MICROSECONDS);
    KiSendStartup(ApicId, KiStartupAddress >> PAGE_SHIFT);
    if (!KiWaitForArrival(STARTUP_MICROSECONDS)) {
        KiSendStartup(ApicId, KiStartupAddress >> PAGE_SHIFT);
    }
    KiHasStraggler = !KiWaitForArrival(ANSWER_MICROSECONDS);
    return !KiHasStraggler;
}
