// Cm for drivers: the registry. It lies in memory and begins anew with each boot (ours); everything is
// volatile, and nothing need be flushed. Names are compared without regard to case. IRQL =
// PASSIVE_LEVEL for all.
//
//   \Registry\Machine\System\CurrentControlSet\Services\<driver>\Parameters   made when it is loaded
//   \Registry\Machine\System\CurrentControlSet\{Control,Enum}
//   \Registry\Machine\{Software,Hardware\DeviceMap}   \Registry\User\.Default
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <ioddk.h>
#include <obddk.h>

#define REG_NONE 0
#define REG_SZ 1
#define REG_EXPAND_SZ 2
#define REG_BINARY 3
#define REG_DWORD 4
#define REG_DWORD_BIG_ENDIAN 5
#define REG_LINK 6
#define REG_MULTI_SZ 7
#define REG_RESOURCE_LIST 8
#define REG_FULL_RESOURCE_DESCRIPTOR 9
#define REG_RESOURCE_REQUIREMENTS_LIST 10
#define REG_QWORD 11

#define KEY_QUERY_VALUE 0x0001
#define KEY_SET_VALUE 0x0002
#define KEY_CREATE_SUB_KEY 0x0004
#define KEY_ENUMERATE_SUB_KEYS 0x0008
#define KEY_NOTIFY 0x0010
#define KEY_CREATE_LINK 0x0020

#define REG_OPTION_NON_VOLATILE 0x00000000
#define REG_OPTION_VOLATILE 0x00000001
#define REG_CREATED_NEW_KEY 0x00000001
#define REG_OPENED_EXISTING_KEY 0x00000002

typedef enum _KEY_INFORMATION_CLASS {
    KeyBasicInformation,
    KeyNodeInformation,
    KeyFullInformation,
    KeyNameInformation,
} KEY_INFORMATION_CLASS;

typedef struct _KEY_BASIC_INFORMATION {
    LARGE_INTEGER LastWriteTime;
    ULONG TitleIndex;
    ULONG NameLength;
    WCHAR Name[1];
} KEY_BASIC_INFORMATION, *PKEY_BASIC_INFORMATION;

typedef struct _KEY_NODE_INFORMATION {
    LARGE_INTEGER LastWriteTime;
    ULONG TitleIndex;
    ULONG ClassOffset; // 0xFFFFFFFF: it has no class
    ULONG ClassLength;
    ULONG NameLength;
    WCHAR Name[1];
} KEY_NODE_INFORMATION, *PKEY_NODE_INFORMATION;

typedef struct _KEY_FULL_INFORMATION {
    LARGE_INTEGER LastWriteTime;
    ULONG TitleIndex;
    ULONG ClassOffset;
    ULONG ClassLength;
    ULONG SubKeys;
    ULONG MaxNameLen;
    ULONG MaxClassLen;
    ULONG Values;
    ULONG MaxValueNameLen;
    ULONG MaxValueDataLen;
    WCHAR Class[1];
} KEY_FULL_INFORMATION, *PKEY_FULL_INFORMATION;

typedef struct _KEY_NAME_INFORMATION { // the whole path
    ULONG NameLength;
    WCHAR Name[1];
} KEY_NAME_INFORMATION, *PKEY_NAME_INFORMATION;

typedef enum _KEY_VALUE_INFORMATION_CLASS {
    KeyValueBasicInformation,
    KeyValueFullInformation,
    KeyValuePartialInformation,
    KeyValueFullInformationAlign64,
    KeyValuePartialInformationAlign64,
} KEY_VALUE_INFORMATION_CLASS;

typedef struct _KEY_VALUE_BASIC_INFORMATION {
    ULONG TitleIndex;
    ULONG Type;
    ULONG NameLength;
    WCHAR Name[1];
} KEY_VALUE_BASIC_INFORMATION, *PKEY_VALUE_BASIC_INFORMATION;

typedef struct _KEY_VALUE_FULL_INFORMATION {
    ULONG TitleIndex;
    ULONG Type;
    ULONG DataOffset;
    ULONG DataLength;
    ULONG NameLength;
    WCHAR Name[1];
} KEY_VALUE_FULL_INFORMATION, *PKEY_VALUE_FULL_INFORMATION;

typedef struct _KEY_VALUE_PARTIAL_INFORMATION {
    ULONG TitleIndex;
    ULONG Type;
    ULONG DataLength;
    UCHAR Data[1];
} KEY_VALUE_PARTIAL_INFORMATION, *PKEY_VALUE_PARTIAL_INFORMATION;

