// Buses for drivers: resources as PnP hands them out, PCI configuration space, the bus interface.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

typedef enum _INTERFACE_TYPE {
    InterfaceTypeUndefined = -1,
    Internal,
    Isa,
    Eisa,
    MicroChannel,
    TurboChannel,
    PCIBus,
} INTERFACE_TYPE,
    *PINTERFACE_TYPE;

typedef enum _BUS_DATA_TYPE {
    ConfigurationSpaceUndefined = -1,
    Cmos,
    EisaConfiguration,
    Pos,
    CbusConfiguration,
    PCIConfiguration,
} BUS_DATA_TYPE,
    *PBUS_DATA_TYPE;

// -------------------------------------------------------------------------------------------------
// Resources. All of it is packed to 4 bytes: a 64-bit Start may lie on an odd multiple of 4.
// The lists belong to the PnP manager: a driver that keeps something copies it.

#define CmResourceTypeNull 0
#define CmResourceTypePort 1
#define CmResourceTypeInterrupt 2
#define CmResourceTypeMemory 3
#define CmResourceTypeDma 4
#define CmResourceTypeDeviceSpecific 5
#define CmResourceTypeBusNumber 6
#define CmResourceTypeMemoryLarge 7
#define CmResourceTypeConfigData 128
#define CmResourceTypeDevicePrivate 129

#define CM_RESOURCE_MEMORY_READ_WRITE 0x0000
#define CM_RESOURCE_MEMORY_READ_ONLY 0x0001
#define CM_RESOURCE_MEMORY_WRITE_ONLY 0x0002
#define CM_RESOURCE_MEMORY_PREFETCHABLE 0x0004
#define CM_RESOURCE_MEMORY_COMBINEDWRITE 0x0008
#define CM_RESOURCE_MEMORY_24 0x0010
#define CM_RESOURCE_MEMORY_CACHEABLE 0x0020
#define CM_RESOURCE_MEMORY_WINDOW_DECODE 0x0040
#define CM_RESOURCE_MEMORY_BAR 0x0080
// A length of 4 GiB or more, in units of 2^8, 2^16 or 2^32 bytes.
#define CM_RESOURCE_MEMORY_LARGE 0x0E00
#define CM_RESOURCE_MEMORY_LARGE_40 0x0200
#define CM_RESOURCE_MEMORY_LARGE_48 0x0400
#define CM_RESOURCE_MEMORY_LARGE_64 0x0800

#define CM_RESOURCE_PORT_MEMORY 0x0000
#define CM_RESOURCE_PORT_IO 0x0001
#define CM_RESOURCE_PORT_10_BIT_DECODE 0x0004
#define CM_RESOURCE_PORT_12_BIT_DECODE 0x0008
#define CM_RESOURCE_PORT_16_BIT_DECODE 0x0010
#define CM_RESOURCE_PORT_POSITIVE_DECODE 0x0020
#define CM_RESOURCE_PORT_PASSIVE_DECODE 0x0040
#define CM_RESOURCE_PORT_WINDOW_DECODE 0x0080
#define CM_RESOURCE_PORT_BAR 0x0100

#define CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE 0x0000
#define CM_RESOURCE_INTERRUPT_LATCHED 0x0001
#define CM_RESOURCE_INTERRUPT_MESSAGE 0x0002
#define CM_RESOURCE_INTERRUPT_POLICY_INCLUDED 0x0004
#define CM_RESOURCE_INTERRUPT_LEVEL_LATCHED_BITS 0x0001
#define CM_RESOURCE_INTERRUPT_MESSAGE_TOKEN ((ULONG)-2)

typedef enum _CM_SHARE_DISPOSITION {
    CmResourceShareUndetermined,
    CmResourceShareDeviceExclusive,
    CmResourceShareDriverExclusive,
    CmResourceShareShared,
} CM_SHARE_DISPOSITION;

#pragma pack(push, 4)

