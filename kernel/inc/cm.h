// Cm: the registry, as the rest of the kernel sees it. Drivers have <cmddk.h>.
#pragma once

#include <wdm.h>

// Makes the first keys. After ObInitSystem and the dispatcher. What fails is told of.
VOID CmInitSystem(VOID);

// The key of a driver that is being loaded, with its subkey Parameters; ServiceKeyName is the registry
// path that DriverEntry gets. It may be there already.
NTSTATUS CmCreateServiceKey(_In_ PCUNICODE_STRING ServiceKeyName);
