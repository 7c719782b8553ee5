// The reset interface of Windows 10, which mingw-w64 lacks: the same header for both sides.
#pragma once

#include "../ddk/resetddk.h"
