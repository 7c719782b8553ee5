// Replays the files of the fuzzer's corpus, each in a process of its own.
#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/host/steps.h"

#define MAXIMUM_BYTES 65536
#define LEAST_FILES 20

static VOID Replay(const CHAR *Path)
{
    static UCHAR Bytes[MAXIMUM_BYTES];
    FILE *File = fopen(Path, "rb");
    CHECK(File != NULL);
    const SIZE_T ByteCount = fread(Bytes, 1, sizeof(Bytes), File);
    fclose(File);
    RunBytes(Bytes, ByteCount);
}

static VOID ReplayInChild(const CHAR *Path)
{
    int Status = 0;
    fflush(stdout);
    const pid_t Child = fork();
    CHECK(Child >= 0);
    if (Child == 0) {
        Replay(Path);
        exit(EXIT_SUCCESS);
    }
    CHECK(waitpid(Child, &Status, 0) == Child);
    if (!WIFEXITED(Status) || WEXITSTATUS(Status) != EXIT_SUCCESS) {
        FAIL("%s ends with status 0x%x", Path, Status);
    }
}

static VOID Every_file_of_the_corpus_agrees_with_the_model(VOID)
{
    const CHAR *Folder = HOST_TESTS "/fuzz/corpus";
    DIR *Directory = opendir(Folder);
    ULONG FileCount = 0;
    CHECK(Directory != NULL);
    for (const struct dirent *Entry = readdir(Directory); Entry != NULL;
         Entry = readdir(Directory)) {
        CHAR Path[4096];
        if (Entry->d_name[0] != '.') {
            snprintf(Path, sizeof(Path), "%s/%s", Folder, Entry->d_name);
            ReplayInChild(Path);
            FileCount += 1;
        }
    }
    closedir(Directory);
    CHECK(FileCount >= LEAST_FILES);
}

static const HOST_TEST Tests[] = {
    HOST_ROW(Every_file_of_the_corpus_agrees_with_the_model, "contract 4-7, all invariants", NULL),
};

HOST_DEFINE_SUITE(corpus);
