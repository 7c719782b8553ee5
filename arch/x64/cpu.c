// One processor: what it can do, its protections, its control region, and the small services of
// kearch.h.
//
// Order of KeArchInitializeProcessor: features first, because no bit of CR4 or EFER may be set that
// CPUID does not announce; then the tables, so that a fault in the rest is already reported; cache
// types last.

#include "arch/x64/x64.h"

#include "kernel/inc/ke.h"
#include "kernel/inc/ps.h"
#include "kernel/inc/rtl.h"
#include "mm/miarch.h"

KE_FEATURES KeFeatures;

static KPCR KiPcrs[KE_MAXIMUM_PROCESSORS] __attribute__((aligned(64)));

#define DEFAULT_PHYSICAL_BITS 36
#define DEFAULT_VIRTUAL_BITS 48

// [x64] Access-disable and write-disable of protection key n are bits 2n and 2n + 1 of PKRS. A
// fetch ignores them.
#define PKRS_ACCESS_DISABLE(Key) (1ull << (2 * (Key)))
#define PKRS_WRITE_DISABLE(Key) (2ull << (2 * (Key)))

static VOID KiReadNames(PKE_FEATURES Features, ULONG HighestExtended)
{
    const X64_CPUID Basic = X64Cpuid(0, 0);
    const ULONG Vendor[] = {Basic.Ebx, Basic.Edx, Basic.Ecx};
    memcpy(Features->Vendor, Vendor, sizeof(Vendor));
    if (HighestExtended < CPUID_BRAND + 2) {
        return;
    }
    for (ULONG Leaf = 0; Leaf < 3; Leaf += 1) {
        const X64_CPUID Part = X64Cpuid(CPUID_BRAND + Leaf, 0);
        memcpy(Features->Brand + Leaf * sizeof(Part), &Part, sizeof(Part));
    }
}

static VOID KiReadExtendedLeaves(PKE_FEATURES Features, ULONG HighestExtended)
{
    const X64_CPUID Extended = X64Cpuid(CPUID_EXT_FEATURES, 0);
    Features->Nx = (Extended.Edx & CPUID_EXT1_EDX_NX) != 0;
    Features->Page1G = (Extended.Edx & CPUID_EXT1_EDX_PAGE1G) != 0;
    if (HighestExtended >= CPUID_POWER) {
        Features->InvariantTsc = (X64Cpuid(CPUID_POWER, 0).Edx & CPUID_EXT7_EDX_INVARIANT_TSC) != 0;
    }
    Features->PhysicalBits = DEFAULT_PHYSICAL_BITS;
    Features->VirtualBits = DEFAULT_VIRTUAL_BITS;
    if (HighestExtended >= CPUID_ADDRESS_SIZES) {
        const ULONG Sizes = X64Cpuid(CPUID_ADDRESS_SIZES, 0).Eax;
        Features->PhysicalBits = (UCHAR)Sizes;
        Features->VirtualBits = (UCHAR)(Sizes >> 8);
    }
}

static VOID KiReadBasicLeaves(PKE_FEATURES Features)
{
    const X64_CPUID Basic = X64Cpuid(CPUID_FEATURES, 0);
    Features->GlobalPages = (Basic.Edx & CPUID_1_EDX_PGE) != 0;
    Features->Mtrr = (Basic.Edx & CPUID_1_EDX_MTRR) != 0;
    Features->Pat = (Basic.Edx & CPUID_1_EDX_PAT) != 0;
    Features->MachineCheck = (Basic.Edx & CPUID_1_EDX_MCE) != 0;
    Features->ClFlush = (Basic.Edx & CPUID_1_EDX_CLFSH) != 0;
    Features->Sse3 = (Basic.Ecx & CPUID_1_ECX_SSE3) != 0;
    Features->CompareExchange16 = (Basic.Ecx & CPUID_1_ECX_CX16) != 0;
    Features->CacheLineBytes = (USHORT)((Basic.Ebx >> 8 & 0xFF) * 8);
    if (X64Cpuid(0, 0).Eax >= CPUID_EXTENDED_FEATURES) {
        const X64_CPUID Structured = X64Cpuid(CPUID_EXTENDED_FEATURES, 0);
        Features->Smep = (Structured.Ebx & CPUID_7_EBX_SMEP) != 0;
        Features->Smap = (Structured.Ebx & CPUID_7_EBX_SMAP) != 0;
        Features->Invpcid = (Structured.Ebx & CPUID_7_EBX_INVPCID) != 0;
        Features->Umip = (Structured.Ecx & CPUID_7_ECX_UMIP) != 0;
        Features->Pks = (Structured.Ecx & CPUID_7_ECX_PKS) != 0;
    }
}

