// Included before every file of the fuzzer: memory that the fakes ask of the build machine comes
// from fuzz.c, which takes it all back before the next input.
#pragma once

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

void *FuzzMap(void *Address, size_t ByteCount, int Access, int Flags, int File, off_t Offset);
void *FuzzAllocate(size_t Count, size_t ByteCount);
void *FuzzReallocate(void *Block, size_t ByteCount);
int FuzzCreateFile(const char *Name, unsigned Flags);

#ifndef FUZZ_ITSELF
#define mmap FuzzMap
#define calloc FuzzAllocate
#define realloc FuzzReallocate
#define memfd_create FuzzCreateFile
#endif
