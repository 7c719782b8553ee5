// For sources that name mingw-w64's folder: <ddk/ntddk.h> is <ntddk.h>.
#pragma once

#include <ntddk.h>
