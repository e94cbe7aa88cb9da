/* Records the file operations of one process below one directory, and kills
 * the process at one of them.
 *
 * Loaded with LD_PRELOAD; sleeps until crash_arm() is called. It takes the
 * place of the functions of libc that CPython calls for files, and knows
 * nothing of the program. A failed call is neither counted nor recorded: it
 * changed nothing. Of a forked child nothing is: it has another pid.
 *
 * A record is a line "op number result fd offset flags sizes..." with the
 * sizes of two paths and of the data, and then those bytes and a newline.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define MAX_FD 4096
#define LOG_FD 3500

enum { NEVER, BEFORE, AFTER, TORN };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t owner;           /* 0: not armed */
static char root[PATH_MAX];
static size_t root_size;
static long count, kill_at, torn_bytes;
static int kill_when;
static char watched[MAX_FD];

static void die(const char *why) {
  fprintf(stderr, "recorder: %s: %s\n", why, strerror(errno));
  abort();
}

static void kill_myself(void) {
  syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

static int armed(void) { return owner && owner == getpid(); }

static int is_below(const char *path) {
  return strncmp(path, root, root_size) == 0 &&
         (path[root_size] == '/' || path[root_size] == 0);
}

/* Write an absolute path into out; 0 if it is not below the directory. */
static int resolve(int dirfd, const char *path, char *out) {
  char base[PATH_MAX];
  if (path == NULL) return 0;
  if (path[0] == '/') {
    snprintf(out, PATH_MAX, "%s", path);
    return is_below(out);
  }
  if (dirfd == AT_FDCWD) {
    if (!getcwd(base, sizeof base)) return 0;
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
    ssize_t size = readlink(link, base, sizeof base - 1);
    if (size < 0) return 0;
    base[size] = 0;
  }
  if ((size_t)snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX)
    return 0;
  return is_below(out);
}

static void append(const struct iovec *parts, int number) {
  size_t size = 0;
  for (int i = 0; i < number; i++) size += parts[i].iov_len;
  ssize_t done = syscall(SYS_writev, LOG_FD, parts, number);
  if (done < 0 || (size_t)done != size) die("cannot write the record");
}

static void record(const char *op, long result, int fd, long offset,
                   int flags, const char *path, const char *other,
                   const void *data, size_t size) {
  char head[256];
  path = path ? path : "";
  other = other ? other : "";
  int length = snprintf(head, sizeof head, "%s %ld %ld %d %ld %d %zu %zu %zu\n",
                        op, count, result, fd, offset, flags, strlen(path),
                        strlen(other), size);
  struct iovec parts[] = {{head, (size_t)length},
                          {(void *)path, strlen(path)},
                          {(void *)other, strlen(other)},
                          {(void *)data, size},
                          {(void *)"\n", 1}};
  append(parts, 5);
}

/* A watched call begins: from here to leave() no other one runs. */
static void enter(void) {
  pthread_mutex_lock(&lock);
  if (count + 1 == kill_at && kill_when == BEFORE) kill_myself();
}

static void leave(void) {
  if (count == kill_at && kill_when == AFTER) kill_myself();
  pthread_mutex_unlock(&lock);
}

EXPORT void crash_arm(const char *directory, const char *log, long at,
                      int when, long bytes) {
  int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND,
                   0666);
  if (fd < 0 || dup3(fd, LOG_FD, O_CLOEXEC) < 0) die("cannot open the log");
  syscall(SYS_close, fd);
  snprintf(root, sizeof root, "%s", directory);
  root_size = strlen(root);
  count = 0;
  kill_at = at;
  kill_when = when;
  torn_bytes = bytes;
  owner = getpid();
}

/* Put a line of the program's log between the operations. */
EXPORT void crash_mark(const char *text) {
  if (!armed()) return;
  pthread_mutex_lock(&lock);
  record("mark", 0, -1, 0, 0, text, NULL, NULL, 0);
  pthread_mutex_unlock(&lock);
}

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (!found) die(name);
  return found;
}

/* -- files ---------------------------------------------------------------- */

