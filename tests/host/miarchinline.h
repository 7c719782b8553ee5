// What an architecture defines inline for mm is a function of the fake one: it watches every load.
#pragma once

MMPTE MiArchLoadPte(const MMPTE *Pte);
VOID MiArchStorePte(PMMPTE Pte, MMPTE Value);
MMPTE MiArchMakeLeaf(ULONG Level, PFN_NUMBER Pfn, MI_PROTECTION Protection);
MMPTE MiArchPlaceFrame(MMPTE Template, PFN_NUMBER Pfn);
VOID MiArchStoreLeaves(PMMPTE Pte, ULONG Level, PFN_NUMBER FirstPfn, ULONG Count,
                       MI_PROTECTION Protection);
VOID MiArchClearPages(PMMPTE Pte, ULONG Count);
MMPTE MiArchTakePte(PMMPTE Pte);
BOOLEAN MiArchTakePages(PMMPTE Pte, ULONG Count);
BOOLEAN MiArchWasUsed(MMPTE Pte);
VOID MiArchFlushPage(ULONG_PTR Va);
ULONG MiArchProcessor(VOID);
ULONG64 MiArchPin(VOID);
VOID MiArchUnpin(ULONG64 Pin);
MI_PTE_KIND MiArchPteKind(MMPTE Pte, ULONG Level);
PFN_NUMBER MiArchPtePfn(MMPTE Pte, ULONG Level);
