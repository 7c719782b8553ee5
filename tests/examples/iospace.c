// Reads a register of a device whose memory begins at Registers: what the bus driver has put into
// the translated resources.
#include "examples.h"

#define REGISTERS_BYTES 0x40
#define REGISTER_VERSION 0x30

NTSTATUS ExampleReadVersion(PHYSICAL_ADDRESS Registers, PULONG Version)
{
    // Without PAGE_NOCACHE the registers would be cached.
    const PUCHAR Base = MmMapIoSpaceEx(Registers, REGISTERS_BYTES, PAGE_READWRITE | PAGE_NOCACHE);
    if (Base == NULL) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    *Version = READ_REGISTER_ULONG((PULONG)(Base + REGISTER_VERSION));
    MmUnmapIoSpace(Base, REGISTERS_BYTES); // the address and the size of the mapping call
    return STATUS_SUCCESS;
}
