// libFuzzer on the network stack (drivers/inet): an input is a conversation. Each frame of it has three
// bytes in front, what to do and the frame's length; then the stack must have given everything back.
#include <stdint.h>

#include "tests/host/host.h"
#include "tests/host/inetlab.h"

#define STEP_BYTES 3
#define STEP_SEAL 0x01  // make the checksums of IPv4, ICMP and UDP right
#define STEP_WAIT 0x02  // let some time pass afterwards
#define STEP_CUT 0x04   // the frame lies in several pieces of memory
#define STEP_TO_US 0x08 // from the peer, to the stack

static LAB Lab;

int LLVMFuzzerTestOneInput(const uint8_t *Data, size_t Size);

VOID HostFail(const CHAR *File, int Line, const CHAR *Format, ...)
{
    fprintf(stderr, "%s:%d: %s\n", File, Line, Format);
    abort();
}

// No frame here needs a mapping.
PVOID NTAPI MmMapLockedPagesSpecifyCache(PMDL Mdl, KPROCESSOR_MODE AccessMode,
                                         MEMORY_CACHING_TYPE CacheType, PVOID RequestedAddress,
                                         ULONG BugCheckOnFailure, ULONG Priority)
{
    UNREFERENCED_PARAMETER(Mdl);
    UNREFERENCED_PARAMETER(AccessMode);
    UNREFERENCED_PARAMETER(CacheType);
    UNREFERENCED_PARAMETER(RequestedAddress);
    UNREFERENCED_PARAMETER(BugCheckOnFailure);
    UNREFERENCED_PARAMETER(Priority);
    abort();
}

static void Seal(LAB_FRAME *Frame)
{
    if (Frame->ByteCount < OFFSET_PAYLOAD + 8 || Peek(Frame, 12, 2) != 0x0800) {
        return;
    }
    Frame->Bytes[OFFSET_IPV4] = 0x45;
    if (Frame->Bytes[OFFSET_IPV4 + 9] == 17) {
        SealUdp(Frame);
    } else if (Frame->Bytes[OFFSET_IPV4 + 9] == 1) {
        Poke16(Frame, OFFSET_PAYLOAD + 2, 0);
        Poke16(Frame, OFFSET_PAYLOAD + 2,
               65535 -
                   OnesSum(&Frame->Bytes[OFFSET_PAYLOAD], Frame->ByteCount - OFFSET_PAYLOAD, 0));
    }
    SealIpv4(Frame);
}

static void Direct(LAB_FRAME *Frame)
{
    if (Frame->ByteCount < OFFSET_PAYLOAD) {
        return;
    }
    memcpy(Frame->Bytes, LabOwnMac, ETHERNET_ADDRESS_BYTES);
    memcpy(&Frame->Bytes[6], LabPeerMac, ETHERNET_ADDRESS_BYTES);
    if (Peek(Frame, 12, 2) == 0x0800) {
        Poke16(Frame, OFFSET_IPV4 + 12, LAB_PEER_ADDRESS >> 16);
        Poke16(Frame, OFFSET_IPV4 + 14, LAB_PEER_ADDRESS & 0xFFFF);
        Poke16(Frame, OFFSET_IPV4 + 16, LAB_OWN_ADDRESS >> 16);
        Poke16(Frame, OFFSET_IPV4 + 18, LAB_OWN_ADDRESS & 0xFFFF);
    }
}

// One frame of the conversation; returns how many bytes of the input it took.
static size_t Step(const uint8_t *Data, size_t Size)
{
    LAB_FRAME Frame = {.ByteCount = 0};
    const ULONG Flags = Data[0];
    size_t Count = (size_t)(Data[1] % 8) << 8 | Data[2];

    Count = Count < Size - STEP_BYTES ? Count : Size - STEP_BYTES;
    Count = Count < 1600 ? Count : 1600;
    PutBytes(&Frame, Data + STEP_BYTES, (ULONG)Count);
    if (Flags & STEP_TO_US) {
        Direct(&Frame);
    }
    if (Flags & STEP_SEAL) {
        Seal(&Frame);
    }
    Lab.PieceBytes = Flags & STEP_CUT ? 16 + Flags : 0;
    LabReceiveFrame(&Lab, &Frame);
    if (Flags & STEP_WAIT) {
        LabAdvance(&Lab, Flags * 16);
    }
    LabForget(&Lab);
    return STEP_BYTES + Count;
}

int LLVMFuzzerTestOneInput(const uint8_t *Data, size_t Size)
{
    if (Size == 0) {
        return 0;
    }
    LabStart(&Lab, (Data[0] & 1) != 0);
    Lab.ReportBytes = Data[0] * 16;
    for (size_t Offset = 1; Offset + STEP_BYTES <= Size;) {
        Offset += Step(Data + Offset, Size - Offset);
    }
    LabEnd(&Lab);
    return 0;
}