static int opened(int dirfd, const char *path, int flags, mode_t mode) {
  char full[PATH_MAX];
  if (!armed() || !resolve(dirfd, path, full))
    return syscall(SYS_openat, dirfd, path, flags, mode);
  enter();
  int fd = syscall(SYS_openat, dirfd, path, flags, mode);
  int error = errno;
  if (fd >= MAX_FD) die("too many open files");
  if (fd >= 0) {
    watched[fd] = 1;
    count++;
    record("open", fd, fd, 0, flags, full, NULL, NULL, 0);
  }
  leave();
  errno = error;
  return fd;
}

#define MODE                                   \
  mode_t mode = 0;                             \
  if (flags & (O_CREAT | __O_TMPFILE)) {       \
    va_list list;                              \
    va_start(list, flags);                     \
    mode = va_arg(list, int);                  \
    va_end(list);                              \
  }

EXPORT int open(const char *path, int flags, ...) {
  MODE return opened(AT_FDCWD, path, flags, mode);
}
EXPORT int open64(const char *path, int flags, ...) {
  MODE return opened(AT_FDCWD, path, flags, mode);
}
EXPORT int openat(int dirfd, const char *path, int flags, ...) {
  MODE return opened(dirfd, path, flags, mode);
}
EXPORT int openat64(int dirfd, const char *path, int flags, ...) {
  MODE return opened(dirfd, path, flags, mode);
}
EXPORT int __open_2(const char *path, int flags) {
  return opened(AT_FDCWD, path, flags, 0);
}
EXPORT int __open64_2(const char *path, int flags) {
  return opened(AT_FDCWD, path, flags, 0);
}
EXPORT int creat(const char *path, mode_t mode) {
  return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

static int is_watched(int fd) {
  return fd >= 0 && fd < MAX_FD && armed() && watched[fd];
}

/* Before a write: how much of it is done if the process dies in it. */
static size_t allowed(size_t size) {
  if (count + 1 != kill_at || kill_when != TORN) return size;
  return size ? (size_t)torn_bytes % size : 0;
}

static void written(int fd, const void *data, ssize_t done, off_t offset) {
  if (done >= 0) {
    count++;
    /* where it went: the end of it is where the file stands now */
    if (offset < 0) offset = lseek(fd, 0, SEEK_CUR) - done;
    record("write", done, fd, offset, 0, NULL, NULL, data, done);
  }
  if (count == kill_at && kill_when == TORN) kill_myself();
}

EXPORT ssize_t write(int fd, const void *data, size_t size) {
  if (!is_watched(fd)) return syscall(SYS_write, fd, data, size);
  enter();
  ssize_t done = syscall(SYS_write, fd, data, allowed(size));
  int error = errno;
  written(fd, data, done, -1);
  leave();
  errno = error;
  return done;
}

static ssize_t write_at(int fd, const void *data, size_t size, off_t offset) {
  if (!is_watched(fd)) return REAL(pwrite64)(fd, data, size, offset);
  enter();
  ssize_t done = REAL(pwrite64)(fd, data, allowed(size), offset);
  int error = errno;
  written(fd, data, done, offset);
  leave();
  errno = error;
  return done;
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
  return write_at(fd, data, size, offset);
}
EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) {
  return write_at(fd, data, size, offset);
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int number) {
  if (!is_watched(fd)) return syscall(SYS_writev, fd, parts, number);
  ssize_t sum = 0;
  for (int i = 0; i < number; i++) {
    ssize_t done = write(fd, parts[i].iov_base, parts[i].iov_len);
    if (done < 0) return sum ? sum : done;
    sum += done;
    if ((size_t)done < parts[i].iov_len) break;
  }
  return sum;
}

/* A call on a watched descriptor that returns 0 when it succeeded. */
#define ON_FD(name, label, value, ...)                      \
  if (!is_watched(fd)) return REAL(name)(__VA_ARGS__);      \
  enter();                                                  \
  int result = REAL(name)(__VA_ARGS__);                     \
  int error = errno;                                        \
  if (result == 0) {                                        \
    count++;                                                \
    record(label, 0, fd, value, 0, NULL, NULL, NULL, 0);    \
  }

#define DONE      \
  leave();        \
  errno = error;  \
  return result;

