// This kernel's own, the same header for both sides.
#pragma once

#include "../ddk/ntddstate.h"
