// Requests to shared memory: this kernel's own, the same header for both sides.
#pragma once

#include "../ddk/ntddivshmem.h"