typedef struct _CM_PARTIAL_RESOURCE_DESCRIPTOR {
    UCHAR Type;
    UCHAR ShareDisposition;
    USHORT Flags;
    union {
        struct {
            PHYSICAL_ADDRESS Start;
            ULONG Length;
        } Generic, Port, Memory;
        struct {
            PHYSICAL_ADDRESS Start;
            ULONG Length40;
        } Memory40;
        struct {
            PHYSICAL_ADDRESS Start;
            ULONG Length48;
        } Memory48;
        struct {
            PHYSICAL_ADDRESS Start;
            ULONG Length64;
        } Memory64;
        struct {
            USHORT Level;
            USHORT Group;
            ULONG Vector;
            KAFFINITY Affinity;
        } Interrupt;
        struct {
            union {
                struct {
                    USHORT Group;
                    USHORT MessageCount;
                    ULONG Vector;
                    KAFFINITY Affinity;
                } Raw;
                struct {
                    USHORT Level;
                    USHORT Group;
                    ULONG Vector;
                    KAFFINITY Affinity;
                } Translated;
            };
        } MessageInterrupt;
        struct {
            ULONG Channel;
            ULONG Port;
            ULONG Reserved1;
        } Dma;
        struct {
            ULONG Start;
            ULONG Length;
            ULONG Reserved;
        } BusNumber;
        struct {
            ULONG Data[3];
        } DevicePrivate;
        struct { // followed by DataSize bytes; only as the last descriptor
            ULONG DataSize;
            ULONG Reserved1;
            ULONG Reserved2;
        } DeviceSpecificData;
    } u;
} CM_PARTIAL_RESOURCE_DESCRIPTOR, *PCM_PARTIAL_RESOURCE_DESCRIPTOR;

typedef struct _CM_PARTIAL_RESOURCE_LIST {
    USHORT Version;
    USHORT Revision;
    ULONG Count;
    CM_PARTIAL_RESOURCE_DESCRIPTOR PartialDescriptors[1];
} CM_PARTIAL_RESOURCE_LIST, *PCM_PARTIAL_RESOURCE_LIST;

typedef struct _CM_FULL_RESOURCE_DESCRIPTOR {
    INTERFACE_TYPE InterfaceType;
    ULONG BusNumber;
    CM_PARTIAL_RESOURCE_LIST PartialResourceList;
} CM_FULL_RESOURCE_DESCRIPTOR, *PCM_FULL_RESOURCE_DESCRIPTOR;

typedef struct _CM_RESOURCE_LIST {
    ULONG Count; // 1 for a WDM driver
    CM_FULL_RESOURCE_DESCRIPTOR List[1];
} CM_RESOURCE_LIST, *PCM_RESOURCE_LIST;

#pragma pack(pop)

C_ASSERT(sizeof(CM_PARTIAL_RESOURCE_DESCRIPTOR) == 0x14);
C_ASSERT(FIELD_OFFSET(CM_PARTIAL_RESOURCE_DESCRIPTOR, u) == 4);
C_ASSERT(FIELD_OFFSET(CM_PARTIAL_RESOURCE_DESCRIPTOR, u.Memory.Length) == 0x0C);
C_ASSERT(FIELD_OFFSET(CM_PARTIAL_RESOURCE_DESCRIPTOR, u.Interrupt.Vector) == 8);
C_ASSERT(FIELD_OFFSET(CM_PARTIAL_RESOURCE_DESCRIPTOR, u.Interrupt.Affinity) == 0x0C);
C_ASSERT(sizeof(CM_PARTIAL_RESOURCE_LIST) == 0x1C);
C_ASSERT(FIELD_OFFSET(CM_PARTIAL_RESOURCE_LIST, PartialDescriptors) == 8);
C_ASSERT(sizeof(CM_FULL_RESOURCE_DESCRIPTOR) == 0x24);
C_ASSERT(FIELD_OFFSET(CM_FULL_RESOURCE_DESCRIPTOR, PartialResourceList) == 8);
C_ASSERT(sizeof(CM_RESOURCE_LIST) == 0x28 && FIELD_OFFSET(CM_RESOURCE_LIST, List) == 4);

