// <ntifs.h> of mingw-w64, and what it lacks: see wdm.h. (It includes <ntddk.h>, which is ours.)
#pragma once

#include_next <ntifs.h>
