// Se and Hal for drivers, as far as drivers without users need them: well-known privileges and SIDs,
// security descriptors in their simplest form, and the tables that images import as data.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <busddk.h>
#include <ioddk.h>

typedef PVOID PSECURITY_DESCRIPTOR, PSID;

typedef struct _LUID {
    ULONG LowPart;
    LONG HighPart;
} LUID, *PLUID;

typedef struct _SE_EXPORTS {
    LUID Privileges[23]; // SeCreateTokenPrivilege .. SeRemoteShutdownPrivilege
    PSID Sids[22];       // SeNullSid .. SeAnonymousLogonSid
    LUID LaterPrivileges[3];
    PSID ServiceSids[2];
    LUID NewPrivileges[8];
    PSID NewSids[7];
} SE_EXPORTS, *PSE_EXPORTS;

extern PSE_EXPORTS SeExports;

// Kernel mode has every privilege, user mode (there is none) none. IRQL = PASSIVE_LEVEL.
BOOLEAN NTAPI SeSinglePrivilegeCheck(_In_ LUID PrivilegeValue, _In_ KPROCESSOR_MODE PreviousMode);

#define SECURITY_DESCRIPTOR_REVISION 1

typedef USHORT SECURITY_DESCRIPTOR_CONTROL;

typedef struct _SECURITY_DESCRIPTOR {
    UCHAR Revision;
    UCHAR Sbz1;
    SECURITY_DESCRIPTOR_CONTROL Control;
    PSID Owner;
    PSID Group;
    struct _ACL *Sacl;
    struct _ACL *Dacl;
} SECURITY_DESCRIPTOR;

C_ASSERT(sizeof(SECURITY_DESCRIPTOR) == 0x28);

// An absolute descriptor without anything. STATUS_UNKNOWN_REVISION.
NTSTATUS NTAPI RtlCreateSecurityDescriptor(_Out_ PSECURITY_DESCRIPTOR SecurityDescriptor,
                                           _In_ ULONG Revision);
// STATUS_UNKNOWN_REVISION; STATUS_INVALID_SECURITY_DESCR: not an absolute one.
NTSTATUS NTAPI RtlSetDaclSecurityDescriptor(_Inout_ PSECURITY_DESCRIPTOR SecurityDescriptor,
                                            _In_ BOOLEAN DaclPresent, _In_opt_ struct _ACL *Dacl,
                                            _In_ BOOLEAN DaclDefaulted);

// Bus addresses of the PCI and ISA buses are the processor's own. FALSE: another bus.
BOOLEAN NTAPI HalTranslateBusAddress(_In_ INTERFACE_TYPE InterfaceType, _In_ ULONG BusNumber,
                                     _In_ PHYSICAL_ADDRESS BusAddress, _Inout_ PULONG AddressSpace,
                                     _Out_ PPHYSICAL_ADDRESS TranslatedAddress);
// What was written to registers before goes out before what is written after. Any IRQL.
VOID NTAPI KeFlushWriteBuffer(VOID);
