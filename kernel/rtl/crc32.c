// CRC-32 of Ethernet, zip and GPT: polynomial 0x04C11DB7, bits reflected, so 0xEDB88320 here.
//
// Eight bytes per step: table k holds, for each byte value, the remainder of that byte followed by
// k zero bytes. The remainder of eight bytes is then the exclusive or of eight look-ups that do not
// wait for each other.

#include "kernel/inc/rtl.h"

#define CRC_POLYNOMIAL 0xEDB88320u
#define CRC_TABLE_COUNT 8

static ULONG RtlpCrcTable[CRC_TABLE_COUNT][256];

static VOID RtlpBuildCrcTables(VOID)
{
    for (ULONG Byte = 0; Byte < 256; Byte += 1) {
        ULONG Remainder = Byte;
        for (ULONG Bit = 0; Bit < 8; Bit += 1) {
            Remainder = (Remainder >> 1) ^ ((Remainder & 1) ? CRC_POLYNOMIAL : 0);
        }
        RtlpCrcTable[0][Byte] = Remainder;
    }
    for (ULONG Table = 1; Table < CRC_TABLE_COUNT; Table += 1) {
        for (ULONG Byte = 0; Byte < 256; Byte += 1) {
            const ULONG Before = RtlpCrcTable[Table - 1][Byte];
            RtlpCrcTable[Table][Byte] = (Before >> 8) ^ RtlpCrcTable[0][Before & 0xFF];
        }
    }
}

static inline ULONG RtlpCrcByte(ULONG Crc, UCHAR Byte)
{
    return (Crc >> 8) ^ RtlpCrcTable[0][(Crc ^ Byte) & 0xFF];
}

static inline ULONG RtlpCrcEightBytes(ULONG Crc, const UCHAR *Bytes)
{
    ULONG64 Word;
    __builtin_memcpy(&Word, Bytes, sizeof(Word));
    Word ^= Crc;
    ULONG Result = 0;
    for (ULONG Index = 0; Index < CRC_TABLE_COUNT; Index += 1) {
        Result ^= RtlpCrcTable[CRC_TABLE_COUNT - 1 - Index][(Word >> (8 * Index)) & 0xFF];
    }
    return Result;
}

ULONG RtlCrc32(const VOID *Buffer, SIZE_T ByteCount, ULONG InitialCrc)
{
    // Entry [0][255] is not 0 once the tables exist. Two processors that build them at once store
    // the same values.
    if (__atomic_load_n(&RtlpCrcTable[CRC_TABLE_COUNT - 1][255], __ATOMIC_ACQUIRE) == 0) {
        RtlpBuildCrcTables();
    }
    const UCHAR *Bytes = Buffer;
    ULONG Crc = ~InitialCrc;
    for (; ByteCount >= 8; ByteCount -= 8, Bytes += 8) {
        Crc = RtlpCrcEightBytes(Crc, Bytes);
    }
    for (; ByteCount > 0; --ByteCount, ++Bytes) {
        Crc = RtlpCrcByte(Crc, *Bytes);
    }
    return ~Crc;
}
