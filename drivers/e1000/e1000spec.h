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
#define E1000_MDIC 0x0020   // one access to the PHY
#define E1000_FCAL 0x0028   // flow control: address low, address high, type, transmit timer
#define E1000_FCAH 0x002C
#define E1000_FCT 0x0030
#define E1000_FCTTV 0x0170
#define E1000_VET 0x0038 // the Ethernet type that marks a VLAN tag
#define E1000_ICR 0x00C0 // interrupt causes; cleared by reading
#define E1000_ITR 0x00C4 // least time between two interrupts, in units of 256 ns; 0: off
#define E1000_ICS 0x00C8 // interrupt cause set: a 1 is an interrupt, made by software
#define E1000_IMS 0x00D0 // interrupt mask set: a 1 enables a cause; reads as what is enabled
#define E1000_IMC 0x00D8 // interrupt mask clear: a 1 disables a cause
#define E1000_WUC 0x5800 // wake-up control

#define E1000_ICR_TXDW 0x00000001u   // a descriptor that asked for it was written back
#define E1000_ICR_LSC 0x00000004u    // the link went up or down
#define E1000_ICR_RXDMT0 0x00000010u // few receive descriptors are left
#define E1000_ICR_RXO 0x00000040u    // a frame found no descriptor
#define E1000_ICR_RXT0 0x00000080u   // a frame was received

#define E1000_CTRL_FD 0x00000001u    // full duplex, when forced
#define E1000_CTRL_LRST 0x00000008u  // link reset; must be 0 for copper
#define E1000_CTRL_ASDE 0x00000020u  // speed from the PHY's autonegotiation
#define E1000_CTRL_SLU 0x00000040u   // set link up
#define E1000_CTRL_ILOS 0x00000080u  // invert loss of signal; must be 0
#define E1000_CTRL_SPEED 0x00000300u // two bits, when forced: 10, 100, 1000 Mbit/s
#define E1000_CTRL_SPEED_1000 0x00000200u
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

#define E1000_ITR_NANOSECONDS 256u

#define E1000_EERD_START 0x00000001u
#define E1000_EERD_DONE 0x00000010u
#define E1000_EERD_ADDRESS_SHIFT 8 // in 16-bit words
#define E1000_EERD_DATA_SHIFT 16

#define E1000_VET_VLAN 0x8100u

#define E1000_MDIC_REGISTER_SHIFT 16
#define E1000_MDIC_PHY_SHIFT 21
#define E1000_MDIC_INTERNAL_PHY 1u // its address
#define E1000_MDIC_WRITE 0x04000000u
#define E1000_MDIC_READ 0x08000000u
#define E1000_MDIC_READY 0x10000000u
#define E1000_MDIC_ERROR 0x40000000u

//
// The PHY: IEEE 802.3, clause 22, and "PHY Registers".
//

#define E1000_PHY_CONTROL 0
#define E1000_PHY_STATUS 1
#define E1000_PHY_REGISTER_COUNT 32

#define E1000_PHY_CONTROL_SPEED_1000 0x0040
#define E1000_PHY_CONTROL_FULL_DUPLEX 0x0100
#define E1000_PHY_CONTROL_RESTART 0x0200 // negotiate anew; clears itself
#define E1000_PHY_CONTROL_NEGOTIATE 0x1000
#define E1000_PHY_CONTROL_LOOPBACK 0x4000
#define E1000_PHY_CONTROL_RESET 0x8000

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
#define E1000_RXCSUM 0x5000 // checksum offload

#define E1000_RCTL_EN 0x00000002u
#define E1000_RCTL_UPE 0x00000008u   // accept frames to any station
#define E1000_RCTL_MPE 0x00000010u   // accept frames to any group
#define E1000_RCTL_LPE 0x00000020u   // accept frames of more than 1,522 bytes
#define E1000_RCTL_BAM 0x00008000u   // accept broadcasts
#define E1000_RCTL_VFE 0x00040000u   // tagged frames must be in the VLAN filter table
#define E1000_RCTL_SECRC 0x04000000u // strip the frame's check sequence
// All other fields of RCTL are 0: no MAC loopback, 2,048-byte buffers, RXDMT0 when half of the ring is
// left, and bits 47:36 of a group address are its hash.

#define E1000_RXCSUM_IPOFL 0x00000100u // verify the IPv4 header's checksum
#define E1000_RXCSUM_TUOFL 0x00000200u // verify TCP's and UDP's

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
// Statistics: "Statistics Registers". Cleared by reading; of a pair, by reading the high half.
//

