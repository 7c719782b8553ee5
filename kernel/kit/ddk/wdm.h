// For sources that name mingw-w64's folder: <ddk/wdm.h> is <wdm.h>.
#pragma once

#include <wdm.h>
