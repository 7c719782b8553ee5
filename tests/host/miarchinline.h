// What an architecture defines inline for mm is a function of the fake one: it watches every load.
#pragma once

MMPTE MiArchLoadPte(const MMPTE *Pte);
MI_PTE_KIND MiArchPteKind(MMPTE Pte, ULONG Level);
PFN_NUMBER MiArchPtePfn(MMPTE Pte, ULONG Level);
