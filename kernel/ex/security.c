// Security for a kernel without users: numbers and names that drivers import, and nothing to check.

#include <seddk.h>

#include "kernel/ex/exp.h"
#include "kernel/inc/ke.h"

// -------------------------------------------------------------------------------------------------
// SIDs: revision, count, authority, and the sub-authorities.

typedef struct _EXP_SID {
    UCHAR Revision;
    UCHAR SubAuthorityCount;
    UCHAR IdentifierAuthority[6]; // big-endian
    ULONG SubAuthority[2];
} EXP_SID;

#define EXP_SID_OF(Count, Authority, First, Second)                                                \
    {                                                                                              \
        1, (Count), {0, 0, 0, 0, 0, (Authority)},                                                  \
        {                                                                                          \
            (First), (Second)                                                                      \
        }                                                                                          \
    }

// In the order of SE_EXPORTS.
static EXP_SID ExpSids[] = {
    EXP_SID_OF(1, 0, 0, 0),      // null
    EXP_SID_OF(1, 1, 0, 0),      // world
    EXP_SID_OF(1, 2, 0, 0),      // local
    EXP_SID_OF(1, 3, 0, 0),      // creator owner
    EXP_SID_OF(1, 3, 1, 0),      // creator group
    EXP_SID_OF(0, 5, 0, 0),      // NT authority
    EXP_SID_OF(1, 5, 1, 0),      // dialup
    EXP_SID_OF(1, 5, 2, 0),      // network
    EXP_SID_OF(1, 5, 3, 0),      // batch
    EXP_SID_OF(1, 5, 4, 0),      // interactive
    EXP_SID_OF(1, 5, 18, 0),     // local system
    EXP_SID_OF(2, 5, 32, 544),   // administrators
    EXP_SID_OF(2, 5, 32, 545),   // users
    EXP_SID_OF(2, 5, 32, 546),   // guests
    EXP_SID_OF(2, 5, 32, 547),   // power users
    EXP_SID_OF(2, 5, 32, 548),   // account operators
    EXP_SID_OF(2, 5, 32, 549),   // system operators
    EXP_SID_OF(2, 5, 32, 550),   // print operators
    EXP_SID_OF(2, 5, 32, 551),   // backup operators
    EXP_SID_OF(1, 5, 11, 0),     // authenticated users
    EXP_SID_OF(1, 5, 12, 0),     // restricted
    EXP_SID_OF(1, 5, 7, 0),      // anonymous
    EXP_SID_OF(1, 5, 19, 0),     // local service
    EXP_SID_OF(1, 5, 20, 0),     // network service
    EXP_SID_OF(1, 5, 17, 0),     // IUSR
    EXP_SID_OF(1, 16, 0, 0),     // untrusted integrity
    EXP_SID_OF(1, 16, 4096, 0),  // low
    EXP_SID_OF(1, 16, 8192, 0),  // medium
    EXP_SID_OF(1, 16, 12288, 0), // high
    EXP_SID_OF(1, 16, 16384, 0), // system
    EXP_SID_OF(1, 3, 4, 0),      // owner rights
};

#define SID(Index) (&ExpSids[Index])
#define LUID_OF(Number)                                                                            \
    {                                                                                              \
        (Number), 0                                                                                \
    }

static SE_EXPORTS ExpSeExports = {
    .Privileges = {LUID_OF(2),  LUID_OF(3),  LUID_OF(4),  LUID_OF(5),  LUID_OF(6),  LUID_OF(7),
                   LUID_OF(8),  LUID_OF(9),  LUID_OF(10), LUID_OF(15), LUID_OF(14), LUID_OF(11),
                   LUID_OF(12), LUID_OF(13), LUID_OF(16), LUID_OF(17), LUID_OF(18), LUID_OF(19),
                   LUID_OF(20), LUID_OF(21), LUID_OF(22), LUID_OF(23), LUID_OF(24)},
    .Sids = {SID(0),  SID(1),  SID(2),  SID(3),  SID(4),  SID(5),  SID(6),  SID(7),
             SID(8),  SID(9),  SID(10), SID(11), SID(12), SID(13), SID(14), SID(15),
             SID(16), SID(17), SID(18), SID(19), SID(20), SID(21)},
    .LaterPrivileges = {LUID_OF(25), LUID_OF(26), LUID_OF(27)},
    .ServiceSids = {SID(22), SID(23)},
    .NewPrivileges = {LUID_OF(28), LUID_OF(29), LUID_OF(30), LUID_OF(31), LUID_OF(32), LUID_OF(33),
                      LUID_OF(34), LUID_OF(35)},
    .NewSids = {SID(24), SID(25), SID(26), SID(27), SID(28), SID(29), SID(30)},
};

