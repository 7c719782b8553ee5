// The other processors: which ones there are, and their start.
//
// Firmware's table MADT names each processor by its APIC id, and says whether it can be used. Boot options:
// `processors`: how many at most; `ghost`: an APIC id that the table shall name besides, to see what becomes of
// a processor that does not answer.
#include "kernel/inc/ps.h"
#include "kernel/io/iop.h"

#define MADT_LOCAL_APIC 0
#define MADT_LOCAL_X2APIC 9
#define LOCAL_APIC_ENABLED 0x1

// Behind type and length.
typedef struct __attribute__((packed)) _MADT_LOCAL_APIC_ENTRY {
    UCHAR Type;
    UCHAR Length;
    UCHAR ProcessorUid;
    UCHAR ApicId;
    ULONG Flags;
} MADT_LOCAL_APIC_ENTRY;

typedef struct __attribute__((packed)) _MADT_LOCAL_X2APIC_ENTRY {
    UCHAR Type;
    UCHAR Length;
    USHORT Reserved;
    ULONG ApicId;
    ULONG Flags;
    ULONG ProcessorUid;
} MADT_LOCAL_X2APIC_ENTRY;

C_ASSERT(sizeof(MADT_LOCAL_APIC_ENTRY) == 8 && sizeof(MADT_LOCAL_X2APIC_ENTRY) == 16);

static ULONG IopApicIds[KE_MAXIMUM_PROCESSORS];
static ULONG IopApicIdCount;

// A processor may be named twice, as an old and as a new entry.
static VOID IopNoteProcessor(ULONG ApicId, ULONG Flags)
{
    for (ULONG Index = 0; Index < IopApicIdCount; Index += 1) {
        if (IopApicIds[Index] == ApicId) {
            return;
        }
    }
    if ((Flags & LOCAL_APIC_ENABLED) == 0 || ApicId == KeArchGetApicId()) {
        return;
    }
    if (!KeArchCanReachApic(ApicId)) {
        DbgPrint("processors: the one with APIC id %u needs an x2APIC, and is left alone\n",
                 ApicId);
        return;
    }
    if (IopApicIdCount < KE_MAXIMUM_PROCESSORS) {
        IopApicIds[IopApicIdCount] = ApicId;
        IopApicIdCount += 1;
    }
}

VOID IopReadMadtProcessor(const VOID *Entry)
{
    const MADT_LOCAL_APIC_ENTRY *Local = Entry;
    const MADT_LOCAL_X2APIC_ENTRY *Local2 = Entry;
    if (Local->Type == MADT_LOCAL_APIC && Local->Length >= sizeof(*Local)) {
        IopNoteProcessor(Local->ApicId, Local->Flags);
    } else if (Local2->Type == MADT_LOCAL_X2APIC && Local2->Length >= sizeof(*Local2)) {
        IopNoteProcessor(Local2->ApicId, Local2->Flags);
    }
}

// A number among the boot options, or MAXULONG.
static ULONG IopNumberOption(PCSTR Name)
{
    CHAR Text[8];
    ULONG Number = 0;
    if (!KeGetBootOption(Name, Text, sizeof(Text))) {
        return MAXULONG;
    }
    for (PCSTR Digit = Text; *Digit >= '0' && *Digit <= '9'; Digit += 1) {
        Number = Number * 10 + (ULONG)(*Digit - '0');
    }
    return Number;
}

static ULONG IopProcessorLimit(VOID)
{
    const ULONG Limit = IopNumberOption("processors");
    return Limit >= 1 && Limit < KE_MAXIMUM_PROCESSORS ? Limit : KE_MAXIMUM_PROCESSORS;
}

static BOOLEAN IopStartProcessor(ULONG ApicId)
{
    const PVOID Stack = MmCreateKernelStack(NULL);
    if (Stack == NULL) {
        DbgPrint("processors: no memory for the stack of the one with APIC id %u\n", ApicId);
        return FALSE;
    }
    if (!KeStartProcessor(ApicId, Stack, MM_KERNEL_STACK_BYTES)) {
        DbgPrint("processors: no more are started\n");
        return FALSE;
    }
    return TRUE;
}

VOID IopStartProcessors(VOID)
{
    const ULONG Limit = IopProcessorLimit();
    const ULONG Ghost = IopNumberOption("ghost");
    if (Ghost != MAXULONG) {
        IopNoteProcessor(Ghost, LOCAL_APIC_ENABLED);
    }
    if (IopApicIdCount == 0 || Limit == 1) {
        return;
    }
    if (!KeArchBeginStartup()) {
        DbgPrint("processors: no memory below 1 MiB; only the first one runs\n");
        return;
    }
    for (ULONG Index = 0; Index < IopApicIdCount && (ULONG)KeNumberProcessors < Limit; Index += 1) {
        if (!IopStartProcessor(IopApicIds[Index])) {
            break;
        }
    }
    KeArchEndStartup();
    DbgPrint("processors: %u run\n", (ULONG)KeNumberProcessors);
}
