// The basic types of NT on x64, with their exact sizes.
//
// LONG and ULONG have 32 bits. Every 64-bit unsigned type (ULONG64, ULONG_PTR, SIZE_T, PFN_NUMBER)
// is the same C type, as on NT, so that pointers to them mix.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <sal.h>

// The calling convention of NT on x64: on every export and every callback type.
#define NTAPI __attribute__((ms_abi))
#define FASTCALL NTAPI

#define FORCEINLINE static inline __attribute__((always_inline))
#define DECLSPEC_NOINLINE __attribute__((noinline))
#define DECLSPEC_NORETURN __attribute__((noreturn))
#define DECLSPEC_ALIGN(ByteCount) __attribute__((aligned(ByteCount)))
#define UNALIGNED

#define C_ASSERT(Expression) _Static_assert(Expression, #Expression)
#define FIELD_OFFSET(Type, Field) ((LONG)offsetof(Type, Field))
#define CONTAINING_RECORD(Address, Type, Field) ((Type *)((PUCHAR)(Address)-offsetof(Type, Field)))
#define RTL_FIELD_SIZE(Type, Field) (sizeof(((Type *)0)->Field))
#define ARRAYSIZE(Array) (sizeof(Array) / sizeof((Array)[0]))
#define UNREFERENCED_PARAMETER(Name) ((VOID)(Name))

typedef void VOID, *PVOID, *HANDLE, **PHANDLE;
typedef char CHAR, *PCHAR, *PSTR;
typedef const char *PCSTR, *PCCH;
typedef signed char CCHAR, SCHAR;
typedef unsigned char UCHAR, *PUCHAR, BOOLEAN, *PBOOLEAN;
typedef int16_t SHORT, *PSHORT, CSHORT;
typedef uint16_t USHORT, *PUSHORT, WCHAR, *PWCHAR, *PWSTR;
typedef const uint16_t *PCWSTR;
typedef int INT, *PINT;
typedef unsigned int UINT, *PUINT;
typedef int32_t LONG, *PLONG;
typedef uint32_t ULONG, *PULONG, LOGICAL, *PLOGICAL;
typedef long long LONG64, *PLONG64, LONGLONG, *PLONGLONG, LONG_PTR, *PLONG_PTR;
typedef unsigned long long ULONG64, *PULONG64, ULONGLONG, *PULONGLONG, ULONG_PTR, *PULONG_PTR;
typedef ULONG_PTR SIZE_T, *PSIZE_T, KAFFINITY, *PKAFFINITY;
typedef LONG NTSTATUS, *PNTSTATUS;
typedef HANDLE *PHANDLE;
typedef ULONG ACCESS_MASK, *PACCESS_MASK;

C_ASSERT(sizeof(ULONG) == 4 && sizeof(LONG) == 4 && sizeof(NTSTATUS) == 4);
C_ASSERT(sizeof(ULONG64) == 8 && sizeof(ULONG_PTR) == 8 && sizeof(SIZE_T) == 8 &&
         sizeof(PVOID) == 8);
C_ASSERT(sizeof(WCHAR) == 2 && sizeof(BOOLEAN) == 1 && sizeof(CSHORT) == 2);

#define FALSE 0
#define TRUE 1
#define CONST const

#define MAXUCHAR 0xFF
#define MAXUSHORT 0xFFFF
#define MINLONG 0x80000000
#define MAXLONG 0x7FFFFFFF
#define MAXULONG 0xFFFFFFFFU
#define MAXLONGLONG 0x7FFFFFFFFFFFFFFFLL
#define MAXULONG64 0xFFFFFFFFFFFFFFFFULL
#define MAXULONG_PTR MAXULONG64
#define MAXSIZE_T MAXULONG64

// Success and information codes are not negative; warnings begin with 0x8, errors with 0xC.
#define NT_SUCCESS(Status) ((NTSTATUS)(Status) >= 0)
#define NT_INFORMATION(Status) (((ULONG)(Status) >> 30) == 1)
#define NT_WARNING(Status) (((ULONG)(Status) >> 30) == 2)
#define NT_ERROR(Status) (((ULONG)(Status) >> 30) == 3)

typedef union _LARGE_INTEGER {
    struct {
        ULONG LowPart;
        LONG HighPart;
    };
    struct {
        ULONG LowPart;
        LONG HighPart;
    } u;
    LONGLONG QuadPart;
} LARGE_INTEGER, *PLARGE_INTEGER;

C_ASSERT(sizeof(LARGE_INTEGER) == 8);
C_ASSERT(FIELD_OFFSET(LARGE_INTEGER, HighPart) == 4);