PSE_EXPORTS SeExports = &ExpSeExports;

BOOLEAN NTAPI SeSinglePrivilegeCheck(LUID PrivilegeValue, KPROCESSOR_MODE PreviousMode)
{
    UNREFERENCED_PARAMETER(PrivilegeValue);
    return PreviousMode == KernelMode;
}

// -------------------------------------------------------------------------------------------------
// Descriptors.

#define SE_DACL_PRESENT 0x0004
#define SE_DACL_DEFAULTED 0x0008
#define SE_SELF_RELATIVE 0x8000

NTSTATUS NTAPI RtlCreateSecurityDescriptor(PSECURITY_DESCRIPTOR SecurityDescriptor, ULONG Revision)
{
    if (Revision != SECURITY_DESCRIPTOR_REVISION) {
        return STATUS_UNKNOWN_REVISION;
    }
    SECURITY_DESCRIPTOR *Descriptor = SecurityDescriptor;
    RtlZeroMemory(Descriptor, sizeof(*Descriptor));
    Descriptor->Revision = SECURITY_DESCRIPTOR_REVISION;
    return STATUS_SUCCESS;
}

NTSTATUS NTAPI RtlSetDaclSecurityDescriptor(PSECURITY_DESCRIPTOR SecurityDescriptor,
                                            BOOLEAN DaclPresent, struct _ACL *Dacl,
                                            BOOLEAN DaclDefaulted)
{
    SECURITY_DESCRIPTOR *Descriptor = SecurityDescriptor;
    if (Descriptor->Revision != SECURITY_DESCRIPTOR_REVISION) {
        return STATUS_UNKNOWN_REVISION;
    }
    if ((Descriptor->Control & SE_SELF_RELATIVE) != 0) {
        return STATUS_INVALID_SECURITY_DESCR;
    }
    Descriptor->Control &= (USHORT) ~(SE_DACL_PRESENT | SE_DACL_DEFAULTED);
    if (DaclPresent) {
        Descriptor->Control |= SE_DACL_PRESENT | (DaclDefaulted ? SE_DACL_DEFAULTED : 0);
        Descriptor->Dacl = Dacl;
    }
    return STATUS_SUCCESS;
}

// -------------------------------------------------------------------------------------------------
// Hal.

BOOLEAN NTAPI HalTranslateBusAddress(INTERFACE_TYPE InterfaceType, ULONG BusNumber,
                                     PHYSICAL_ADDRESS BusAddress, PULONG AddressSpace,
                                     PPHYSICAL_ADDRESS TranslatedAddress)
{
    UNREFERENCED_PARAMETER(BusNumber);
    UNREFERENCED_PARAMETER(AddressSpace); // ports stay ports
    *TranslatedAddress = BusAddress;
    return InterfaceType == PCIBus || InterfaceType == Isa || InterfaceType == Internal;
}

VOID NTAPI KeFlushWriteBuffer(VOID)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

// The routines of the table that return a status, or nothing, and one that returns a pointer.
static NTSTATUS NTAPI ExpHalNotSupported(VOID)
{
    return STATUS_NOT_SUPPORTED;
}

static PVOID NTAPI ExpHalNothing(VOID)
{
    return NULL;
}

#define NO (PVOID) ExpHalNotSupported
#define NIL (PVOID) ExpHalNothing

// Version 4; [9] and [14] are HalReferenceHandlerForBus and HalGetDmaAdapter.
EXP_HAL_DISPATCH HalDispatchTable = {4, {NO, NO, NO, NO,  NO, NO, NO, NO, NO, NIL, NO,
                                         NO, NO, NO, NIL, NO, NO, NO, NO, NO, NO,  NIL,
                                         NO, NO, NO, NO,  NO, NO, NO, NO, NO}};