typedef struct _KEY_VALUE_PARTIAL_INFORMATION_ALIGN64 {
    ULONG Type;
    ULONG DataLength;
    UCHAR Data[1];
} KEY_VALUE_PARTIAL_INFORMATION_ALIGN64, *PKEY_VALUE_PARTIAL_INFORMATION_ALIGN64;

extern POBJECT_TYPE *CmKeyObjectType;

// Statuses of all: STATUS_INVALID_HANDLE, STATUS_OBJECT_TYPE_MISMATCH; STATUS_KEY_DELETED: somebody has
// deleted the key behind the handle; STATUS_INSUFFICIENT_RESOURCES.

// STATUS_OBJECT_NAME_NOT_FOUND: no such key. STATUS_OBJECT_PATH_SYNTAX_BAD: not \Registry\..., and not
// relative to a key.
NTSTATUS NTAPI ZwOpenKey(_Out_ PHANDLE KeyHandle, _In_ ACCESS_MASK DesiredAccess,
                         _In_ POBJECT_ATTRIBUTES ObjectAttributes);
NTSTATUS NTAPI ZwOpenKeyEx(_Out_ PHANDLE KeyHandle, _In_ ACCESS_MASK DesiredAccess,
                           _In_ POBJECT_ATTRIBUTES ObjectAttributes, _In_ ULONG OpenOptions);
// The last part of the name is made, if there is no such key; the others must be there.
NTSTATUS NTAPI ZwCreateKey(_Out_ PHANDLE KeyHandle, _In_ ACCESS_MASK DesiredAccess,
                           _In_ POBJECT_ATTRIBUTES ObjectAttributes, _In_ ULONG TitleIndex,
                           _In_opt_ PUNICODE_STRING Class, _In_ ULONG CreateOptions,
                           _Out_opt_ PULONG Disposition);
// STATUS_CANNOT_DELETE: it has subkeys, or is the root.
NTSTATUS NTAPI ZwDeleteKey(_In_ HANDLE KeyHandle);
NTSTATUS NTAPI ZwFlushKey(_In_ HANDLE KeyHandle);

// Into buffers. STATUS_BUFFER_TOO_SMALL: not even the fixed part fits. STATUS_BUFFER_OVERFLOW: that
// fits, but not all. In both cases *ResultLength says what it takes.
// STATUS_INVALID_PARAMETER: no such class. STATUS_NO_MORE_ENTRIES: no such index.
NTSTATUS NTAPI ZwQueryKey(_In_ HANDLE KeyHandle, _In_ KEY_INFORMATION_CLASS KeyInformationClass,
                          _Out_writes_bytes_opt_(Length) PVOID KeyInformation, _In_ ULONG Length,
                          _Out_ PULONG ResultLength);
NTSTATUS NTAPI ZwEnumerateKey(_In_ HANDLE KeyHandle, _In_ ULONG Index,
                              _In_ KEY_INFORMATION_CLASS KeyInformationClass,
                              _Out_writes_bytes_opt_(Length) PVOID KeyInformation,
                              _In_ ULONG Length, _Out_ PULONG ResultLength);
// STATUS_OBJECT_NAME_NOT_FOUND: no such value.
NTSTATUS NTAPI ZwQueryValueKey(_In_ HANDLE KeyHandle, _In_ PUNICODE_STRING ValueName,
                               _In_ KEY_VALUE_INFORMATION_CLASS KeyValueInformationClass,
                               _Out_writes_bytes_opt_(Length) PVOID KeyValueInformation,
                               _In_ ULONG Length, _Out_ PULONG ResultLength);
NTSTATUS NTAPI ZwEnumerateValueKey(_In_ HANDLE KeyHandle, _In_ ULONG Index,
                                   _In_ KEY_VALUE_INFORMATION_CLASS KeyValueInformationClass,
                                   _Out_writes_bytes_opt_(Length) PVOID KeyValueInformation,
                                   _In_ ULONG Length, _Out_ PULONG ResultLength);
NTSTATUS NTAPI ZwSetValueKey(_In_ HANDLE KeyHandle, _In_ PUNICODE_STRING ValueName,
                             _In_ ULONG TitleIndex, _In_ ULONG Type,
                             _In_reads_bytes_opt_(DataSize) PVOID Data, _In_ ULONG DataSize);
