// Exceptions as the processor and the compiler see them: the same header for both sides. mingw-w64 has
// most of it for programs only.
#pragma once

#include <wdm.h>

#include "../ddk/sehddk.h"