static VOID KiReadFeatures(PKE_FEATURES Features)
{
    const ULONG HighestExtended = X64Cpuid(CPUID_MAXIMUM_EXTENDED, 0).Eax;
    KiReadBasicLeaves(Features);
    KiReadExtendedLeaves(Features, HighestExtended);
    KiReadNames(Features, HighestExtended);
}

typedef struct _KI_CR4_ROW {
    const BOOLEAN *Feature; // NULL: every 64-bit processor has it
    ULONG64 Bit;
} KI_CR4_ROW;

static const KI_CR4_ROW KiCr4Table[] = {
    {NULL, CR4_OSFXSR | CR4_OSXMMEXCPT}, // drivers may use SSE; the kernel itself does not
    {&KeFeatures.MachineCheck, CR4_MCE}, // else a hardware error is a silent shutdown
    {&KeFeatures.Smep, CR4_SMEP},        {&KeFeatures.Smap, CR4_SMAP}, {&KeFeatures.Umip, CR4_UMIP},
    {&KeFeatures.GlobalPages, CR4_PGE},  {&KeFeatures.Pks, CR4_PKS},
};

// The first processor's; all others have the same.
static struct {
    ULONG64 Efer;
    ULONG64 Cr0;
    ULONG64 Cr4;
} KiControls;

static ULONG64 KiWantedCr4(VOID)
{
    ULONG64 Cr4 = X64ReadCr4();
    for (ULONG Index = 0; Index < sizeof(KiCr4Table) / sizeof(KiCr4Table[0]); Index += 1) {
        if (KiCr4Table[Index].Feature == NULL || *KiCr4Table[Index].Feature) {
            Cr4 |= KiCr4Table[Index].Bit;
        }
    }
    return Cr4;
}

static VOID KiDecideControls(VOID)
{
    KiControls.Efer = KeArchReadMsr(MSR_EFER) | EFER_NXE;
    KiControls.Cr0 = (X64ReadCr0() | CR0_WP | CR0_NE | CR0_MP) & ~(ULONG64)(CR0_EM | CR0_TS);
    KiControls.Cr4 = KiWantedCr4();
    KeFeatures.WriteProtect = TRUE;
}

static VOID KiEnableProtections(VOID)
{
    KeArchWriteMsr(MSR_EFER, KiControls.Efer);
    X64WriteCr0(KiControls.Cr0);
    X64WriteCr4(KiControls.Cr4);
    if (KeFeatures.Pks) {
        KeArchWriteMsr(MSR_PKRS, PKRS_ACCESS_DISABLE(PKEY_EXECUTE_ONLY) |
                                     PKRS_WRITE_DISABLE(PKEY_EXECUTE_ONLY));
    }
    if (KeFeatures.Smap) {
        __asm__ volatile("clac" : : : "memory");
    }
}

static VOID KiInitializePcr(ULONG Number)
{
    KPCR *Pcr = &KiPcrs[Number];
    Pcr->Self = Pcr;
    Pcr->CurrentPrcb = &Pcr->MxCsr;
    Pcr->MxCsr = MXCSR_ALL_MASKED;
    Pcr->Number = (USHORT)Number;
    Pcr->CurrentThread = KiGetInitialThread(Number);
    KeArchWriteMsr(MSR_GS_BASE, (ULONG64)Pcr);
}

PKPCR KeArchGetPcrOf(ULONG Number)
{
    return &KiPcrs[Number];
}

// The two 8259 interrupt controllers: moved away from the exceptions' vectors, because even a
// masked one can deliver a spurious interrupt, and then masked for good.
typedef struct _KI_PORT_WRITE {
    USHORT Port;
    UCHAR Value;
} KI_PORT_WRITE;

#define PIC1_COMMAND 0x20
#define PIC1_DATA 0x21
#define PIC2_COMMAND 0xA0
#define PIC2_DATA 0xA1
#define PIC_INITIALIZE 0x11 // edge-triggered, cascaded, four words follow
#define PIC_8086_MODE 0x01
#define PIC_CASCADE_LINE 2
#define PIC_MASK_ALL 0xFF

static const KI_PORT_WRITE KiPicSettings[] = {
    {PIC1_COMMAND, PIC_INITIALIZE},      {PIC2_COMMAND, PIC_INITIALIZE},
    {PIC1_DATA, VECTOR_PIC_BASE},        {PIC2_DATA, VECTOR_PIC_BASE + 8},
    {PIC1_DATA, 1u << PIC_CASCADE_LINE}, {PIC2_DATA, PIC_CASCADE_LINE},
    {PIC1_DATA, PIC_8086_MODE},          {PIC2_DATA, PIC_8086_MODE},
    {PIC1_DATA, PIC_MASK_ALL},           {PIC2_DATA, PIC_MASK_ALL},
};

