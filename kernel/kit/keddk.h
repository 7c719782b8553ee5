// What kernel/ddk has in a header of its own: here all of it is in <wdm.h>.
#pragma once

#include <wdm.h>
