// The C runtime's text and number routines, for bytes.

#include "kernel/inc/crt.h"
#include "kernel/inc/rtl.h"

#define UNIT CHAR
#define NUMBER UCHAR
#define TEXT(Name) CrtStr##Name

#include "kernel/runtime/crttext.inc"

#include "kernel/runtime/crtnumber.inc"
