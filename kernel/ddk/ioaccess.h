// Device registers, ports and barriers. Any IRQL.
//
// Each register function is exactly one access of exactly its width: the compiler can neither
// split, merge, repeat nor move it. A write is followed by a fence, so that it has left the
// processor's buffers, those of write-combined space included, before anything later. The BUFFER
// forms of registers walk through successive addresses and fence once at the end; those of ports
// stay at one port. Count is in elements. A port is a number in a pointer.
#pragma once

#include <ntdef.h>

// Keeps the compiler from moving memory accesses; the processor may still do so.
FORCEINLINE VOID KeMemoryBarrierWithoutFence(VOID)
{
    __asm__ volatile("" ::: "memory");
}

// Every access before it is done before any access after it, for all processors and devices.
FORCEINLINE VOID KeMemoryBarrier(VOID)
{
    __asm__ volatile("mfence" ::: "memory");
}

#define KE_DEFINE_REGISTER_ACCESS(Name, Type, Move, Constraint)                                    \
    FORCEINLINE Type READ_REGISTER_##Name(_In_ const volatile Type *Register)                      \
    {                                                                                              \
        Type Value;                                                                                \
        __asm__ volatile(Move " %1, %0" : "=" Constraint(Value) : "m"(*Register) : "memory");      \
        return Value;                                                                              \
    }                                                                                              \
    FORCEINLINE VOID KepStoreRegister##Name(volatile Type *Register, Type Value)                   \
    {                                                                                              \
        __asm__ volatile(Move " %1, %0" : "=m"(*Register) : Constraint(Value) : "memory");         \
    }                                                                                              \
    FORCEINLINE VOID WRITE_REGISTER_##Name(_In_ volatile Type *Register, _In_ Type Value)          \
    {                                                                                              \
        KepStoreRegister##Name(Register, Value);                                                   \
        KeMemoryBarrier();                                                                         \
    }                                                                                              \
    FORCEINLINE VOID READ_REGISTER_BUFFER_##Name(                                                  \
        _In_ const volatile Type *Register, _Out_writes_(Count) Type *Buffer, _In_ ULONG Count)    \
    {                                                                                              \
        for (ULONG i = 0; i < Count; i += 1) {                                                     \
            Buffer[i] = READ_REGISTER_##Name(Register + i);                                        \
        }                                                                                          \
    }                                                                                              \
    FORCEINLINE VOID WRITE_REGISTER_BUFFER_##Name(                                                 \
        _In_ volatile Type *Register, _In_reads_(Count) const Type *Buffer, ULONG Count)           \
    {                                                                                              \
        for (ULONG i = 0; i < Count; i += 1) {                                                     \
            KepStoreRegister##Name(Register + i, Buffer[i]);                                       \
        }                                                                                          \
        KeMemoryBarrier();                                                                         \
    }

KE_DEFINE_REGISTER_ACCESS(UCHAR, UCHAR, "movb", "q")
KE_DEFINE_REGISTER_ACCESS(USHORT, USHORT, "movw", "r")
KE_DEFINE_REGISTER_ACCESS(ULONG, ULONG, "movl", "r")
KE_DEFINE_REGISTER_ACCESS(ULONG64, ULONG64, "movq", "r")

#undef KE_DEFINE_REGISTER_ACCESS

#define KE_DEFINE_PORT_ACCESS(Name, Type, Suffix)                                                  \
    FORCEINLINE Type READ_PORT_##Name(_In_ Type *Port)                                             \
    {                                                                                              \
        Type Value;                                                                                \
        __asm__ volatile("in" Suffix " %1, %0"                                                     \
                         : "=a"(Value)                                                             \
                         : "Nd"((USHORT)(ULONG_PTR)Port)                                           \
                         : "memory");                                                              \
        return Value;                                                                              \
    }                                                                                              \
    FORCEINLINE VOID WRITE_PORT_##Name(_In_ Type *Port, _In_ Type Value)                           \
    {                                                                                              \
        __asm__ volatile("out" Suffix " %0, %1"                                                    \
                         :                                                                         \
                         : "a"(Value), "Nd"((USHORT)(ULONG_PTR)Port)                               \
                         : "memory");                                                              \
    }                                                                                              \
    FORCEINLINE VOID READ_PORT_BUFFER_##Name(_In_ Type *Port, _Out_writes_(Count) Type *Buffer,    \
                                             _In_ ULONG Count)                                     \
    {                                                                                              \
        for (ULONG i = 0; i < Count; i += 1) {                                                     \
            Buffer[i] = READ_PORT_##Name(Port);                                                    \
        }                                                                                          \
    }                                                                                              \
    FORCEINLINE VOID WRITE_PORT_BUFFER_##Name(                                                     \
        _In_ Type *Port, _In_reads_(Count) const Type *Buffer, _In_ ULONG Count)                   \
    {                                                                                              \
        for (ULONG i = 0; i < Count; i += 1) {                                                     \
            WRITE_PORT_##Name(Port, Buffer[i]);                                                    \
        }                                                                                          \
    }

KE_DEFINE_PORT_ACCESS(UCHAR, UCHAR, "b")
KE_DEFINE_PORT_ACCESS(USHORT, USHORT, "w")
KE_DEFINE_PORT_ACCESS(ULONG, ULONG, "l")

#undef KE_DEFINE_PORT_ACCESS
