/* Preloaded into a program: writes down, in order, what it does to the files below $RECORDED_FOLDER.

   $RECORD_FILE takes an entry a call: a letter, two numbers, the length of what follows, and that. The letters are
   those of tests/power/disk.py. `acknowledge` is for the program itself: what it has promised to somebody by then. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST 4096
static char ours[MOST]; /* which descriptors are of recorded files */

struct entry {
    int64_t kind, a, b, length;
};

static void note(char kind, int64_t a, int64_t b, const void *bytes, size_t length)
{
    static int to = -1;
    struct entry head = {kind, a, b, (int64_t)length};
    if (to < 0)
        to = (int)syscall(SYS_openat, AT_FDCWD, getenv("RECORD_FILE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (syscall(SYS_write, to, &head, sizeof head) != sizeof head || syscall(SYS_write, to, bytes, length) != (long)length)
        abort();
}

static int below(const char *path)
{
    const char *folder = getenv("RECORDED_FOLDER");
    return path && folder && !strncmp(path, folder, strlen(folder));
}

static int is_ours(int fd)
{
    return fd >= 0 && fd < MOST && ours[fd];
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) \
        real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(int, name, const char *, int, ...); \
        va_list more; \
        va_start(more, flags); \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0; \
        va_end(more); \
        int fd = real(path, flags, mode); \
        if (fd >= 0 && fd < MOST) { \
            ours[fd] = below(path); \
            if (ours[fd]) \
                note('o', fd, flags & O_TRUNC ? 1 : 0, path, strlen(path)); \
        } \
        return fd; \
    }
OPEN(open)
OPEN(open64)

int close(int fd)
{
    REAL(int, close, int);
    if (fd >= 0 && fd < MOST)
        ours[fd] = 0;
    return real(fd);
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    REAL(ssize_t, write, int, const void *, size_t);
    ssize_t done = real(fd, bytes, length);
    if (done > 0 && is_ours(fd))
        note('w', fd, lseek(fd, 0, SEEK_CUR) - done, bytes, (size_t)done);
    return done;
}

#define PWRITE(name, offset_t) \
    ssize_t name(int fd, const void *bytes, size_t length, offset_t at) \
    { \
        REAL(ssize_t, name, int, const void *, size_t, offset_t); \
        ssize_t done = real(fd, bytes, length, at); \
        if (done > 0 && is_ours(fd)) \
            note('w', fd, at, bytes, (size_t)done); \
        return done; \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define SYNC(name) \
    int name(int fd) \
    { \
        REAL(int, name, int); \
        int done = real(fd); \
        if (!done && is_ours(fd)) \
            note('s', fd, 0, "", 0); \
        return done; \
    }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name, offset_t) \
    int name(int fd, offset_t length) \
    { \
        REAL(int, name, int, offset_t); \
        int done = real(fd, length); \
        if (!done && is_ours(fd)) \
            note('t', fd, length, "", 0); \
        return done; \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int unlink(const char *path)
{
    REAL(int, unlink, const char *);
    int done = real(path);
    if (!done && below(path))
        note('u', 0, 0, path, strlen(path));
    return done;
}

int rename(const char *from, const char *to)
{
    REAL(int, rename, const char *, const char *);
    int done = real(from, to);
    if (!done && below(to)) {
        note('f', 0, 0, from, strlen(from));
        note('r', 0, 0, to, strlen(to));
    }
    return done;
}

int mkdir(const char *path, mode_t mode)
{
    REAL(int, mkdir, const char *, mode_t);
    int done = real(path, mode);
    if (!done && below(path))
        note('m', 0, 0, path, strlen(path));
    return done;
}

void acknowledge(const char *what)
{
    note('a', 0, 0, what, strlen(what));
}