NTSTATUS NTAPI ZwDeleteValueKey(_In_ HANDLE KeyHandle, _In_ PUNICODE_STRING ValueName);

#define PLUGPLAY_REGKEY_DEVICE 1
#define PLUGPLAY_REGKEY_DRIVER 2

// The key of a device (..\Enum\<its name>\Device Parameters), or of its driver (..\Control\Class\<its
// name>), which is made when it is not there (ours: named after the device object).
// STATUS_INVALID_PARAMETER: neither of the two.
NTSTATUS NTAPI IoOpenDeviceRegistryKey(_In_ PDEVICE_OBJECT DeviceObject, _In_ ULONG DevInstKeyType,
                                       _In_ ACCESS_MASK DesiredAccess, _Out_ PHANDLE DevInstRegKey);

// -------------------------------------------------------------------------------------------------
// Rtl's short ways. Path is relative to RelativeTo, or with RTL_REGISTRY_HANDLE a key's handle.

#define RTL_REGISTRY_ABSOLUTE 0
#define RTL_REGISTRY_SERVICES 1
#define RTL_REGISTRY_CONTROL 2
#define RTL_REGISTRY_WINDOWS_NT 3
#define RTL_REGISTRY_DEVICEMAP 4
#define RTL_REGISTRY_USER 5
#define RTL_REGISTRY_MAXIMUM 6
#define RTL_REGISTRY_HANDLE 0x40000000
#define RTL_REGISTRY_OPTIONAL 0x80000000

#define RTL_QUERY_REGISTRY_SUBKEY 0x00000001
#define RTL_QUERY_REGISTRY_TOPKEY 0x00000002
#define RTL_QUERY_REGISTRY_REQUIRED 0x00000004
#define RTL_QUERY_REGISTRY_NOVALUE 0x00000008
#define RTL_QUERY_REGISTRY_NOEXPAND 0x00000010
#define RTL_QUERY_REGISTRY_DIRECT 0x00000020
#define RTL_QUERY_REGISTRY_DELETE 0x00000040

typedef NTSTATUS(NTAPI *PRTL_QUERY_REGISTRY_ROUTINE)(_In_z_ PWSTR ValueName, _In_ ULONG ValueType,
                                                     _In_ PVOID ValueData, _In_ ULONG ValueLength,
                                                     _In_opt_ PVOID Context,
                                                     _In_opt_ PVOID EntryContext);

typedef struct _RTL_QUERY_REGISTRY_TABLE {
    PRTL_QUERY_REGISTRY_ROUTINE QueryRoutine;
    ULONG Flags;
    PCWSTR Name;
    PVOID EntryContext;
    ULONG DefaultType;
    PVOID DefaultData;
    ULONG DefaultLength;
} RTL_QUERY_REGISTRY_TABLE, *PRTL_QUERY_REGISTRY_TABLE;

C_ASSERT(sizeof(RTL_QUERY_REGISTRY_TABLE) == 0x38);

// Goes through the table, which ends with a row without routine and name. Environment variables are not
// expanded: there are none (ours). STATUS_OBJECT_NAME_NOT_FOUND: the key, or a required value, is not
// there. STATUS_BUFFER_TOO_SMALL: a direct value does not fit. Else what a routine returned.
NTSTATUS NTAPI RtlQueryRegistryValues(_In_ ULONG RelativeTo, _In_z_ PCWSTR Path,
                                      _Inout_ PRTL_QUERY_REGISTRY_TABLE QueryTable,
                                      _In_opt_ PVOID Context, _In_opt_ PVOID Environment);
// The key is made when it is not there.
NTSTATUS NTAPI RtlWriteRegistryValue(_In_ ULONG RelativeTo, _In_z_ PCWSTR Path,
                                     _In_opt_z_ PCWSTR ValueName, _In_ ULONG ValueType,
                                     _In_ PVOID ValueData, _In_ ULONG ValueLength);
NTSTATUS NTAPI RtlDeleteRegistryValue(_In_ ULONG RelativeTo, _In_z_ PCWSTR Path,
                                      _In_opt_z_ PCWSTR ValueName);
NTSTATUS NTAPI RtlCheckRegistryKey(_In_ ULONG RelativeTo, _In_z_ PWSTR Path);
NTSTATUS NTAPI RtlCreateRegistryKey(_In_ ULONG RelativeTo, _In_z_ PWSTR Path);
