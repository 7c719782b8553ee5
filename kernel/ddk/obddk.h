// Ob for drivers: references, handles, names.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <keddk.h>
