// Private to kernel/cm.
#pragma once

#include <cmddk.h>
#include <rtlddk.h>

#include "kernel/inc/cm.h"
#include "kernel/inc/ke.h"
#include "kernel/inc/ob.h"

#define CM_TAG 'yeKR'

// The body of an Ob object. The tree holds one reference to each key that is in it, each handle one.
typedef struct _CM_KEY {
    struct _CM_KEY *Parent; // NULL: the root, or deleted
    LIST_ENTRY SiblingLink;
    LIST_ENTRY SubKeys; // CM_KEY, in order of their making
    LIST_ENTRY Values;  // CM_VALUE
    ULONG SubKeyCount;
    ULONG ValueCount;
    BOOLEAN IsDeleted;
    LARGE_INTEGER LastWriteTime;
    UNICODE_STRING Name; // one component; its buffer is pool
    UNICODE_STRING Class;
} CM_KEY, *PCM_KEY;

// One block: the name, and behind it, aligned to 8 bytes, the data.
typedef struct _CM_VALUE {
    LIST_ENTRY Link;
    ULONG Type;
    ULONG DataLength;
    UNICODE_STRING Name;
    PUCHAR Data;
} CM_VALUE, *PCM_VALUE;

extern POBJECT_TYPE CmpKeyTypePointer; // exported as CmKeyObjectType
extern PCM_KEY CmpRoot;

VOID CmpAcquireLock(VOID);
VOID CmpReleaseLock(VOID);

typedef enum _CM_CREATE { CmOpenOnly, CmCreateLast, CmCreateAll } CM_CREATE;

// The key of a path, referenced. Root: a key that Path continues; NULL: Path begins with \Registry.
// Takes the lock.
NTSTATUS CmpLookup(_In_opt_ PCM_KEY Root, _In_ PCUNICODE_STRING Path, _In_ CM_CREATE Create,
                   _In_opt_ PCUNICODE_STRING Class, _Outptr_ PCM_KEY *Key,
                   _Out_opt_ PULONG Disposition);

// Under the lock.
PCM_VALUE CmpFindValue(_In_ const CM_KEY *Key, _In_ PCUNICODE_STRING Name);

// The key behind a handle, referenced.
NTSTATUS CmpReferenceKey(_In_ HANDLE Handle, _Outptr_ PCM_KEY *Key);