// The length in bytes of a Memory, MemoryLarge or Port descriptor, and in *Start (where given) its
// first address. 0 for any other descriptor. Any IRQL.
ULONGLONG NTAPI RtlCmDecodeMemIoResource(_In_ PCM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor,
                                         _Out_opt_ PULONGLONG Start);

// Fills Type, u and the LARGE bits of Flags; the descriptor's other fields stay. Type is
// CmResourceTypePort, Memory or MemoryLarge; a Memory length of 4 GiB or more becomes MemoryLarge.
// Any IRQL.
// STATUS_INVALID_PARAMETER another Type, or a Port range beyond 32 bits; STATUS_UNSUCCESSFUL the
// length has bits that its encoding (units of 2^8, 2^16, 2^32) cannot hold.
NTSTATUS NTAPI RtlCmEncodeMemIoResource(_Inout_ PCM_PARTIAL_RESOURCE_DESCRIPTOR Descriptor,
                                        _In_ UCHAR Type, _In_ ULONGLONG Length,
                                        _In_ ULONGLONG Start);

// -------------------------------------------------------------------------------------------------
// PCI configuration space.

typedef struct _PCI_SLOT_NUMBER {
    union {
        struct {
            ULONG DeviceNumber : 5;
            ULONG FunctionNumber : 3;
            ULONG Reserved : 24;
        } bits;
        ULONG AsULONG;
    } u;
} PCI_SLOT_NUMBER, *PPCI_SLOT_NUMBER;

#define PCI_TYPE0_ADDRESSES 6
#define PCI_TYPE1_ADDRESSES 2
#define PCI_COMMON_HDR_LENGTH 0x40

#define PCI_COMMON_HEADER_FIELDS                                                                   \
    USHORT VendorID;                                                                               \
    USHORT DeviceID;                                                                               \
    USHORT Command;                                                                                \
    USHORT Status;                                                                                 \
    UCHAR RevisionID;                                                                              \
    UCHAR ProgIf;                                                                                  \
    UCHAR SubClass;                                                                                \
    UCHAR BaseClass;                                                                               \
    UCHAR CacheLineSize;                                                                           \
    UCHAR LatencyTimer;                                                                            \
    UCHAR HeaderType;                                                                              \
    UCHAR BIST;                                                                                    \
    union {                                                                                        \
        struct {                                                                                   \
            ULONG BaseAddresses[PCI_TYPE0_ADDRESSES];                                              \
            ULONG CIS;                                                                             \
            USHORT SubVendorID;                                                                    \
            USHORT SubSystemID;                                                                    \
            ULONG ROMBaseAddress;                                                                  \
            UCHAR CapabilitiesPtr;                                                                 \
            UCHAR Reserved1[3];                                                                    \
            ULONG Reserved2;                                                                       \
            UCHAR InterruptLine;                                                                   \
            UCHAR InterruptPin;                                                                    \
            UCHAR MinimumGrant;                                                                    \
            UCHAR MaximumLatency;                                                                  \
        } type0;                                                                                   \
        struct {                                                                                   \
            ULONG BaseAddresses[PCI_TYPE1_ADDRESSES];                                              \
            UCHAR PrimaryBus;                                                                      \
            UCHAR SecondaryBus;                                                                    \
            UCHAR SubordinateBus;                                                                  \
            UCHAR SecondaryLatency;                                                                \
            UCHAR IOBase;                                                                          \
            UCHAR IOLimit;                                                                         \
            USHORT SecondaryStatus;                                                                \
            USHORT MemoryBase;                                                                     \
            USHORT MemoryLimit;                                                                    \
            USHORT PrefetchBase;                                                                   \
            USHORT PrefetchLimit;                                                                  \
            ULONG PrefetchBaseUpper32;                                                             \
            ULONG PrefetchLimitUpper32;                                                            \
            USHORT IOBaseUpper16;                                                                  \
            USHORT IOLimitUpper16;                                                                 \
            UCHAR CapabilitiesPtr;                                                                 \
            UCHAR Reserved1[3];                                                                    \
            ULONG ROMBaseAddress;                                                                  \
            UCHAR InterruptLine;                                                                   \
            UCHAR InterruptPin;                                                                    \
            USHORT BridgeControl;                                                                  \
        } type1;                                                                                   \
    } u;

