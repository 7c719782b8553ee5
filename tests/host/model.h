// A naive model of what mm promises: lists that are searched from end to end, and an array over all frames of RAM.
// Nothing in it is fast or clever, so that it can be believed.
//
//   frames of RAM   an owner, a cache type, a count of mappings beside the direct map
//   holds           ranges of I/O frames with a cache type or none yet, and how many hold exactly this range
//   mappings        ranges of addresses with, per page, the frame; and how they may be used
#pragma once

#include "tests/host/host.h"

#define MODEL_MAXIMUM_MAPPINGS 192
#define MODEL_MAXIMUM_HOLDS 512
#define MODEL_FRAMES (0x102000u) // beyond the RAM of the machines that the model runs on

//
// RAM.
//

typedef struct _MODEL_FRAME {
    UCHAR IsOwned; // by an MDL of MmAllocatePagesForMdl
    UCHAR CacheType;
    USHORT MapCount;
} MODEL_FRAME;

extern MODEL_FRAME ModelFrames[MODEL_FRAMES];

// The type that a locked frame of RAM has, or now gets.
MI_CACHE_TYPE ModelDecideFrame(PFN_NUMBER Pfn, MI_CACHE_TYPE Requested);
VOID ModelOwnFrame(PFN_NUMBER Pfn);
VOID ModelDisownFrame(PFN_NUMBER Pfn);

//
// I/O space.
//

// Holds a range with a type. FALSE, and nothing changed: a frame has another type.
BOOLEAN ModelHold(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType);
VOID ModelRelease(MI_PFN_RANGE Range);

// The runs of adjacent frames of an MDL, each held without a type.
VOID ModelHoldRuns(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount);
VOID ModelReleaseRuns(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount);

// Gives each held run the type that its frames have, else Requested. FALSE, and nothing changed: a run has two.
BOOLEAN ModelDecideRuns(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount, MI_CACHE_TYPE Requested);

// The type that an I/O frame has, or undecided.
MI_CACHE_TYPE ModelIoType(PFN_NUMBER Pfn);
BOOLEAN ModelIsDecided(MI_PFN_RANGE Range);
ULONG64 ModelHoldCount(VOID);

//
// Addresses.
//

typedef struct _MODEL_MAPPING {
    ULONG_PTR Va;
    PFN_NUMBER PageCount;  // of addresses
    PFN_NUMBER MappedCount; // of them, from the first on
    PFN_NUMBER GuardsBefore;
    const PFN_NUMBER *Pfns; // NULL: adjacent from FirstPfn on
    PFN_NUMBER FirstPfn;
    MI_ACCESS Access;
} MODEL_MAPPING;

extern MODEL_MAPPING *ModelMappings[MODEL_MAXIMUM_MAPPINGS];
extern ULONG ModelMappingCount;

// Adds a mapping whose addresses, guards included, must be nobody else's.
VOID ModelAddMapping(MODEL_MAPPING *Mapping);
VOID ModelRemoveMapping(const MODEL_MAPPING *Mapping);

PFN_NUMBER ModelFrameOf(const MODEL_MAPPING *Mapping, PFN_NUMBER Page);

// What the tables say of one page must be what the model says.
VOID ModelCheckPage(const MODEL_MAPPING *Mapping, PFN_NUMBER Page);
VOID ModelCheckUnmapped(ULONG_PTR Va);

// Every page of every mapping, and that there is no other; every frame of RAM.
VOID ModelCheckEverything(VOID);
