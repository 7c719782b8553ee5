// Rtl for drivers: strings, memory, versions.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <keddk.h>
