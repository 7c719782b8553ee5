// DMA for drivers: adapter objects and their operations.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <keddk.h>
