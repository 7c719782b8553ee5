// Device registers, memory barriers, and accesses that the compiler leaves whole. Any IRQL.
//
// Each register routine is exactly one access of exactly its width. A write is followed by a fence, so
// that it has left the processor's buffers before anything later. The BUFFER forms walk through
// successive addresses and fence once, at the end. Count is in elements.
#pragma once

#ifndef KeMemoryBarrier
FORCEINLINE VOID KeMemoryBarrierWithoutFence(VOID)
{
    __asm__ volatile("" ::: "memory");
}

// Every access before it is done before any access after it, for all processors and devices.
FORCEINLINE VOID KeMemoryBarrier(VOID)
{
    __asm__ volatile("mfence" ::: "memory");
}
#endif

#ifndef MemoryBarrier
#define MemoryBarrier() KeMemoryBarrier()
#endif

#define KIT_REGISTER_ACCESS(Name, Type, Move, Constraint)                                          \
    FORCEINLINE Type READ_REGISTER_##Name(const volatile Type *Register)                           \
    {                                                                                              \
        Type Value;                                                                                \
        __asm__ volatile(Move " %1, %0" : "=" Constraint(Value) : "m"(*Register) : "memory");      \
        return Value;                                                                              \
    }                                                                                              \
    FORCEINLINE VOID KepStoreRegister##Name(volatile Type *Register, Type Value)                   \
    {                                                                                              \
        __asm__ volatile(Move " %1, %0" : "=m"(*Register) : Constraint(Value) : "memory");         \
    }                                                                                              \
    FORCEINLINE VOID WRITE_REGISTER_##Name(volatile Type *Register, Type Value)                    \
    {                                                                                              \
        KepStoreRegister##Name(Register, Value);                                                   \
        KeMemoryBarrier();                                                                         \
    }                                                                                              \
    FORCEINLINE VOID READ_REGISTER_BUFFER_##Name(const volatile Type *Register, Type *Buffer,      \
                                                 ULONG Count)                                      \
    {                                                                                              \
        for (ULONG Index = 0; Index < Count; Index += 1) {                                         \
            Buffer[Index] = READ_REGISTER_##Name(Register + Index);                                \
        }                                                                                          \
    }                                                                                              \
    FORCEINLINE VOID WRITE_REGISTER_BUFFER_##Name(volatile Type *Register, const Type *Buffer,     \
                                                  ULONG Count)                                     \
    {                                                                                              \
        for (ULONG Index = 0; Index < Count; Index += 1) {                                         \
            KepStoreRegister##Name(Register + Index, Buffer[Index]);                               \
        }                                                                                          \
        KeMemoryBarrier();                                                                         \
    }

KIT_REGISTER_ACCESS(UCHAR, UCHAR, "movb", "q")
KIT_REGISTER_ACCESS(USHORT, USHORT, "movw", "r")
KIT_REGISTER_ACCESS(ULONG, ULONG, "movl", "r")
KIT_REGISTER_ACCESS(ULONG64, ULONG64, "movq", "r")

#undef KIT_REGISTER_ACCESS

// -------------------------------------------------------------------------------------------------
// Shared variables. On x64 a plain load acquires and a plain store releases: it is enough to keep the
// compiler in order.

#define KIT_SHARED_ACCESS(ReadPrefix, WritePrefix, Suffix, Type)                                   \
    FORCEINLINE Type ReadPrefix##NoFence##Suffix(const volatile Type *Source)                      \
    {                                                                                              \
        return *Source;                                                                            \
    }                                                                                              \
    FORCEINLINE Type ReadPrefix##Raw##Suffix(const volatile Type *Source)                          \
    {                                                                                              \
        return *Source;                                                                            \
    }                                                                                              \
    FORCEINLINE Type ReadPrefix##Acquire##Suffix(const volatile Type *Source)                      \
    {                                                                                              \
        const Type Value = *Source;                                                                \
        KeMemoryBarrierWithoutFence();                                                             \
        return Value;                                                                              \
    }                                                                                              \
    FORCEINLINE VOID WritePrefix##NoFence##Suffix(volatile Type *Destination, Type Value)          \
    {                                                                                              \
        *Destination = Value;                                                                      \
    }                                                                                              \
    FORCEINLINE VOID WritePrefix##Raw##Suffix(volatile Type *Destination, Type Value)              \
    {                                                                                              \
        *Destination = Value;                                                                      \
    }                                                                                              \
    FORCEINLINE VOID WritePrefix##Release##Suffix(volatile Type *Destination, Type Value)          \
    {                                                                                              \
        KeMemoryBarrierWithoutFence();                                                             \
        *Destination = Value;                                                                      \
    }