#define E1000_CRCERRS 0x4000
#define E1000_ALGNERRC 0x4004
#define E1000_SYMERRS 0x4008
#define E1000_RXERRC 0x400C
#define E1000_MPC 0x4010
#define E1000_COLC 0x4028
#define E1000_SEQEC 0x4038
#define E1000_CEXTERR 0x403C
#define E1000_RLEC 0x4040
#define E1000_GPRC 0x4074
#define E1000_BPRC 0x4078
#define E1000_MPRC 0x407C
#define E1000_GPTC 0x4080
#define E1000_GORCL 0x4088
#define E1000_GOTCL 0x4090
#define E1000_RNBC 0x40A0
#define E1000_RUC 0x40A4
#define E1000_RFC 0x40A8
#define E1000_ROC 0x40AC
#define E1000_RJC 0x40B0
#define E1000_MPTC 0x40F0
#define E1000_BPTC 0x40F4
#define E1000_TSCTC 0x40F8
#define E1000_TSCTFC 0x40FC

//
// Descriptors, in memory: 16 bytes each, rings are aligned to 16 bytes. The second half of each is read
// and written at once.
//

// Legacy receive descriptor: the driver gives the address, the card the rest.
typedef struct _E1000_RECEIVE_DESCRIPTOR {
    ULONG64 BufferAddress;
    ULONG64 Result; // bytes 15:0, checksum 31:16, status 39:32, errors 47:40, VLAN tag 63:48
} E1000_RECEIVE_DESCRIPTOR, *PE1000_RECEIVE_DESCRIPTOR;
C_ASSERT(sizeof(E1000_RECEIVE_DESCRIPTOR) == 16);

#define E1000_RECEIVE_BYTES(Result) ((ULONG)(Result)&0xFFFF)
#define E1000_RECEIVE_TAG(Result) ((USHORT)((Result) >> 48))

#define E1000_RECEIVE_DD 0x0000000100000000ull    // descriptor done: the card has written it
#define E1000_RECEIVE_EOP 0x0000000200000000ull   // end of packet
#define E1000_RECEIVE_IXSM 0x0000000400000000ull  // no checksum was verified
#define E1000_RECEIVE_VP 0x0000000800000000ull    // a VLAN tag was taken out
#define E1000_RECEIVE_TCPCS 0x0000002000000000ull // TCP's or UDP's checksum was verified
#define E1000_RECEIVE_IPCS 0x0000004000000000ull  // the IPv4 header's checksum was verified
#define E1000_RECEIVE_TCPE 0x0000200000000000ull  // and is wrong
#define E1000_RECEIVE_IPE 0x0000400000000000ull   // and is wrong
// Errors that spoil a frame: CRC or alignment, symbol, sequence, carrier extension, receive data.
#define E1000_RECEIVE_ERRORS 0x0000970000000000ull

// Legacy transmit descriptor, or a data or context descriptor: DEXT says which kind, DTYP which of the
// two.
typedef struct _E1000_TRANSMIT_DESCRIPTOR {
    ULONG64 BufferAddress; // context: where checksums begin, are put and end, for IP and TCP or UDP
    ULONG64 Command;
} E1000_TRANSMIT_DESCRIPTOR, *PE1000_TRANSMIT_DESCRIPTOR;
C_ASSERT(sizeof(E1000_TRANSMIT_DESCRIPTOR) == 16);

// Bits 15:0 (legacy) or 19:0 (the others) are bytes: of this piece, or of the payload.
#define E1000_TRANSMIT_DTYP_DATA 0x00100000ull
#define E1000_TRANSMIT_EOP 0x01000000ull  // end of packet
#define E1000_TRANSMIT_IFCS 0x02000000ull // append the frame's check sequence
#define E1000_TRANSMIT_TSE 0x04000000ull  // segment it
#define E1000_TRANSMIT_RS 0x08000000ull   // report status: set DD when done
#define E1000_TRANSMIT_DEXT 0x20000000ull // no legacy descriptor
#define E1000_TRANSMIT_VLE 0x40000000ull  // insert the VLAN tag
#define E1000_TRANSMIT_DD 0x0000000100000000ull
#define E1000_TRANSMIT_IXSM 0x0000010000000000ull // data: fill in the IPv4 header's checksum
#define E1000_TRANSMIT_TXSM 0x0000020000000000ull // data: fill in TCP's or UDP's
#define E1000_TRANSMIT_TAG_SHIFT 48

#define E1000_CONTEXT_TCP 0x01000000ull  // 0: UDP
#define E1000_CONTEXT_IPV4 0x02000000ull // 0: IPv6
#define E1000_CONTEXT_HEADER_SHIFT 40    // bytes of all headers, with TSE
#define E1000_CONTEXT_SEGMENT_SHIFT 48   // payload bytes per segment, with TSE

#define E1000_PIECE_BYTES 0x2000u        // more than this in one descriptor is split
#define E1000_LARGEST_FRAME_BYTES 16110u // what the card's packet buffer allows, less its own needs
#define E1000_SEGMENTED_BYTES 0x10000u   // what a context descriptor is given at most
#define E1000_LEAST_FRAME_BYTES 60u      // of a frame on the wire, without the check sequence
