// The C runtime's text and number routines, for UTF-16 units.

#include "kernel/inc/crt.h"
#include "kernel/inc/rtl.h"

#define UNIT WCHAR
#define NUMBER WCHAR
#define TEXT(Name) CrtWcs##Name

#include "kernel/runtime/crttext.inc"

#include "kernel/runtime/crtnumber.inc"
