// The Intel 82540EM as its manual describes it: "PCI/PCI-X Family of Gigabit Ethernet Controllers
// Software Developer's Manual". Only what this driver uses. Registers are 32 bits wide,
// little-endian, in the first memory BAR; offsets are bytes from its start.
#pragma once

#include <wdm.h>

#define E1000_REGISTER_BYTES 0x20000 // the whole window: 128 KiB
#define E1000_ABSENT 0xFFFFFFFFu     // what a read of a card that is gone returns

//
// General: "Register Descriptions", "Main Register Descriptions".
//

#define E1000_CTRL 0x0000   // device control
#define E1000_STATUS 0x0008 // device status, read-only
#define E1000_EERD 0x0014   // EEPROM read
#define E1000_FCAL 0x0028   // flow control: address low, address high, type, transmit timer
#define E1000_FCAH 0x002C
#define E1000_FCT 0x0030
#define E1000_FCTTV 0x0170
#define E1000_VET 0x0038 // the Ethernet type that marks a VLAN tag
#define E1000_ICR 0x00C0 // interrupt causes; cleared by reading
#define E1000_ITR 0x00C4 // interrupt throttling, in units of 256 ns; 0: off
#define E1000_IMS 0x00D0 // interrupt mask set: a 1 enables a cause; reads as what is enabled
#define E1000_IMC 0x00D8 // interrupt mask clear: a 1 disables a cause
#define E1000_WUC 0x5800 // wake-up control

#define E1000_ICR_TXDW 0x00000001u   // a descriptor that asked for it was written back
#define E1000_ICR_RXDMT0 0x00000010u // few receive descriptors are left
#define E1000_ICR_RXO 0x00000040u    // a frame found no descriptor
#define E1000_ICR_RXT0 0x00000080u   // a frame was received

#define E1000_CTRL_LRST 0x00000008u    // link reset; must be 0 for copper
#define E1000_CTRL_ASDE 0x00000020u    // speed from the PHY's autonegotiation
#define E1000_CTRL_SLU 0x00000040u     // set link up
#define E1000_CTRL_ILOS 0x00000080u    // invert loss of signal; must be 0
#define E1000_CTRL_FRCSPD 0x00000800u  // force speed
#define E1000_CTRL_FRCDPLX 0x00001000u // force duplex
#define E1000_CTRL_RST 0x04000000u     // reset everything but the PCI configuration; clears itself
#define E1000_CTRL_RFCE 0x08000000u    // obey pause frames
#define E1000_CTRL_TFCE 0x10000000u    // send pause frames
#define E1000_CTRL_VME 0x40000000u     // strip and insert VLAN tags
#define E1000_CTRL_PHY_RST 0x80000000u // reset the PHY

#define E1000_STATUS_FD 0x00000001u // full duplex
#define E1000_STATUS_LU 0x00000002u // link is up
#define E1000_STATUS_SPEED_SHIFT 6  // two bits: 10, 100, 1000, 1000 Mbit/s
#define E1000_STATUS_SPEED_MASK 0x3u

#define E1000_EERD_START 0x00000001u
#define E1000_EERD_DONE 0x00000010u
#define E1000_EERD_ADDRESS_SHIFT 8 // in 16-bit words
#define E1000_EERD_DATA_SHIFT 16

#define E1000_VET_VLAN 0x8100u

//
// EEPROM: "EEPROM Address Map". Words of 16 bits.
//

#define E1000_EEPROM_MAC_WORD 0      // three words; the low byte of each comes first on the wire
#define E1000_EEPROM_WORD_COUNT 0x40 // the part that the checksum covers, checksum included
#define E1000_EEPROM_CHECKSUM_SUM 0xBABA // what those words add up to

//
// Receive: "Receive Initialization".
//

#define E1000_RCTL 0x0100
#define E1000_RDBAL 0x2800 // descriptor ring: physical address, low and high half
#define E1000_RDBAH 0x2804
#define E1000_RDLEN 0x2808  // in bytes, a multiple of 128
#define E1000_RDH 0x2810    // head: the next descriptor that the card fills
#define E1000_RDT 0x2818    // tail: the first descriptor that the card does not own
#define E1000_RDTR 0x2820   // interrupt delay timers; 0: off
#define E1000_RXDCTL 0x2828 // when descriptors are fetched and written back
#define E1000_RADV 0x282C
#define E1000_RXCSUM 0x5000 // checksum offload; 0: off

