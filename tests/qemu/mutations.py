"""Deliberate defects: each row damages one place of the tree, and the named suite must notice.

A row holds a file, the exact text to replace (it must occur once), the new text, and who must fail:
HOST for the host tests, or the name of a row of machines.py. A suite that passes on a damaged tree
is a failure of the suite; a row whose text is no longer in the file, or that does not compile, is a
failure of the row.

The tree is copied once for each kind of suite and built incrementally, so a mutation costs a few
seconds.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREE = ("Makefile", "linker.ld", "arch", "boot", "drivers", "kernel", "mm", "tests")
BUILD = "build"
BUILT_FOLDERS = ("obj", "drivers", "testdrivers")
BUILT_FILES = ("iospace", "iospace.elf", "iospace.elf.map", "iospace.elf.symbols", "ntoskrnl.def")
OBJECT_PATH = re.compile(r"^\S*/obj/", re.MULTILINE)  # of what a rule makes
SECONDS = 900  # the longest that a build or the host tests may take
OUTPUT_LINES_SHOWN = 5
MAKE_VARIABLES = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # of the make that runs us; not for others

HOST = "host"


@dataclass(frozen=True)
class Mutation:
    name: str  # what is broken, as a clause
    file: str
    old: str
    new: str
    suite: str
    filter: str = ""  # only tests whose name, or whose suite's name, contains it; saves time
    is_wide: bool = False  # slow, or much like another one: of make test-wide only


MUTATIONS = (
    Mutation("usable memory is taken for reserved", "boot/handoff.c",
             "[1] = LoaderMemoryUsable,", "[1] = LoaderMemoryReserved,", HOST, "handoff",
             is_wide=True),

    # Translations that survive.
    Mutation("an unmapped page is not invalidated (host)", "mm/tlb.c",
             "        MiFlushPagesHere(Va, PageCount);\n        return 0;",
             "        return Va == PageCount;", HOST, "iospace"),
    Mutation("an unmapped page is not invalidated (guest)", "mm/tlb.c",
             "        MiFlushPagesHere(Va, PageCount);\n        return 0;",
             "        return Va == PageCount;", "q35-max-leaf4k", "stale",
             is_wide=True),
    Mutation("pages that were used are not invalidated", "mm/ptmgr.c",
             ": MiTakeLeaves(FirstPte, (ULONG)PageCount);",
             ": MiTakeLeaves(FirstPte, (ULONG)PageCount) && MmVerifierLevel != 0;", HOST, "iospace"),
    Mutation("one page of eight is not invalidated (host)", "mm/tlb.c",
             "        MiArchFlushPage(Va + 7ull * PAGE_SIZE);\n", "", HOST, "mdlmap",
             is_wide=True),
    Mutation("one page of eight is not invalidated (guest)", "mm/tlb.c",
             "        MiArchFlushPage(Va + 7ull * PAGE_SIZE);\n", "", "q35-max-leaf4k", "stale",
             is_wide=True),
    Mutation("many pages are not invalidated at all", "mm/tlb.c",
             "    if (PageCount > MI_TLB_BATCH_PAGES) {\n        MiArchFlushAll();\n    } else {",
             "    if (PageCount <= MI_TLB_BATCH_PAGES) {", HOST, "mdlmap"),
    Mutation("a large leaf is not invalidated", "mm/tlb.c",
             "        MiArchFlushPage(Va);\n        Va += LeafPages << PAGE_SHIFT;",
             "        Va += LeafPages << PAGE_SHIFT;", HOST, "iospace",
             is_wide=True),
    Mutation("a page of a batch is not invalidated", "mm/tlb.c",
             "        MiArchFlushPage(Batch->Page[Index]);\n",
             "        (VOID)Batch->Page[Index];\n", HOST, "mdlmap",
             is_wide=True),
    Mutation("a full batch is flushed by half", "mm/tlb.c",
             "        Batch->FlushAll = TRUE;\n        return;\n", "        return;\n",
             HOST, "ptmgr",
             is_wide=True),

    # Translations that survive on another processor.
    Mutation("the other processors are not told of an unmap, at level 1", "mm/tlb.c",
             "    MiBroadcastFlush(Routine, Context, KiWakeSleepers, About);\n",
             "    if (About != NULL) {\n        Routine(Context);\n    }\n",
             "q35-max-stale-verifier", "stale-peers"),
    Mutation("the other processors are not told of an unmap", "mm/tlb.c",
             "KiBroadcast(Routine, Context, Sleepers);",
             "Sleepers == KiWakeSleepers ? KiBroadcast(Routine, Context, Sleepers) : (Routine(Context), 0u);",
             "q35-max-stale", "stale-peers"),
    Mutation("an address that waits is used again before all have forgotten it", "mm/mapping.c",
             "    if (MiIsForgotten(Mapping->Stamp)) {", "    if (Mapping->Stamp != MAXULONG64) {",
             "q35-max-stale", "stale-peers"),
    Mutation("a processor that slept remembers what it missed", "kernel/ke/multi.c",
             "        KeArchForgetTranslations();\n", "        KeArchPause();\n",
             "q35-max-smp2-ovmf", "stale-shootdown"),
    Mutation("the second processor's time-stamp counter is far ahead", "kernel/ke/multi.c",
             "    const ULONG64 Now = KeArchReadCycles();\n    const ULONG64 Last",
             "    const ULONG64 Now = KeArchReadCycles() + ((ULONG64)KeArchGetPcr()->Number << 40);\n"
             "    const ULONG64 Last",
             "q35-max-smp2-ovmf", "processors",
             is_wide=True),
    Mutation("a flush of everything keeps the global translations", "arch/x64/mm/tlb.c",
             "    if (Cr4 & CR4_PGE) {", "    if ((Cr4 & CR4_PGE) != 0 && Cr4 == CR4_PGE) {",
             "bochs-smp2-stale-old",
             is_wide=True),
    Mutation("INVPCID keeps the global translations", "arch/x64/mm/tlb.c",
             "#define INVPCID_EVERYTHING 2ull", "#define INVPCID_EVERYTHING 3ull",
             "bochs-smp2-stale",
             is_wide=True),
    Mutation("a broadcast returns before all have done it", "kernel/ke/multi.c",
             "    while (__atomic_load_n(&KiBroadcastSlot.Remaining, __ATOMIC_ACQUIRE) != 0) {",
             "    while (__atomic_load_n(&KiBroadcastSlot.Remaining, __ATOMIC_ACQUIRE) == MAXULONG64) {",
             "q35-max-stale-verifier", "stale-peers",
             is_wide=True),

    # One processor alone.
    Mutation("who is alone does not wait for the others to stand", "kernel/ke/alone.c",
             "    while (__atomic_load_n(&KiAlone.Missing, __ATOMIC_ACQUIRE) != 0) {",
             "    while (__atomic_load_n(&KiAlone.Missing, __ATOMIC_ACQUIRE) == MAXULONG64) {",
             "q35-max-smp2-verifier", "alone"),

    # The dispatcher.
    Mutation("a switch of threads forgets xmm12", "arch/x64/switch.S",
             "    movaps 0x60(%rsp), %xmm12\n", "", "q35-max-no-devices", "threads"),
    Mutation("a quantum never ends", "kernel/ke/thread.c",
             "Pcr->QuantumEnded || Thread->Quantum == 0;", "Pcr->QuantumEnded;",
             "q35-max-no-devices", "threads"),
    Mutation("a time-out ends early", "kernel/ke/timer.c",
             "Now + (0 - (ULONG64)Time);", "Now + (0 - (ULONG64)Time) / 2;",
             "q35-max-no-devices", "sync",
             is_wide=True),
    Mutation("a wait for all takes what it cannot have", "kernel/ke/wait.c",
             "            return FALSE;\n        }\n        Block = Block->NextWaitBlock;",
             "            break;\n        }\n        Block = Block->NextWaitBlock;",
             "q35-max-no-devices", "sync",
             is_wide=True),
    Mutation("the stack of a thread that has ended stays", "kernel/ps/thread.c",
             "    MmDeleteKernelStack((PVOID)Thread->StackBase);\n    if", "    if", "q35-max-no-devices", "threads",
             is_wide=True),

    # Several processors.
    Mutation("a targeted DPC runs where it is queued", "kernel/ke/dpc.c",
             "    return Number < (ULONG)KeNumberProcessors ? KeArchGetPcrOf(Number) : KeArchGetPcr();",
             "    return Number > MAXUSHORT ? KeArchGetPcrOf(Number) : KeArchGetPcr();",
             "q35-max-smp2-verifier", "[25."),
    Mutation("KeFlushQueuedDpcs flushes its own processor's only", "kernel/ke/dpc.c",
             "        KiSetCurrentAffinity((KAFFINITY)1 << Number);\n", "",
             "q35-max-smp2-verifier", "[25."),
    Mutation("a ready thread is not told to the processor that idles", "kernel/ke/thread.c",
             "        KeArchRequestDispatchInterruptOn(Pcr->Number);\n", "        (VOID) Pcr;\n",
             "q35-max-smp2-verifier", "[25.",
             is_wide=True),
    Mutation("a queued spin lock does not wait", "kernel/ke/spinlock.c",
             "    while ((ULONG_PTR)__atomic_load_n(&Self->Lock, __ATOMIC_ACQUIRE) & KI_QUEUE_WAITS) {",
             "    while (Self->Lock == NULL) {", "q35-max-smp2-verifier", "[25.",
             is_wide=True),
    Mutation("a bug check lets the others run", "kernel/ke/bugcheck.c",
             "            KeArchStopProcessor((ULONG)Number);\n", "            (VOID) Number;\n",
             "bugcheck-StopWhileOthersRun"),

    # RAM in the wrong hands.
    Mutation("RAM can be claimed for a device", "mm/claim.c",
             "[MiPhysicalRam] = {FALSE, FALSE, MiReasonRam}",
             "[MiPhysicalRam] = {TRUE, FALSE, MiReasonRam}", HOST, "claim"),
    Mutation("RAM that nobody locked can be mapped (host)", "mm/iospace.c",
             "        if (!MiIsLockedFrame(Pfn, Reason)) {\n            return FALSE;",
             "        if (!MiIsLockedFrame(Pfn, Reason)) {\n            return TRUE;",
             HOST, "iospace"),
    Mutation("RAM that nobody locked can be mapped (guest)", "mm/iospace.c",
             "        if (!MiIsLockedFrame(Pfn, Reason)) {\n            return FALSE;",
             "        if (!MiIsLockedFrame(Pfn, Reason)) {\n            return TRUE;",
             "q35-max-no-devices", "iospace",
             is_wide=True),
    Mutation("the short way maps any frame", "mm/miquick.h",
             "    if (Pfn >= Frames.EndPfn || Frames.Database[Pfn].CacheType != CacheType) {",
             "    if (Pfn >= Frames.EndPfn || CacheType == MiCacheTypeCount) {", HOST, "mdlmap",
             is_wide=True),
    Mutation("borrowed frames are not counted", "mm/mdlmap.c",
             "const BOOLEAN IsBorrowed = !MiIsMdlSealed(Mdl) || MiIsVerifying();",
             "const BOOLEAN IsBorrowed = MiIsVerifying();", HOST, "misuse",
             is_wide=True),
    Mutation("frames that somebody maps can be freed", "mm/pfn.c",
             "const ULONG64 UseCount = (ULONG64)Element->MapCount + Element->LockCount;",
             "const ULONG64 UseCount = Element->LockCount;", HOST, "misuse"),

    Mutation("a run is searched while processors keep parts of it", "mm/pfn.c",
             "    MiEmptyFrameCaches();\n    const PFN_NUMBER FirstPfn = MiFindFreeRun",
             "    const PFN_NUMBER FirstPfn = MiFindFreeRun", HOST, "processors",
             is_wide=True),
    Mutation("a frame below 16 MiB is cached", "mm/pfn.c",
             "    if (Pfn < MI_PAGES_OF_24_BITS) {\n        return FALSE;", "    if (Pfn == MI_NO_PFN) {\n        return FALSE;",
             HOST, "processors",
             is_wide=True),

    # Cache types.
    Mutation("two cache types are swapped for mm", "mm/protect.c",
             "[PAGE_NOCACHE >> MI_CACHE_MODIFIER_SHIFT] = MiCacheUncached",
             "[PAGE_NOCACHE >> MI_CACHE_MODIFIER_SHIFT] = MiCacheWriteCombined", HOST, "protect",
             is_wide=True),
    Mutation("two cache types are swapped for the processor", "arch/x64/mm/memtype.c",
             "((Slot)&1 ? PTE_PWT : 0) | ((Slot)&2 ? PTE_PCD : 0)",
             "((Slot)&1 ? PTE_PCD : 0) | ((Slot)&2 ? PTE_PWT : 0)", "q35-max-no-devices", "iospace"),
    Mutation("conflicting cache types are agreed to", "mm/ledger.c",
             "        if (MiIsSlotAgainst(MiSlotOf(Leaf, Pfn), CacheType)) {",
             "        if (MiIsSlotAgainst(MiSlotOf(Leaf, Pfn), CacheType) && Pfn == MI_NO_PFN) {",
             HOST, "iospace"),
    Mutation("a range is not compared with other ranges", "mm/ledger.c",
             "    if (MiFindOpposingRange(Hold->CacheType, Range) != NULL ||\n        ",
             "    if (", HOST, "large_range"),
    Mutation("a range is not compared with single frames", "mm/ledger.c",
             "MiFindOpposingSlot(Hold->CacheType, Range, &IsAnyOpen) != NULL) {",
             "(MiFindOpposingSlot(Hold->CacheType, Range, &IsAnyOpen), FALSE)) {",
             HOST, "large_range",
             is_wide=True),
    Mutation("the short way joins holders of another type", "mm/miquick.h",
             "if (Old == 0 ? MiOpposingRangeCount[CacheType] != 0 : MiTypeOf(Old) != CacheType) {",
             "if (Old == 0 && MiOpposingRangeCount[CacheType] != 0) {", HOST, "iospace"),
    Mutation("the short way keeps what it held before it met another type", "mm/ledger.c",
             "        MiDropHoldersQuickly(Leaf, Range.FirstPfn, Pfn);\n", "        (VOID) Pfn;\n",
             HOST, "ledger",
             is_wide=True),
    Mutation("the short way does not look at ranges", "mm/miquick.h",
             "if (Old == 0 ? MiOpposingRangeCount[CacheType] != 0 : MiTypeOf(Old)",
             "if (Old == 0 ? FALSE : MiTypeOf(Old)", HOST, "large_range",
             is_wide=True),
    Mutation("the short way does not count its hold", "mm/miquick.h",
             "MiSlotWord(1, CacheType, Time) : Old + 1;", "MiSlotWord(1, CacheType, Time) : Old;",
             HOST, "iospace",
             is_wide=True),
    Mutation("an idle range still decides for a frame", "mm/ledger.c",
             "    MiEvictIdleRanges(Range);\n    NTSTATUS Status =", "    NTSTATUS Status =",
             HOST, "large_range",
             is_wide=True),
    Mutation("an idle range still decides for a range", "mm/ledger.c",
             "    MiEvictIdleRanges(Range);\n    if (MiFindOpposingRange",
             "    if (MiFindOpposingRange", HOST, "large_range",
             is_wide=True),
    Mutation("an MDL forgets what others decided about its frames", "mm/ledger.c",
             "CacheType == MiCacheUndecided ? MiFindRangeOfFrame(Pfn, &CacheType) : NULL;",
             "Pfn == MI_NO_PFN ? MiFindRangeOfFrame(Pfn, &CacheType) : NULL;",
             HOST, "large_range"),

    # Guards and rights.
    Mutation("the guard page is forgotten (host)", "mm/sysva.c",
             "(PagesBefore + PageCount + 1 + Zone->UnitPages - 1)",
             "(PagesBefore + PageCount + Zone->UnitPages - 1)", HOST, "ptmgr"),
    Mutation("the guard page is forgotten (guest)", "mm/sysva.c",
             "(PagesBefore + PageCount + 1 + Zone->UnitPages - 1)",
             "(PagesBefore + PageCount + Zone->UnitPages - 1)", "q35-max-no-devices", "iospace",
             is_wide=True),
    Mutation("unmapped addresses are used again at once at level 1", "mm/mapping.c",
             "MiQuarantine.Count > MI_QUARANTINE_LIMIT ?",
             "MiQuarantine.Count > 0 ?",
             HOST, "undone_mapping",
             is_wide=True),
    Mutation("data is executable", "arch/x64/mm/pte.c",
             "[MiAccessReadWrite] = PTE_NO_EXECUTE | PTE_WRITE,",
             "[MiAccessReadWrite] = PTE_WRITE,", "q35-max-no-devices", "tables"),
    Mutation("code is writable", "arch/x64/mm/pte.c",
             "[MiAccessExecuteRead] = 0,", "[MiAccessExecuteRead] = PTE_WRITE,",
             "q35-max-no-devices", "tables",
             is_wide=True),
    Mutation("execute-only code can be read", "arch/x64/cpu.c",
             "PKRS_ACCESS_DISABLE(PKEY_EXECUTE_ONLY) |\n                                     ",
             "", "q35-max-no-devices", "iospace"),

    # Leaks on the way out of a failure.
    Mutation("a slot without tables keeps its addresses", "mm/mapping.c",
             "ReleaseVa:\n    MiReleaseSystemVa(Region, Slot->Va, SlotPages, MiLeadingGuards(Region));\n",
             "ReleaseVa:\n", HOST, "failure",
             is_wide=True),
    Mutation("a failed mapping keeps its slot", "mm/iospace.c",
             "        MiReleaseMapping(Mapping);\n        if (Status ==", "        if (Status ==",
             HOST, "failure",
             is_wide=True),
    Mutation("a refused claim keeps its record", "mm/claim.c",
             "        MiRefuse(__func__, MiReasonClaimed, Range, Holder->Owner);\n"
             "        MiFreePool(New);\n",
             "        MiRefuse(__func__, MiReasonClaimed, Range, Holder->Owner);\n",
             "q35-max-no-devices", "physical"),

    # One frame, two names.
    Mutation("uncached RAM keeps its write-back alias", "mm/alias.c",
             "        if (Requested != MiCacheWriteBack) {\n            MiHideAlias(Pfn, Batch);\n",
             "        if (Requested == MiCacheUndecided) {\n            MiHideAlias(Pfn, Batch);\n",
             HOST, "mdlmap"),
    Mutation("dirty lines stay in the cache", "mm/alias.c",
             "    MiArchFlushCacheRange(MiFrameToVa(Pfn), PAGE_SIZE);\n    MiDropAlias(",
             "    MiDropAlias(", HOST, "mdlmap",
             is_wide=True),
    Mutation("stale lines stay in the cache", "mm/alias.c",
             "    // Lines that were fetched through the old alias, just before it went, are stale by now."
             "\n    MiArchFlushCacheRange(MiFrameToVa(Pfn), PAGE_SIZE);\n", "", HOST, "mdlmap"),
    Mutation("a freed frame stays out of the direct map", "mm/alias.c",
             "        MiShowAlias(Pfn);\n",
             "        if (Pfn == MI_NO_PFN) {\n            MiShowAlias(Pfn);\n        }\n", HOST,
             "mdlpages"),

    # Order, and trust.
    Mutation("page tables are freed and never forgotten", "mm/tlb.c",
             "        MiFlushTranslations(Batch);\n    } else if",
             "        if (Batch->FirstTable == MI_NO_PFN) {\n            MiFlushTranslations(Batch);\n"
             "        }\n    } else if", HOST, "iospace"),
    Mutation("a batch is not flushed on the other processors", "mm/tlb.c",
             "    } else if (Batch->PageCount != 0) {", "    } else if (Batch->PageCount > 99) {",
             HOST, "ptmgr",
             is_wide=True),
    Mutation("an unmapped page is not invalidated on the other processors", "mm/tlb.c",
             "    MiBroadcastFlush(Routine, Context, KiWakeSleepers, About);\n",
             "    if (About != NULL) {\n        Routine(Context);\n    }\n",
             HOST, "two_processors"),
    Mutation("an address is used again that another processor remembers", "mm/mapping.c",
             "        if (!MiIsForgotten(Slot->Stamp)) {", "        if (Slot->Stamp > MiTlbEpoch) {",
             HOST, "processors"),
    Mutation("a frame gets another type while a processor remembers the old one", "mm/mi.h",
             "    if (MiIsAnythingRemembered()) {", "    if (MiTlbEpoch == 0) {", HOST, "processors",
             is_wide=True),
    Mutation("the short way does not ask who remembers the frame with another type", "mm/iospace.c",
             "    if (Protection.CacheType != MiCacheUncached) {",
             "    if (Protection.CacheType == MiCacheTypeCount) {", HOST, "processors"),
    Mutation("a slot that waits is idle at once", "mm/mapping.c",
             "    } else if (Mapping->Stamp != 0) {", "    } else if (Mapping->PageCount == 0) {",
             HOST, "processors"),
    Mutation("unmap believes a size that is too small", "mm/iospace.c",
             "        Mapping->PageCount != MiPagesSpanned(Base, NumberOfBytes)) {\n"
             "        MiStopWrongIoUnmap",
             "        Mapping->PageCount < MiPagesSpanned(Base, NumberOfBytes)) {\n"
             "        MiStopWrongIoUnmap", HOST, "misuse"),
    Mutation("the short way believes any size", "mm/iospace.c",
             "NumberOfBytes - 1 >= PAGE_SIZE - BYTE_OFFSET(Base) || MiIsVerifying()) {",
             "NumberOfBytes == 0 || Base == 0 || MiIsVerifying()) {", HOST, "misuse",
             is_wide=True),
    Mutation("the short way unmaps an MDL that changed", "mm/mdlmap.c",
             "MiMdlPageCount(Mdl) == 1 && MmGetMdlPfnArray(Mdl)[0] == Mapping->Locked.FirstPfn;",
             "MiMdlPageCount(Mdl) == 1;", HOST, "misuse"),

    # NVMe control.
    Mutation("the log page of an event is not read", "drivers/nvme/event.c",
             "NvmeLogPageBytes(LogPage) / sizeof(ULONG))};",
             "NvmeLogPageBytes(LogPage) / sizeof(ULONG)) | NVME_LOG_RETAIN_EVENT};",
             "f07-smart-warning",
             is_wide=True),
    Mutation("a namespace is not looked at after its format", "drivers/nvme/ioctl.c",
             "const NTSTATUS ScanStatus = NvmeScanNamespaces(Controller);",
             "const NTSTATUS ScanStatus = STATUS_SUCCESS;", "f15-format",
             is_wide=True),
    Mutation("commands that nobody knows are passed on", "drivers/nvme/protocol.c",
             "return Opcode >= FirstVendor ? &NvmeVendorCommand : NULL;",
             "return FirstVendor != 0 ? &NvmeVendorCommand : NULL;", "nvme-control-plain"),
    Mutation("a passed command may move more than its buffer has", "drivers/nvme/protocol.c",
             "if (Moved != MAXULONG64 && Moved != Passed->ByteCount) {",
             "if (Moved != MAXULONG64 && Moved < Passed->ByteCount) {", "nvme-control-plain",
             is_wide=True),
    Mutation("the last of many ranges are not trimmed", "drivers/nvme/ioctl.c",
             "    return NT_SUCCESS(Status) ? NvmeSendTrim(Trim) : Status;",
             "    return Status;", "nvme-control-plain",
             is_wide=True),
    Mutation("persistent memory is written in the wrong place", "drivers/nvme/pmr.c",
             "RtlCopyMemory(Pmr->Va + Offset, Buffer, ByteCount);",
             "RtlCopyMemory(Pmr->Va + (Offset ^ 8), Buffer, ByteCount);", "nvme-control-memory",
             is_wide=True),
    Mutation("the controller does not know the addresses of its memory", "drivers/nvme/cmb.c",
             "Controller->CmbAddress | NVME_CMBMSC_ENABLE | NVME_CMBMSC_CAPABILITIES",
             "Controller->CmbAddress | NVME_CMBMSC_CAPABILITIES", "nvme-control-memory",
             is_wide=True),

    # NVMe recovery.
    Mutation("a completion is believed whatever its generation", "drivers/nvme/queue.c",
             "        Tracker->Command.CommandId != CommandId) {",
             "        Tracker->Command.CommandId == MAXUSHORT) {", HOST, "nvme"),
    Mutation("what was under way at a reset is forgotten", "drivers/nvme/queue.c",
             "        NvmeGiveToController(Queue, Tracker);\n    }\n", "    }\n", HOST, "nvme",
             is_wide=True),
    Mutation("a command that is late is tried again for ever", "drivers/nvme/recover.c",
             "            Tracker->EndStatus = STATUS_IO_TIMEOUT;\n", "            ;\n", HOST, "nvme",
             is_wide=True),
    Mutation("a controller that does not stop is left on the bus", "drivers/nvme/controller.c",
             "    Command &= (USHORT)~PCI_ENABLE_BUS_MASTER;\n", "", HOST, "nvme",
             is_wide=True),
    Mutation("nobody is told of a controller that is gone", "drivers/nvme/recover.c",
             "    IoInvalidateDeviceState(Controller->Pdo);\n",
             "    if (Controller->Pdo == NULL) {\n"
             "        IoInvalidateDeviceState(Controller->Pdo);\n    }\n", HOST, "nvme"),
    Mutation("a function that was reset does not know its addresses", "kernel/io/pcireset.c",
             "    IopRestoreBars(Function);\n", "", "f12-function-reset"),

    # The network.
    Mutation("a VLAN tag is not told of", "drivers/e1000/receive.c",
             "Frame->VlanTag = E1000_RECEIVE_TAG(Result);", "Frame->VlanTag = 0;",
             "q35-max-e1000-verifier", "stripped"),
    Mutation("a card that hangs is left alone", "drivers/e1000/recover.c",
             "Watch->StuckTicks >= E1000_STUCK_TICKS", "Watch->StuckTicks == MAXULONG",
             "q35-max-e1000-verifier", "taken",
             is_wide=True),
    Mutation("fragments that overlap are put together", "drivers/inet/fragment.c",
             "    if (PreviousEnd > New->First || ReachesNext ||",
             "    if ((PreviousEnd > New->First && ReachesNext && PreviousEnd == 0) ||",
             HOST, "inet",
             is_wide=True),
    Mutation("a wrong sum of an IPv4 header is believed", "drivers/inet/ipv4.c",
             "    if (InetChecksum(Header, HeaderBytes) != 0) {",
             "    if (InetChecksum(Header, HeaderBytes) != 0 && HeaderBytes == 0) {", HOST, "inet",
             is_wide=True),
)


class BadMutation(Exception):
    """The row itself is wrong."""


class MutantTree:
    """A copy of the tree that is damaged, built and repaired again, one mutation at a time. `built`:
    a build folder of the original, of which it makes use instead of compiling everything anew."""

    def __init__(self, folder, built=None):
        self.folder = Path(folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in TREE:
            source, copy = ROOT / name, self.folder / name
            if source.is_dir():
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", BUILD))
            else:
                self.folder.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, copy)

        self.build = self.folder / BUILD
        self.kernel = self.build / "iospace"
        if built:
            self.take_over(Path(built))
        self.trusted = set()  # the suites that were seen to pass on the undamaged tree

    def take_over(self, built):
        """The files keep their times, so make compiles what is not up to date, and no more."""
        for name in BUILT_FOLDERS:
            shutil.copytree(built / name, self.build / name)
        for path in built.iterdir():
            if path.name in BUILT_FILES:
                shutil.copy2(path, self.build / path.name)
        for path in (self.build / "obj").rglob("*.d"):
            times = path.stat().st_mtime_ns
            path.write_text(OBJECT_PATH.sub(f"{self.build}/obj/", path.read_text()))
            os.utime(path, ns=(times, times))

    def compile(self, suite):
        """(succeeded, what make said)"""
        if suite == HOST:
            return run_make(self.folder / "tests" / "host", self.build, str(self.build / "host-asan"))
        return run_make(self.folder, self.build, "all")

    def run_host_tests(self, text):
        """Those whose name contains the text, with few random operations. True: they pass."""
        return run_make(self.folder / "tests" / "host", self.build, "quick", f"FILTER={text}")[0]

    def damaged(self, mutation):
        return Damage(self.folder / mutation.file, mutation)


class Damage:
    """The time during which one file is damaged."""

    def __init__(self, path, mutation):
        self.path = path
        self.mutation = mutation

    def __enter__(self):
        self.text = self.path.read_text() if self.path.exists() else ""
        count = self.text.count(self.mutation.old)
        if count != 1:
            raise BadMutation(f"its text occurs {count} times in {self.mutation.file}")
        self.path.write_text(self.text.replace(self.mutation.old, self.mutation.new))

    def __exit__(self, *_):
        self.path.write_text(self.text)


def run_make(folder, build, *goals):
    environment = {name: value for name, value in os.environ.items() if name not in MAKE_VARIABLES}
    try:
        done = subprocess.run(["make", "-C", str(folder), f"BUILD={build}", *goals],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", env=environment, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False, f"make {' '.join(goals)} did not end within {SECONDS} s"
    return done.returncode == 0, done.stdout


def build_and_run(tree, mutation, suite_fails):
    """Whether the suite failed. A tree that does not compile proves nothing."""
    built, output = tree.compile(mutation.suite)
    if not built:
        lines = " | ".join(output.splitlines()[-OUTPUT_LINES_SHOWN:])
        raise BadMutation(f"does not compile: {lines}")
    return suite_fails(tree, mutation)


def try_mutation(tree, mutation, suite_fails):
    """None when the suite noticed; else what is wrong. suite_fails(tree, mutation) runs it."""
    suite = (mutation.suite, mutation.filter)
    try:
        if suite not in tree.trusted and build_and_run(tree, mutation, suite_fails):
            return f"{mutation.suite} fails without any damage, so it proves nothing"
        tree.trusted.add(suite)
        with tree.damaged(mutation):
            noticed = build_and_run(tree, mutation, suite_fails)
            return None if noticed else f"{mutation.suite} did not notice"
    except BadMutation as error:
        return str(error)
