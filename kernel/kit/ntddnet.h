// Requests to network cards: this kernel's own, the same header for both sides.
#pragma once

#include "../ddk/ntddnet.h"