#define E1000_RCTL_EN 0x00000002u
#define E1000_RCTL_BAM 0x00008000u   // accept broadcasts
#define E1000_RCTL_SECRC 0x04000000u // strip the frame's check sequence
// All other fields of RCTL are 0: no promiscuous mode, no frames beyond 1,522 bytes, no loopback,
// 2,048-byte buffers.

#define E1000_RXDCTL_WTHRESH_ONE 0x00010000u // write back each descriptor
#define E1000_RXDCTL_GRAN 0x01000000u        // the thresholds count descriptors, not cache lines

#define E1000_MTA 0x5200 // multicast table: a bit for each of 4,096 hash values
#define E1000_MTA_COUNT 128
#define E1000_RAL 0x5400 // receive addresses: pairs of low and high half
#define E1000_RAH 0x5404
#define E1000_RA_COUNT 16
#define E1000_RA_STRIDE 8        // bytes
#define E1000_RAH_AV 0x80000000u // address valid
#define E1000_VFTA 0x5600        // VLAN filter table
#define E1000_VFTA_COUNT 128

//
// Transmit: "Transmit Initialization".
//

#define E1000_TCTL 0x0400
#define E1000_TIPG 0x0410
#define E1000_TDBAL 0x3800
#define E1000_TDBAH 0x3804
#define E1000_TDLEN 0x3808
#define E1000_TDH 0x3810
#define E1000_TDT 0x3818
#define E1000_TIDV 0x3820
#define E1000_TXDCTL 0x3828
#define E1000_TADV 0x382C

#define E1000_TCTL_EN 0x00000002u
#define E1000_TCTL_PSP 0x00000008u // pad short frames to 64 bytes
#define E1000_TCTL_CT_SHIFT 4      // collisions before a frame is given up
#define E1000_TCTL_CT_STANDARD 0x0Fu
#define E1000_TCTL_COLD_SHIFT 12 // collision distance, in byte times
#define E1000_TCTL_COLD_FULL_DUPLEX 0x40u

// Gaps between frames, in MAC clocks: the values that the manual gives for IEEE 802.3.
#define E1000_TIPG_IPGT 10u
#define E1000_TIPG_IPGR1 4u
#define E1000_TIPG_IPGR2 6u
#define E1000_TIPG_IPGR1_SHIFT 10
#define E1000_TIPG_IPGR2_SHIFT 20

//
// Statistics: "Statistics Registers". Cleared by reading.
//

#define E1000_STATISTICS 0x4000
#define E1000_STATISTICS_COUNT 64

//
// Descriptors, in memory. Rings are aligned to 16 bytes.
//

// Legacy receive descriptor: the driver gives the address, the card the rest.
typedef struct _E1000_RECEIVE_DESCRIPTOR {
    ULONG64 BufferAddress;
    USHORT ByteCount;
    USHORT Checksum;
    UCHAR Status;
    UCHAR Errors;
    USHORT Special;
} E1000_RECEIVE_DESCRIPTOR, *PE1000_RECEIVE_DESCRIPTOR;
C_ASSERT(sizeof(E1000_RECEIVE_DESCRIPTOR) == 16);

#define E1000_RECEIVE_DD 0x01  // descriptor done: the card has written it
#define E1000_RECEIVE_EOP 0x02 // end of packet
// Errors that spoil a frame: CRC or alignment, symbol, sequence, carrier extension, receive data.
// The two checksum errors (0x20, 0x40) are not among them: checksums are verified by whoever reads
// the protocol.
#define E1000_RECEIVE_ERRORS 0x97

// Legacy transmit descriptor.
typedef struct _E1000_TRANSMIT_DESCRIPTOR {
    ULONG64 BufferAddress;
    USHORT ByteCount;
    UCHAR ChecksumOffset;
    UCHAR Command;
    UCHAR Status;
    UCHAR ChecksumStart;
    USHORT Special;
} E1000_TRANSMIT_DESCRIPTOR, *PE1000_TRANSMIT_DESCRIPTOR;
C_ASSERT(sizeof(E1000_TRANSMIT_DESCRIPTOR) == 16);

#define E1000_TRANSMIT_EOP 0x01  // end of packet
#define E1000_TRANSMIT_IFCS 0x02 // append the frame's check sequence
#define E1000_TRANSMIT_RS 0x08   // report status: set DD when done
#define E1000_TRANSMIT_DD 0x01