typedef union _ULARGE_INTEGER {
    struct {
        ULONG LowPart;
        ULONG HighPart;
    };
    struct {
        ULONG LowPart;
        ULONG HighPart;
    } u;
    ULONGLONG QuadPart;
} ULARGE_INTEGER, *PULARGE_INTEGER;

C_ASSERT(sizeof(ULARGE_INTEGER) == 8);

typedef LARGE_INTEGER PHYSICAL_ADDRESS, *PPHYSICAL_ADDRESS;

typedef struct _LIST_ENTRY {
    struct _LIST_ENTRY *Flink;
    struct _LIST_ENTRY *Blink;
} LIST_ENTRY, *PLIST_ENTRY;

C_ASSERT(sizeof(LIST_ENTRY) == 0x10);
C_ASSERT(FIELD_OFFSET(LIST_ENTRY, Blink) == 8);

typedef struct _SINGLE_LIST_ENTRY {
    struct _SINGLE_LIST_ENTRY *Next;
} SINGLE_LIST_ENTRY, *PSINGLE_LIST_ENTRY;

// Length and MaximumLength are in bytes and do not count a terminator.
typedef struct _UNICODE_STRING {
    USHORT Length;
    USHORT MaximumLength;
    PWSTR Buffer;
} UNICODE_STRING, *PUNICODE_STRING;
typedef const UNICODE_STRING *PCUNICODE_STRING;

C_ASSERT(sizeof(UNICODE_STRING) == 0x10);
C_ASSERT(FIELD_OFFSET(UNICODE_STRING, MaximumLength) == 2);
C_ASSERT(FIELD_OFFSET(UNICODE_STRING, Buffer) == 8);

// Literal is a UTF-16 literal: u"text".
#define RTL_CONSTANT_STRING(Literal)                                                               \
    {                                                                                              \
        sizeof(Literal) - sizeof((Literal)[0]), sizeof(Literal), (PWSTR)(Literal)                  \
    }

// A name by which something is opened. RootDirectory: a handle that a name without leading backslash
// begins at.
typedef struct _OBJECT_ATTRIBUTES {
    ULONG Length;
    HANDLE RootDirectory;
    PUNICODE_STRING ObjectName;
    ULONG Attributes; // OBJ_*
    PVOID SecurityDescriptor;
    PVOID SecurityQualityOfService;
} OBJECT_ATTRIBUTES, *POBJECT_ATTRIBUTES;

C_ASSERT(sizeof(OBJECT_ATTRIBUTES) == 0x30);
C_ASSERT(FIELD_OFFSET(OBJECT_ATTRIBUTES, ObjectName) == 0x10);

#define OBJ_INHERIT 0x00000002
#define OBJ_PERMANENT 0x00000010
#define OBJ_EXCLUSIVE 0x00000020
#define OBJ_CASE_INSENSITIVE 0x00000040
#define OBJ_OPENIF 0x00000080
#define OBJ_OPENLINK 0x00000100
#define OBJ_KERNEL_HANDLE 0x00000200
#define OBJ_FORCE_ACCESS_CHECK 0x00000400
#define OBJ_IGNORE_IMPERSONATED_DEVICEMAP 0x00000800
#define OBJ_DONT_REPARSE 0x00001000
#define OBJ_VALID_ATTRIBUTES 0x00001FF2

#define InitializeObjectAttributes(P, Name, Flags, Root, Security)                                 \
    do {                                                                                           \
        (P)->Length = sizeof(OBJECT_ATTRIBUTES);                                                   \
        (P)->RootDirectory = (Root);                                                               \
        (P)->Attributes = (Flags);                                                                 \
        (P)->ObjectName = (Name);                                                                  \
        (P)->SecurityDescriptor = (Security);                                                      \
        (P)->SecurityQualityOfService = NULL;                                                      \
    } while (0)

typedef struct _GUID {
    ULONG Data1;
    USHORT Data2;
    USHORT Data3;
    UCHAR Data4[8];
} GUID;

C_ASSERT(sizeof(GUID) == 0x10);

// One source file per program defines INITGUID before it includes the header that lists the GUIDs.
#ifdef INITGUID
#define DEFINE_GUID(Name, L, W1, W2, B1, B2, B3, B4, B5, B6, B7, B8)                               \
    extern const GUID Name;                                                                        \
    const GUID Name = {L, W1, W2, {B1, B2, B3, B4, B5, B6, B7, B8}}
#else
#define DEFINE_GUID(Name, L, W1, W2, B1, B2, B3, B4, B5, B6, B7, B8) extern const GUID Name
#endif

typedef CCHAR KPROCESSOR_MODE;
typedef enum _MODE { KernelMode, UserMode, MaximumMode } MODE;
