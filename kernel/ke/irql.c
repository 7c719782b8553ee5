// IRQL: the task-priority register and nothing else, so that code that moves CR8 inline, as drivers
// do, agrees with us.

#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"

KIRQL NTAPI KeGetCurrentIrql(VOID)
{
    return KeArchReadIrql();
}

KIRQL NTAPI KfRaiseIrql(KIRQL NewIrql)
{
    const KIRQL OldIrql = KeArchReadIrql();
    if (NewIrql < OldIrql) {
        KiBugCheckSaying(
            IRQL_NOT_GREATER_OR_EQUAL, OldIrql, NewIrql, 0, (ULONG_PTR)__builtin_return_address(0),
            "KeRaiseIrql was asked to raise from %u to %u, which is lower", OldIrql, NewIrql);
    }
    KeArchWriteIrql(NewIrql);
    return OldIrql;
}

VOID NTAPI KeLowerIrql(KIRQL NewIrql)
{
    const KIRQL OldIrql = KeArchReadIrql();
    if (NewIrql > OldIrql) {
        KiBugCheckSaying(
            IRQL_NOT_LESS_OR_EQUAL, OldIrql, NewIrql, 0, (ULONG_PTR)__builtin_return_address(0),
            "KeLowerIrql was asked to lower from %u to %u, which is higher", OldIrql, NewIrql);
    }
    KeArchWriteIrql(NewIrql);
}

KIRQL NTAPI KeRaiseIrqlToDpcLevel(VOID)
{
    return KfRaiseIrql(DISPATCH_LEVEL);
}
