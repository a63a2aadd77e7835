/* Loaded into a server before its own libraries: notes how much of each file was synced.
 *
 * For every fsync and fdatasync that succeeds, the length the file had when it began goes to a file in the
 * directory SYNCED_NOTES, named after the inode. What was written later may be lost with the power.
 * SYNCED_SLOWLY=n takes n milliseconds more.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void note(const struct stat *file) {
    char name[4096], length[32];
    const char *directory = getenv("SYNCED_NOTES");
    if (!directory || !S_ISREG(file->st_mode)) return;
    snprintf(name, sizeof name, "%s/%llu", directory, (unsigned long long)file->st_ino);
    int notes = open(name, O_WRONLY | O_CREAT, 0600);
    if (notes < 0) abort();
    int written = snprintf(length, sizeof length, "%020lld", (long long)file->st_size);
    if (pwrite(notes, length, written, 0) != written) abort();
    close(notes);
}

static int synced(const char *call, int fd) {
    struct stat file;
    int known = fstat(fd, &file) == 0;
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, call);
    int result = real(fd);
    const char *slowly = getenv("SYNCED_SLOWLY");
    if (slowly) usleep((useconds_t)atoi(slowly) * 1000);
    if (result == 0 && known) note(&file);
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
