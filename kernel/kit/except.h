// KmTry and KmCatch, exceptions for compilers without __try: the same header for both sides.
#pragma once

#include <wdm.h>

#include "../ddk/except.h"
