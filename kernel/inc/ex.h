// Ex, as the rest of the kernel sees it. Drivers have <exddk.h> and <exlockddk.h>.
#pragma once

#include <wdm.h>

// Makes the callback objects that drivers expect. After ObInitSystem. What fails is told of.
VOID ExInitSystem(VOID);
