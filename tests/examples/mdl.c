// Turns a buffer of nonpaged pool into the list of physical pieces that a bus master reads. Pages
// that adjoin become one piece. Returns the number of pieces; 0 when there is no memory, or they
// are more than MaximumCount.
#include "examples.h"

static BOOLEAN Adjoins(const EXAMPLE_FRAGMENT *Fragment, LONGLONG Address)
{
    return Fragment->Address.QuadPart + Fragment->ByteCount == Address;
}

ULONG ExampleDescribe(PVOID Buffer, ULONG ByteCount, PEXAMPLE_FRAGMENT Fragments,
                      ULONG MaximumCount)
{
    const PMDL Mdl = IoAllocateMdl(Buffer, ByteCount, FALSE, FALSE, NULL);
    if (Mdl == NULL) {
        return 0;
    }
    MmBuildMdlForNonPagedPool(Mdl); // the buffer can't move, so nothing needs to be locked

    const PPFN_NUMBER Frames = MmGetMdlPfnArray(Mdl);
    ULONG Offset = MmGetMdlByteOffset(Mdl);
    ULONG BytesLeft = MmGetMdlByteCount(Mdl);
    ULONG Count = 0;
    for (ULONG Page = 0; BytesLeft > 0; Page += 1) {
        const ULONG PageBytes = BytesLeft < PAGE_SIZE - Offset ? BytesLeft : PAGE_SIZE - Offset;
        const LONGLONG Address = (LONGLONG)(Frames[Page] << PAGE_SHIFT) + Offset;
        if (Count > 0 && Adjoins(&Fragments[Count - 1], Address)) {
            Fragments[Count - 1].ByteCount += PageBytes;
        } else if (Count < MaximumCount) {
            Fragments[Count].Address.QuadPart = Address;
            Fragments[Count].ByteCount = PageBytes;
            Count += 1;
        } else {
            Count = 0;
            break;
        }
        Offset = 0;
        BytesLeft -= PageBytes;
    }
    IoFreeMdl(Mdl);
    return Count;
}
