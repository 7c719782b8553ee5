// A naive model of what mm promises: lists that are searched from end to end, and an array over all
// frames of RAM. Nothing in it is fast or clever, so that it can be believed.
//
//   frames of RAM   an owner, a cache type, a count of mappings beside the direct map
//   I/O frames      how many hold it, and the cache type that its first mapping gave it
//   mappings        ranges of addresses with, per page, the frame; and how they may be used
#pragma once

#include "tests/host/host.h"

#define MODEL_MAXIMUM_MAPPINGS 192
#define MODEL_FRAMES (0x102000u) // beyond the RAM of the machines that the model runs on
#define MODEL_IO_FRAMES (1ull << 28)

//
// RAM.
//

typedef struct _MODEL_FRAME {
    UCHAR State; // MiPfnMdl, MiPfnDriver; 0: neither
    UCHAR CacheType;
    USHORT MapCount;    // by those who have not locked it
    USHORT OwnMapCount; // by those who have
} MODEL_FRAME;

extern MODEL_FRAME ModelFrames[MODEL_FRAMES];

// The type that a locked frame of RAM has, or now gets.
MI_CACHE_TYPE ModelDecideFrame(PFN_NUMBER Pfn, MI_CACHE_TYPE Requested);
// A frame is an MDL's, of no cache type yet, or a driver's.
VOID ModelOwnFrame(PFN_NUMBER Pfn, MI_PFN_STATE State, MI_CACHE_TYPE CacheType);
VOID ModelDisownFrame(PFN_NUMBER Pfn);

//
// I/O space. A frame has a type from its first mapping on, until nobody holds it any more.
//

VOID ModelInitialize(VOID);

// A mapping holds a range with one type. FALSE, and nothing changed: a frame has another.
BOOLEAN ModelHold(MI_PFN_RANGE Range, MI_CACHE_TYPE CacheType);
VOID ModelRelease(MI_PFN_RANGE Range);

// An MDL, or the mapping of one, holds its frames with whatever type they have.
VOID ModelHoldFrames(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount);
VOID ModelReleaseFrames(const PFN_NUMBER *Pfns, PFN_NUMBER PageCount);

// The type that a held I/O frame has, or now gets.
MI_CACHE_TYPE ModelDecideIoFrame(PFN_NUMBER Pfn, MI_CACHE_TYPE Requested);

// The type that any I/O frame has. MiCacheUndecided: none.
MI_CACHE_TYPE ModelIoCacheType(PFN_NUMBER Pfn);

//
// Addresses.
//

typedef struct _MODEL_MAPPING {
    ULONG_PTR Va;
    PFN_NUMBER PageCount;   // of addresses
    PFN_NUMBER MappedCount; // of them, from the first on
    PFN_NUMBER GuardsBefore;
    const PFN_NUMBER *Pfns; // NULL: adjacent from FirstPfn on
    PFN_NUMBER FirstPfn;
    MI_ACCESS Access;
    BOOLEAN IsOwn; // by who has locked the frames
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

// Whether any frame of an I/O range is mapped.
BOOLEAN ModelIsMapped(MI_PFN_RANGE Range);

// Every page of every mapping, and that there is no other; every frame of RAM.
VOID ModelCheckEverything(VOID);