typedef struct _PCI_COMMON_HEADER {
    PCI_COMMON_HEADER_FIELDS
} PCI_COMMON_HEADER, *PPCI_COMMON_HEADER;

typedef struct _PCI_COMMON_CONFIG {
    PCI_COMMON_HEADER_FIELDS
    UCHAR DeviceSpecific[192];
} PCI_COMMON_CONFIG, *PPCI_COMMON_CONFIG;

C_ASSERT(sizeof(PCI_SLOT_NUMBER) == 4);
C_ASSERT(sizeof(PCI_COMMON_HEADER) == PCI_COMMON_HDR_LENGTH);
C_ASSERT(sizeof(PCI_COMMON_CONFIG) == 0x100);
C_ASSERT(FIELD_OFFSET(PCI_COMMON_HEADER, u.type0.InterruptLine) == 0x3C);
C_ASSERT(FIELD_OFFSET(PCI_COMMON_HEADER, u.type1.BridgeControl) == 0x3E);

#define PCI_INVALID_VENDORID 0xFFFF

#define PCI_MULTIFUNCTION 0x80 // in HeaderType
#define PCI_DEVICE_TYPE 0x00
#define PCI_BRIDGE_TYPE 0x01
#define PCI_CARDBUS_BRIDGE_TYPE 0x02
#define PCI_CONFIGURATION_TYPE(PciData)                                                            \
    (((PPCI_COMMON_HEADER)(PciData))->HeaderType & ~PCI_MULTIFUNCTION)

#define PCI_ENABLE_IO_SPACE 0x0001 // in Command
#define PCI_ENABLE_MEMORY_SPACE 0x0002
#define PCI_ENABLE_BUS_MASTER 0x0004
#define PCI_DISABLE_LEVEL_INTERRUPT 0x0400

#define PCI_ADDRESS_IO_SPACE 0x00000001 // in a base address register
#define PCI_ADDRESS_MEMORY_TYPE_MASK 0x00000006
#define PCI_ADDRESS_MEMORY_PREFETCHABLE 0x00000008
#define PCI_TYPE_32BIT 0
#define PCI_TYPE_20BIT 2
#define PCI_TYPE_64BIT 4
#define PCI_ADDRESS_IO_ADDRESS_MASK 0xFFFFFFFCU
#define PCI_ADDRESS_MEMORY_ADDRESS_MASK 0xFFFFFFF0U

#define PCI_CLASS_MASS_STORAGE_CTLR 0x01
#define PCI_SUBCLASS_MSC_NVM_CTLR 0x08
#define PCI_PROGRAMMING_INTERFACE_MSC_NVM_EXPRESS 0x02
#define PCI_CLASS_NETWORK_CTLR 0x02
#define PCI_SUBCLASS_NET_ETHERNET_CTLR 0x00
#define PCI_CLASS_BRIDGE_DEV 0x06
#define PCI_SUBCLASS_BR_HOST 0x00
#define PCI_SUBCLASS_BR_PCI_TO_PCI 0x04

#define PCI_WHICHSPACE_CONFIG 0x0
#define PCI_WHICHSPACE_ROM 0x52696350

// Reads Length bytes of configuration space from Offset on, and touches no others. Only
// PCIConfiguration. BusNumber: bus, with the segment in bits 8 and up; SlotNumber: PCI_SLOT_NUMBER.
// Returns the bytes read; 0: no such bus; 2 with vendor 0xFFFF in Buffer: an empty slot. Any IRQL.
ULONG NTAPI HalGetBusDataByOffset(_In_ BUS_DATA_TYPE BusDataType, _In_ ULONG BusNumber,
                                  _In_ ULONG SlotNumber, _Out_writes_bytes_(Length) PVOID Buffer,
                                  _In_ ULONG Offset, _In_ ULONG Length);
ULONG NTAPI HalSetBusDataByOffset(_In_ BUS_DATA_TYPE BusDataType, _In_ ULONG BusNumber,
                                  _In_ ULONG SlotNumber, _In_reads_bytes_(Length) PVOID Buffer,
                                  _In_ ULONG Offset, _In_ ULONG Length);

