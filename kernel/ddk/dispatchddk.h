// Ke and Ps for drivers: dispatcher objects, waits, threads, timers, DPCs.
#pragma once

#include <ntdef.h>
#include <ntstatus.h>

#include <keddk.h>
