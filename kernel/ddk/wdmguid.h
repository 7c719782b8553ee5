// The GUIDs of interfaces. One source file of a program defines INITGUID before it includes this
// header.

#include <ntdef.h>

DEFINE_GUID(GUID_BUS_INTERFACE_STANDARD, 0x496B8280, 0x6F25, 0x11D0, 0xBE, 0xAF, 0x08, 0x00, 0x2B,
            0xE2, 0x09, 0x2F);
