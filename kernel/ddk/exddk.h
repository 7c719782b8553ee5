// Ex, Cm and Po for drivers: interlocked and lookaside lists, resources, the registry, power.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <keddk.h>
