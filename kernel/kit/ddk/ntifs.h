// For sources that name mingw-w64's folder: <ddk/ntifs.h> is <ntifs.h>.
#pragma once

#include <ntifs.h>