static VOID KiMaskInterruptControllers(VOID)
{
    for (ULONG Index = 0; Index < sizeof(KiPicSettings) / sizeof(KiPicSettings[0]); Index += 1) {
        KeArchWritePort8(KiPicSettings[Index].Port, KiPicSettings[Index].Value);
    }
}

// A page that can be neither writable nor executable at will is what everything above relies on.
static VOID KiRequireNoExecute(VOID)
{
    if (!KeFeatures.Nx) {
        KiBugCheckSaying(UNSUPPORTED_PROCESSOR, 0, 0, 0, 0,
                         "processor \"%s\" cannot forbid execution of a page (NX)",
                         KeFeatures.Vendor);
    }
}

// What the kernel found on the first processor it relies on everywhere.
static VOID KiRequireSameFeatures(VOID)
{
    KE_FEATURES Features = {.WriteProtect = KeFeatures.WriteProtect};
    KiReadFeatures(&Features);
    if (!RtlEqualMemory(&Features, &KeFeatures, sizeof(Features))) {
        KiBugCheckSaying(MULTIPROCESSOR_CONFIGURATION_NOT_SUPPORTED, KeArchGetPcr()->Number, 0, 0,
                         0, "processor %u, \"%s\", is not like the first one, \"%s\"",
                         KeArchGetPcr()->Number, Features.Brand, KeFeatures.Brand);
    }
}

VOID KeArchInitializeProcessor(ULONG Number)
{
    NT_ASSERT(Number < KE_MAXIMUM_PROCESSORS);
    if (Number == 0) {
        KiReadFeatures(&KeFeatures);
        KiDecideControls();
        KiInitializeInterruptTable();
        KiMaskInterruptControllers();
    }
    KiInitializeDescriptorTables(Number);
    KiInitializePcr(Number);
    if (Number == 0) {
        KiRequireNoExecute();
    } else {
        KiRequireSameFeatures();
    }
    KiEnableProtections();
    MiArchInitializeCacheTypes();
    KeArchWriteIrql(PASSIVE_LEVEL);
}

BOOLEAN KeArchDisableInterrupts(VOID)
{
    C_ASSERT(KI_FLAG_INTERRUPTS == RFLAGS_IF);
    return (KeArchHoldInterrupts() & KI_FLAG_INTERRUPTS) != 0;
}

VOID KeArchRestoreInterrupts(BOOLEAN WereOn)
{
    if (WereOn) {
        __asm__ volatile("sti" : : : "memory");
    }
}

DECLSPEC_NORETURN VOID KeArchHalt(VOID)
{
    for (;;) {
        __asm__ volatile("cli; hlt" : : : "memory");
    }
}

ULONG64 KeArchReadMsr(ULONG Msr)
{
    ULONG Low;
    ULONG High;
    __asm__ volatile("rdmsr" : "=a"(Low), "=d"(High) : "c"(Msr));
    return (ULONG64)High << 32 | Low;
}

VOID KeArchWriteMsr(ULONG Msr, ULONG64 Value)
{
    __asm__ volatile("wrmsr" : : "c"(Msr), "a"((ULONG)Value), "d"((ULONG)(Value >> 32)) : "memory");
}

UCHAR KeArchReadPort8(USHORT Port)
{
    UCHAR Value;
    __asm__ volatile("inb %1, %0" : "=a"(Value) : "Nd"(Port) : "memory");
    return Value;
}

USHORT KeArchReadPort16(USHORT Port)
{
    USHORT Value;
    __asm__ volatile("inw %1, %0" : "=a"(Value) : "Nd"(Port) : "memory");
    return Value;
}

ULONG KeArchReadPort32(USHORT Port)
{
    ULONG Value;
    __asm__ volatile("inl %1, %0" : "=a"(Value) : "Nd"(Port) : "memory");
    return Value;
}

VOID KeArchWritePort8(USHORT Port, UCHAR Value)
{
    __asm__ volatile("outb %0, %1" : : "a"(Value), "Nd"(Port) : "memory");
}

VOID KeArchWritePort16(USHORT Port, USHORT Value)
{
    __asm__ volatile("outw %0, %1" : : "a"(Value), "Nd"(Port) : "memory");
}

VOID KeArchWritePort32(USHORT Port, ULONG Value)
{
    __asm__ volatile("outl %0, %1" : : "a"(Value), "Nd"(Port) : "memory");
}
