// Queues of NVMe controllers: this kernel's own, the same header for both sides.
#pragma once

#include "../ddk/ntddnvme.h"
