// What the files of kernel/ob tell each other, grouped by file.
#pragma once

#include "kernel/inc/ke.h"
#include "kernel/inc/ob.h"
#include "mm/mm.h"

#define OBP_TAG 'ejbO'

// Above all ranks of mm: nothing is allocated or freed under them.
#define OBP_RANK_NAMES 20
#define OBP_RANK_HANDLES 21
#define OBP_RANK_DELETION 22

//
// name.c
//

typedef struct _OB_NAME {
    LIST_ENTRY Link; // in the directory's list
    PVOID Directory; // keeps a reference to it
    PVOID Object;    // does not
    UNICODE_STRING Text;
    WCHAR Buffer[];
} OB_NAME, *POB_NAME;

typedef struct _OBP_DIRECTORY {
    LIST_ENTRY Names; // of OB_NAME
} OBP_DIRECTORY, *POBP_DIRECTORY;

typedef struct _OBP_LINK {
    const VOID *Maker; // an address in the code that asked for it, or NULL
    USHORT Length;     // of the target, in bytes
    WCHAR Target[];
} OBP_LINK, *POBP_LINK;

extern OBJECT_TYPE ObpDirectoryType;
extern OBJECT_TYPE ObpLinkType;

// A new link or directory, not named yet. NULL: no pool.
_Must_inspect_result_ PVOID ObpAllocateLink(_In_ PCUNICODE_STRING Target,
                                            _In_opt_ const VOID *Maker);
_Must_inspect_result_ PVOID ObpAllocateDirectory(VOID);

// How a new object's name behaves: it goes with the last handle, or it keeps a reference.
typedef enum _OBP_NAME_LIFE { ObpNameWithHandle, ObpNameForEver } OBP_NAME_LIFE;
VOID ObpSetNameLife(_In_ PVOID Object, _In_ OBP_NAME_LIFE Life);

// From now on the name goes with the last handle; at once, if there is none.
VOID ObpMakeTemporary(_In_ PVOID Object);