EXPORT int fsync(int fd) { ON_FD(fsync, "fsync", 0, fd) DONE }
EXPORT int fdatasync(int fd) { ON_FD(fdatasync, "fsync", 0, fd) DONE }
EXPORT int ftruncate(int fd, off_t size) {
  ON_FD(ftruncate, "ftruncate", size, fd, size) DONE
}
EXPORT int ftruncate64(int fd, off64_t size) {
  ON_FD(ftruncate64, "ftruncate", size, fd, size) DONE
}
EXPORT int close(int fd) {
  if (!is_watched(fd)) return REAL(close)(fd);
  enter();
  /* before: another thread may get the number at once, for a socket */
  watched[fd] = 0;
  int result = REAL(close)(fd);
  int error = errno;
  count++;
  record("close", 0, fd, 0, 0, NULL, NULL, NULL, 0);
  DONE
}

/* -- names ---------------------------------------------------------------- */

/* A call on one path; the record has a second text with it. */
#define ON_PATH(name, label, dirfd, text, value, ...)                  \
  char full[PATH_MAX];                                                 \
  if (!armed() || !resolve(dirfd, path, full))                         \
    return REAL(name)(__VA_ARGS__);                                    \
  enter();                                                             \
  int result = REAL(name)(__VA_ARGS__);                                \
  int error = errno;                                                   \
  if (result == 0) {                                                   \
    count++;                                                           \
    record(label, 0, -1, value, 0, full, text, NULL, 0);               \
  }                                                                    \
  DONE

EXPORT int unlink(const char *path) {
  ON_PATH(unlink, "unlink", AT_FDCWD, NULL, 0, path)
}
EXPORT int unlinkat(int dirfd, const char *path, int flags) {
  ON_PATH(unlinkat, flags & AT_REMOVEDIR ? "rmdir" : "unlink", dirfd, NULL, 0,
          dirfd, path, flags)
}
EXPORT int mkdir(const char *path, mode_t mode) {
  ON_PATH(mkdir, "mkdir", AT_FDCWD, NULL, 0, path, mode)
}
EXPORT int mkdirat(int dirfd, const char *path, mode_t mode) {
  ON_PATH(mkdirat, "mkdir", dirfd, NULL, 0, dirfd, path, mode)
}
EXPORT int rmdir(const char *path) {
  ON_PATH(rmdir, "rmdir", AT_FDCWD, NULL, 0, path)
}
EXPORT int symlink(const char *target, const char *path) {
  ON_PATH(symlink, "symlink", AT_FDCWD, target, 0, target, path)
}
EXPORT int symlinkat(const char *target, int dirfd, const char *path) {
  ON_PATH(symlinkat, "symlink", dirfd, target, 0, target, dirfd, path)
}
EXPORT int truncate(const char *path, off_t size) {
  ON_PATH(truncate, "truncate", AT_FDCWD, NULL, size, path, size)
}
EXPORT int truncate64(const char *path, off64_t size) {
  ON_PATH(truncate64, "truncate", AT_FDCWD, NULL, size, path, size)
}

/* A call on two paths. */
#define ON_PATHS(name, label, fromfd, from, tofd, to, ...)             \
  char first[PATH_MAX], second[PATH_MAX];                              \
  if (!armed()) return REAL(name)(__VA_ARGS__);                        \
  int ours = resolve(fromfd, from, first);                             \
  ours |= resolve(tofd, to, second);                                   \
  if (!ours) return REAL(name)(__VA_ARGS__);                           \
  enter();                                                             \
  int result = REAL(name)(__VA_ARGS__);                                \
  int error = errno;                                                   \
  if (result == 0) {                                                   \
    count++;                                                           \
    record(label, 0, -1, 0, 0, first, second, NULL, 0);                \
  }                                                                    \
  DONE

EXPORT int rename(const char *from, const char *to) {
  ON_PATHS(rename, "rename", AT_FDCWD, from, AT_FDCWD, to, from, to)
}
EXPORT int renameat(int fromfd, const char *from, int tofd, const char *to) {
  ON_PATHS(renameat, "rename", fromfd, from, tofd, to, fromfd, from, tofd, to)
}
EXPORT int link(const char *from, const char *to) {
  ON_PATHS(link, "link", AT_FDCWD, from, AT_FDCWD, to, from, to)
}
EXPORT int linkat(int fromfd, const char *from, int tofd, const char *to,
                  int flags) {
  ON_PATHS(linkat, "link", fromfd, from, tofd, to, fromfd, from, tofd, to,
           flags)
}