KIT_SHARED_ACCESS(Read, Write, , LONG)
KIT_SHARED_ACCESS(Read, Write, 8, CHAR)
KIT_SHARED_ACCESS(Read, Write, 16, SHORT)
KIT_SHARED_ACCESS(Read, Write, 64, LONG64)
KIT_SHARED_ACCESS(ReadBoolean, WriteBoolean, , BOOLEAN)
KIT_SHARED_ACCESS(ReadUChar, WriteUChar, , UCHAR)
KIT_SHARED_ACCESS(ReadUShort, WriteUShort, , USHORT)
KIT_SHARED_ACCESS(ReadULong, WriteULong, , ULONG)
KIT_SHARED_ACCESS(ReadULong64, WriteULong64, , ULONG64)

#undef KIT_SHARED_ACCESS

FORCEINLINE PVOID ReadPointerNoFence(PVOID const volatile *Source)
{
    return *Source;
}

FORCEINLINE PVOID ReadPointerAcquire(PVOID const volatile *Source)
{
    PVOID const Value = *Source;
    KeMemoryBarrierWithoutFence();
    return Value;
}

FORCEINLINE VOID WritePointerNoFence(PVOID volatile *Destination, PVOID Value)
{
    *Destination = Value;
}

FORCEINLINE VOID WritePointerRelease(PVOID volatile *Destination, PVOID Value)
{
    KeMemoryBarrierWithoutFence();
    *Destination = Value;
}

#ifndef BarrierAfterRead
#define BarrierAfterRead() KeMemoryBarrierWithoutFence()
#endif

// A locked instruction is a full barrier on x64, so the weaker forms are the same.
#ifndef InterlockedIncrementNoFence
#define InterlockedIncrementNoFence InterlockedIncrement
#define InterlockedIncrementAcquire InterlockedIncrement
#define InterlockedIncrementRelease InterlockedIncrement
#define InterlockedDecrementNoFence InterlockedDecrement
#define InterlockedDecrementAcquire InterlockedDecrement
#define InterlockedDecrementRelease InterlockedDecrement
#define InterlockedExchangeNoFence InterlockedExchange
#define InterlockedExchangeAcquire InterlockedExchange
#define InterlockedExchangeAddNoFence InterlockedExchangeAdd
#define InterlockedCompareExchangeNoFence InterlockedCompareExchange
#define InterlockedCompareExchangeAcquire InterlockedCompareExchange
#define InterlockedCompareExchangeRelease InterlockedCompareExchange
#define InterlockedCompareExchangePointerNoFence InterlockedCompareExchangePointer
#define InterlockedCompareExchangePointerAcquire InterlockedCompareExchangePointer
#define InterlockedCompareExchangePointerRelease InterlockedCompareExchangePointer
#endif

#ifndef InterlockedIncrement16
#define InterlockedIncrement16(Addend) __sync_add_and_fetch((Addend), (SHORT)1)
#define InterlockedDecrement16(Addend) __sync_sub_and_fetch((Addend), (SHORT)1)
#endif
#ifndef InterlockedAnd8
#define InterlockedAnd8(Destination, Value) __sync_fetch_and_and((Destination), (Value))
#define InterlockedOr8(Destination, Value) __sync_fetch_and_or((Destination), (Value))
#define InterlockedXor8(Destination, Value) __sync_fetch_and_xor((Destination), (Value))
#endif
