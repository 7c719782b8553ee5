// The start of a processor, and the machine's exit.

#include "kernel/inc/kd.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"

VOID KeInitializeProcessor(ULONG Number)
{
    KeArchInitializeProcessor(Number);
}

ULONG KiGetCurrentProcessor(VOID)
{
    return KeArchGetPcr()->Number;
}

typedef struct _KI_FEATURE_ROW {
    const BOOLEAN *Present;
    PCSTR Name;
} KI_FEATURE_ROW;

static const KI_FEATURE_ROW KiFeatureTable[] = {
    {&KeFeatures.Nx, "NX"},
    {&KeFeatures.WriteProtect, "WP"},
    {&KeFeatures.Smep, "SMEP"},
    {&KeFeatures.Smap, "SMAP"},
    {&KeFeatures.Umip, "UMIP"},
    {&KeFeatures.Pks, "PKS"},
    {&KeFeatures.Pat, "PAT"},
    {&KeFeatures.GlobalPages, "PGE"},
    {&KeFeatures.Page1G, "1G-pages"},
    {&KeFeatures.Invpcid, "INVPCID"},
    {&KeFeatures.MachineCheck, "MCE"},
};

static VOID KiPrintFeatures(PCSTR Heading, BOOLEAN Present)
{
    PCSTR Separator = Heading;
    for (ULONG Index = 0; Index < ARRAYSIZE(KiFeatureTable); Index += 1) {
        if (*KiFeatureTable[Index].Present == Present) {
            DbgPrint("%s %s", Separator, KiFeatureTable[Index].Name);
            Separator = "";
        }
    }
}

VOID KePrintProcessor(VOID)
{
    DbgPrint("processor: %s (%s), %u physical address bits\n", KeFeatures.Brand, KeFeatures.Vendor,
             KeFeatures.PhysicalBits);
    KiPrintFeatures("  on:", TRUE);
    KiPrintFeatures("; not offered:", FALSE);
    DbgPrint("\n");
    if (!KeFeatures.Pks) {
        DbgPrint("  without PKS, memory mapped with PAGE_EXECUTE can also be read\n");
    }
}

// QEMU's isa-debug-exit device ends the emulator with status Code * 2 + 1. Bochs ends on the
// letters of "Shutdown".
#define QEMU_EXIT_PORT 0xF4
#define BOCHS_EXIT_PORT 0x8900

DECLSPEC_NORETURN VOID KeExitMachine(KE_EXIT_CODE Code)
{
    KdFlushConsole();
    KeArchWritePort8(QEMU_EXIT_PORT, (UCHAR)Code);
    for (PCSTR Letter = "Shutdown"; *Letter != 0; Letter += 1) {
        KeArchWritePort8(BOCHS_EXIT_PORT, (UCHAR)*Letter);
    }
    KeArchHalt();
}
