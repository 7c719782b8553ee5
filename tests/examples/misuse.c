// What not to do. A failure path that undoes a mapping, and a caller that undoes it as well: the
// second unmap would take away somebody else's mapping, so it stops the machine.
#include "examples.h"

#define REGISTERS_BYTES 0x1000

static BOOLEAN StartDevice(PVOID Base)
{
    MmUnmapIoSpace(Base, REGISTERS_BYTES); // the start failed
    return FALSE;
}

VOID ExampleUnmapTwice(PHYSICAL_ADDRESS Registers)
{
    const PVOID Base = MmMapIoSpaceEx(Registers, REGISTERS_BYTES, PAGE_READWRITE | PAGE_NOCACHE);
    if (Base != NULL && !StartDevice(Base)) {
        MmUnmapIoSpace(Base, REGISTERS_BYTES); // SYSTEM_PTE_MISUSE, 0x400
    }
}
