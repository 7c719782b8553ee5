// Interrupts for drivers: connecting to lines and messages, and synchronising with their routines.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <keddk.h>
