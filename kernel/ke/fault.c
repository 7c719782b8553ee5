// Which bug check a fault ends in.
//
// The rule, from first to last: an address that does not exist; one of which somebody knows what it
// was; a raised IRQL, where no fault may
// ever be resolved, with the blame on the driver if its code was running; a page that is there but
// forbids the access; and last, a page that is not there.

#include "kernel/inc/ke.h"
#include "kernel/inc/kearch.h"
#include "kernel/inc/ldr.h"

// How the codes spell an access.
typedef struct _KI_ACCESS_CODES {
    PCSTR Word;
    ULONG_PTR InPageFault; // PAGE_FAULT_IN_NONPAGED_AREA, P2
    ULONG_PTR AtIrql;      // IRQL_NOT_LESS_OR_EQUAL, P3
} KI_ACCESS_CODES;

static const KI_ACCESS_CODES KiAccessCodes[] = {
    [KiFaultRead] = {"read", 0, 0},
    [KiFaultWrite] = {"write", 2, 1},
    [KiFaultExecute] = {"execution", 0x10, 8},
};

// PAGE_FAULT_IN_NONPAGED_AREA, P4.
#define PAGE_FAULT_TYPE_FREED 0
#define PAGE_FAULT_TYPE_NO_TABLE 2
#define PAGE_FAULT_TYPE_NON_CANONICAL 4

#define NULL_REGION_BYTES 0x10000

static DECLSPEC_NORETURN VOID KiStopNonCanonical(const KI_FAULT *Fault,
                                                 const KI_ACCESS_CODES *Codes)
{
    KiBugCheckSaying(PAGE_FAULT_IN_NONPAGED_AREA, Fault->Va, Codes->InPageFault, Fault->Rip,
                     PAGE_FAULT_TYPE_NON_CANONICAL,
                     "%s of 0x%016llx in %s: no such address can exist (not canonical)",
                     Codes->Word, Fault->Va, KiNameCode(Fault->Rip, &(KI_CODE_NAME){""}));
}

static DECLSPEC_NORETURN VOID KiStopAtIrql(const KI_FAULT *Fault, const KI_ACCESS_CODES *Codes)
{
    const BOOLEAN InDriver = KiIsDriverCode(Fault->Rip);
    KiBugCheckSaying(InDriver ? DRIVER_IRQL_NOT_LESS_OR_EQUAL : IRQL_NOT_LESS_OR_EQUAL, Fault->Va,
                     Fault->Irql, Codes->AtIrql, Fault->Rip,
                     "%s of 0x%016llx at IRQL %u faulted in %s%s", Codes->Word, Fault->Va,
                     Fault->Irql, InDriver ? "driver code: " : "",
                     KiNameCode(Fault->Rip, &(KI_CODE_NAME){""}));
}

static DECLSPEC_NORETURN VOID KiStopForbidden(ULONG Code, const KI_FAULT *Fault,
                                              const KI_ACCESS_CODES *Codes, PCSTR Reason)
{
    KiBugCheckSaying(Code, Fault->Va, Fault->Entry, 0, 0, "%s of 0x%016llx in %s: %s", Codes->Word,
                     Fault->Va, KiNameCode(Fault->Rip, &(KI_CODE_NAME){""}), Reason);
}

static PCSTR KiExplainPageFault(const KI_FAULT *Fault)
{
    if (Fault->Cause == KiFaultOther) {
        return "the page is there, but the processor refuses this access";
    }
    if (LdrFindImage(Fault->Va) != NULL) {
        return "the driver's image lost these pages when its initialization was over (INIT "
               "sections)";
    }
    return Fault->Va < NULL_REGION_BYTES ? "nothing is mapped there (a null pointer?)"
                                         : "nothing is mapped there";
}

static DECLSPEC_NORETURN VOID KiStopUnmapped(const KI_FAULT *Fault, const KI_ACCESS_CODES *Codes)
{
    const ULONG_PTR Type =
        Fault->LeafTableExists ? PAGE_FAULT_TYPE_FREED : PAGE_FAULT_TYPE_NO_TABLE;
    KiBugCheckSaying(PAGE_FAULT_IN_NONPAGED_AREA, Fault->Va, Codes->InPageFault, Fault->Rip, Type,
                     "%s of 0x%016llx in %s: %s", Codes->Word, Fault->Va,
                     KiNameCode(Fault->Rip, &(KI_CODE_NAME){""}), KiExplainPageFault(Fault));
}

static KI_EXPLAIN_FAULT *KiFaultExplainer;

VOID KiSetFaultExplainer(KI_EXPLAIN_FAULT *Routine)
{
    KiFaultExplainer = Routine;
}

// Stops when somebody knows what the address was.
static VOID KiStopExplained(const KI_FAULT *Fault, const KI_ACCESS_CODES *Codes)
{
    KI_FAULT_EXPLANATION Explanation;
    if (KiFaultExplainer != NULL && Fault->Cause == KiFaultNotPresent &&
        KiFaultExplainer(Fault->Va, &Explanation)) {
        KiBugCheckSaying(KiIsDriverCode(Fault->Rip) ? Explanation.DriverCode : Explanation.Code,
                         Fault->Va, Codes->AtIrql, Fault->Rip, 0, "%s of 0x%016llx in %s: %s",
                         Codes->Word, Fault->Va, KiNameCode(Fault->Rip, &(KI_CODE_NAME){""}),
                         Explanation.Sentence);
    }
}

DECLSPEC_NORETURN VOID KiDispatchMemoryFault(const KI_FAULT *Fault)
{
    const KI_ACCESS_CODES *Codes = &KiAccessCodes[Fault->Access];
    if (Fault->Cause == KiFaultNonCanonical) {
        KiStopNonCanonical(Fault, Codes);
    }
    KiStopExplained(Fault, Codes);
    if (Fault->Irql >= DISPATCH_LEVEL) {
        KiStopAtIrql(Fault, Codes);
    }
    switch (Fault->Cause) {
    case KiFaultReadOnly:
        KiStopForbidden(ATTEMPTED_WRITE_TO_READONLY_MEMORY, Fault, Codes, "the page is read-only");
    case KiFaultNoExecute:
        KiStopForbidden(ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY, Fault, Codes, "the page holds data");
    case KiFaultNotPresent:
    case KiFaultNonCanonical:
    case KiFaultOther:
        break;
    }
    KiStopUnmapped(Fault, Codes);
}

// Status is signed, as NTSTATUS is: an error fills the upper half of the parameter with ones.
DECLSPEC_NORETURN VOID KiDispatchException(const KI_EXCEPTION *Exception)
{
    if (Exception->BugCheckCode == KMODE_EXCEPTION_NOT_HANDLED) {
        KiBugCheckSaying(KMODE_EXCEPTION_NOT_HANDLED, (ULONG_PTR)(LONG_PTR)Exception->Status,
                         Exception->Rip, 0, 0, "%s in %s", Exception->Name,
                         KiNameCode(Exception->Rip, &(KI_CODE_NAME){""}));
    }
    KiBugCheckSaying(Exception->BugCheckCode, Exception->Vector, Exception->ErrorCode,
                     Exception->Rip, 0, "%s in %s", Exception->Name,
                     KiNameCode(Exception->Rip, &(KI_CODE_NAME){""}));
}