// The same from offset 0.
ULONG NTAPI HalGetBusData(_In_ BUS_DATA_TYPE BusDataType, _In_ ULONG BusNumber,
                          _In_ ULONG SlotNumber, _Out_writes_bytes_(Length) PVOID Buffer,
                          _In_ ULONG Length);
ULONG NTAPI HalSetBusData(_In_ BUS_DATA_TYPE BusDataType, _In_ ULONG BusNumber,
                          _In_ ULONG SlotNumber, _In_reads_bytes_(Length) PVOID Buffer,
                          _In_ ULONG Length);

// -------------------------------------------------------------------------------------------------
// The interface that a bus driver gives for one of its devices (IRP_MN_QUERY_INTERFACE,
// GUID_BUS_INTERFACE_STANDARD). It comes referenced: call InterfaceDereference when done.

struct _DMA_ADAPTER;
struct _DEVICE_DESCRIPTION;

typedef VOID(NTAPI INTERFACE_REFERENCE)(_In_ PVOID Context);
typedef INTERFACE_REFERENCE *PINTERFACE_REFERENCE;
typedef VOID(NTAPI INTERFACE_DEREFERENCE)(_In_ PVOID Context);
typedef INTERFACE_DEREFERENCE *PINTERFACE_DEREFERENCE;

typedef BOOLEAN(NTAPI TRANSLATE_BUS_ADDRESS)(_In_ PVOID Context, _In_ PHYSICAL_ADDRESS BusAddress,
                                             _In_ ULONG Length, _Inout_ PULONG AddressSpace,
                                             _Out_ PPHYSICAL_ADDRESS TranslatedAddress);
typedef TRANSLATE_BUS_ADDRESS *PTRANSLATE_BUS_ADDRESS;
typedef struct _DMA_ADAPTER *(NTAPI GET_DMA_ADAPTER)(
    _In_ PVOID Context, _In_ struct _DEVICE_DESCRIPTION *DeviceDescriptor,
    _Out_ PULONG NumberOfMapRegisters);
typedef GET_DMA_ADAPTER *PGET_DMA_ADAPTER;

// DataType is PCI_WHICHSPACE_CONFIG. Returns the bytes transferred, 0 on error.
typedef ULONG(NTAPI GET_SET_DEVICE_DATA)(_In_ PVOID Context, _In_ ULONG DataType,
                                         _Inout_ PVOID Buffer, _In_ ULONG Offset,
                                         _In_ ULONG Length);
typedef GET_SET_DEVICE_DATA *PGET_SET_DEVICE_DATA;

#define INTERFACE_HEADER_FIELDS                                                                    \
    USHORT Size;                                                                                   \
    USHORT Version;                                                                                \
    PVOID Context;                                                                                 \
    PINTERFACE_REFERENCE InterfaceReference;                                                       \
    PINTERFACE_DEREFERENCE InterfaceDereference;

typedef struct _INTERFACE {
    INTERFACE_HEADER_FIELDS
} INTERFACE, *PINTERFACE;

typedef struct _BUS_INTERFACE_STANDARD {
    INTERFACE_HEADER_FIELDS
    PTRANSLATE_BUS_ADDRESS TranslateBusAddress;
    PGET_DMA_ADAPTER GetDmaAdapter;
    PGET_SET_DEVICE_DATA SetBusData;
    PGET_SET_DEVICE_DATA GetBusData;
} BUS_INTERFACE_STANDARD, *PBUS_INTERFACE_STANDARD;

C_ASSERT(sizeof(BUS_INTERFACE_STANDARD) == 0x40);
C_ASSERT(FIELD_OFFSET(BUS_INTERFACE_STANDARD, Context) == 8);
C_ASSERT(FIELD_OFFSET(BUS_INTERFACE_STANDARD, TranslateBusAddress) == 0x20);
C_ASSERT(FIELD_OFFSET(BUS_INTERFACE_STANDARD, GetBusData) == 0x38);

#define PCI_BUS_INTERFACE_STANDARD_VERSION 1
