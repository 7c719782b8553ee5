// I/O APICs: from the lines of devices to vectors.
//
//   line = FirstLine + input ──▶ redirection entry ──▶ message to a local APIC
//
// An I/O APIC has two registers in memory, a selector and a window, behind which lie 64-bit
// redirection entries, one per input. Firmware's tables (MADT) say where each one is and which lines
// it serves; kernel/io reads them.
//
// Lock: KiLineLock, with interrupts off, because a storm is masked from inside an interrupt.

#include "arch/x64/x64.h"

#include "kernel/inc/ke.h"
#include "kernel/inc/kelockinline.h"

#define IOAPIC_SELECT 0x00 // byte offsets in memory
#define IOAPIC_WINDOW 0x10
#define IOAPIC_REGISTER_BYTES 0x20

#define IOAPIC_VERSION 1 // registers behind the window
#define IOAPIC_ENTRIES 0x10

#define ENTRY_ACTIVE_LOW (1u << 13)
#define ENTRY_LEVEL (1u << 15)
#define ENTRY_MASKED (1u << 16)
#define ENTRY_DESTINATION_SHIFT 24 // in the upper half: the local APIC

#define MAXIMUM_CONTROLLERS 8

typedef struct _KI_LINE_CONTROLLER {
    volatile ULONG *Registers;
    ULONG FirstLine;
    ULONG LineCount;
} KI_LINE_CONTROLLER;

static KI_LINE_CONTROLLER KiLineControllers[MAXIMUM_CONTROLLERS];
static ULONG KiLineControllerCount;
static KSPIN_LOCK KiLineLock;

static ULONG KiReadIoApic(const KI_LINE_CONTROLLER *Controller, ULONG Register)
{
    Controller->Registers[IOAPIC_SELECT / sizeof(ULONG)] = Register;
    return Controller->Registers[IOAPIC_WINDOW / sizeof(ULONG)];
}

static VOID KiWriteIoApic(const KI_LINE_CONTROLLER *Controller, ULONG Register, ULONG Value)
{
    Controller->Registers[IOAPIC_SELECT / sizeof(ULONG)] = Register;
    Controller->Registers[IOAPIC_WINDOW / sizeof(ULONG)] = Value;
}

// The number of a line's lower register; the upper one follows.
static ULONG KiEntryOfLine(const KI_LINE_CONTROLLER *Controller, ULONG Line)
{
    return IOAPIC_ENTRIES + 2 * (Line - Controller->FirstLine);
}

static const KI_LINE_CONTROLLER *KiFindLine(ULONG Line)
{
    for (ULONG Index = 0; Index < KiLineControllerCount; Index += 1) {
        const KI_LINE_CONTROLLER *Controller = &KiLineControllers[Index];
        if (Line >= Controller->FirstLine && Line - Controller->FirstLine < Controller->LineCount) {
            return Controller;
        }
    }
    return NULL;
}

BOOLEAN KeArchHasLine(ULONG Line)
{
    return KiFindLine(Line) != NULL;
}

ULONG KeArchAddLineController(ULONG64 RegisterAddress, ULONG FirstLine)
{
    PHYSICAL_ADDRESS Physical;
    Physical.QuadPart = (LONGLONG)RegisterAddress;
    if (KiLineControllerCount == MAXIMUM_CONTROLLERS) {
        return 0;
    }
    KI_LINE_CONTROLLER *Controller = &KiLineControllers[KiLineControllerCount];
    Controller->Registers =
        MmMapIoSpaceEx(Physical, IOAPIC_REGISTER_BYTES, PAGE_READWRITE | PAGE_NOCACHE);
    if (Controller->Registers == NULL) {
        return 0;
    }
    Controller->FirstLine = FirstLine;
    Controller->LineCount = (KiReadIoApic(Controller, IOAPIC_VERSION) >> 16 & 0xFF) + 1;
    for (ULONG Line = FirstLine; Line < FirstLine + Controller->LineCount; Line += 1) {
        KiWriteIoApic(Controller, KiEntryOfLine(Controller, Line), ENTRY_MASKED);
    }
    KiLineControllerCount += 1;
    return Controller->LineCount;
}

VOID KeArchSetLine(ULONG Line, const KE_LINE_SETTING *Setting)
{
    const KI_LINE_CONTROLLER *Controller = KiFindLine(Line);
    const ULONG Low = Setting->Vector | (Setting->IsLevel ? ENTRY_LEVEL : 0) |
                      (Setting->IsActiveLow ? ENTRY_ACTIVE_LOW : 0) |
                      (Setting->IsMasked ? ENTRY_MASKED : 0);
    NT_ASSERT(Controller != NULL);
    const ULONG Entry = KiEntryOfLine(Controller, Line);
    const BOOLEAN WereOn = KeArchDisableInterrupts();
    KiSpin(&KiLineLock);
    KiWriteIoApic(Controller, Entry + 1, KiGetApicId() << ENTRY_DESTINATION_SHIFT);
    KiWriteIoApic(Controller, Entry, Low);
    __atomic_store_n(&KiLineLock, 0, __ATOMIC_RELEASE);
    KeArchRestoreInterrupts(WereOn);
}
