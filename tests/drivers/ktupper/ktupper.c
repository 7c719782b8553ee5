// The same filter as ktlower, in the other place.
#include "../ktlower/ktlower.c"
