/*
 * A preload library that records what a process does to the files below one folder: every write, truncation, sync and change of
 * a name, in the order in which it happened. Settings, from the environment:
 *   POWER_LOSS_DIR            the folder, an absolute path without a slash at its end
 *   POWER_LOSS_LOG            where records are appended; a file outside of that folder
 *   POWER_LOSS_SYNC_DELAY_US  how long each sync takes longer, microseconds: a folder in memory syncs faster than any disk
 *
 * One lock is held over each call and its record, so that the records of all threads have one true order. A record is one append,
 * which the kernel does whole: other processes may append to the same log (recorder.py, `Marks`).
 * A call on a recorded file that this library cannot describe is recorded as UNSUPPORTED, and the replay refuses the recording.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, EXTEND, MARK, UNSUPPORTED };
enum { CREATED = 1, TRUNCATED = 2, DIRECTORY = 4 };
enum { MAX_DESCRIPTORS = 65536 };

/* The layout that recorder.py reads. */
struct header {
	uint32_t bytes;
	uint32_t kind;
	uint64_t inode;
	int64_t offset;
	int64_t value;
	uint32_t name_bytes;
	uint32_t data_bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_bytes;
static int log_descriptor = -1;
static useconds_t sync_delay_us;
/* The inode behind each descriptor of a recorded file; 0: not recorded. */
static uint64_t recorded[MAX_DESCRIPTORS];

#define REAL(result, name, ...)                                      \
	static result (*real)(__VA_ARGS__);                          \
	if (real == NULL)                                            \
		real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static void stop(const char *why)
{
	fprintf(stderr, "power loss recorder: %s\n", why);
	_exit(120);
}

__attribute__((constructor)) static void start(void)
{
	const char *folder = getenv("POWER_LOSS_DIR"), *log = getenv("POWER_LOSS_LOG");
	const char *delay = getenv("POWER_LOSS_SYNC_DELAY_US");
	if (folder == NULL || log == NULL)
		return;
	root_bytes = strlen(folder);
	if (root_bytes >= sizeof(root))
		stop("POWER_LOSS_DIR is too long");
	memcpy(root, folder, root_bytes + 1);
	sync_delay_us = delay == NULL ? 0 : (useconds_t)atoi(delay);
	log_descriptor = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (log_descriptor < 0)
		stop("POWER_LOSS_LOG does not open");
}

/* The name below the folder ("" for the folder itself), or NULL. */
static const char *name_below(const char *path)
{
	if (log_descriptor < 0 || path == NULL || strncmp(path, root, root_bytes) != 0)
		return NULL;
	if (path[root_bytes] == '\0')
		return path + root_bytes;
	return path[root_bytes] == '/' ? path + root_bytes + 1 : NULL;
}

static uint64_t inode_of(int descriptor)
{
	return descriptor >= 0 && descriptor < MAX_DESCRIPTORS ? recorded[descriptor] : 0;
}

/* Append one record. The caller holds the lock; errno stays. */
static void put(uint32_t kind, uint64_t inode, int64_t offset, int64_t value, const void *name, size_t name_bytes,
		const void *data, size_t data_bytes)
{
	int before = errno;
	struct header header = {0, kind, inode, offset, value, (uint32_t)name_bytes, (uint32_t)data_bytes};
	struct iovec parts[3] = {
		{&header, sizeof(header)}, {(void *)(uintptr_t)name, name_bytes}, {(void *)(uintptr_t)data, data_bytes}};
	size_t bytes = sizeof(header) + name_bytes + data_bytes;
	header.bytes = (uint32_t)bytes;
	if (syscall(SYS_writev, log_descriptor, parts, 3) != (long)bytes)
		stop("the log could not be written");
	errno = before;
}

static void put_named(uint32_t kind, uint64_t inode, int64_t value, const char *name)
{
	put(kind, inode, 0, value, name, strlen(name), NULL, 0);
}

static void put_unsupported(const char *call)
{
	pthread_mutex_lock(&lock);
	put_named(UNSUPPORTED, 0, 0, call);
	pthread_mutex_unlock(&lock);
}

/* Ends the process between two records, as SIGKILL would: nothing is flushed, no call is cut in two. */
void power_loss_crash(void)
{
	pthread_mutex_lock(&lock);
	_exit(137);
}

static int open_recorded(const char *name, const char *path, int flags, mode_t mode)
{
	struct stat status;
	pthread_mutex_lock(&lock);
	int existed = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
	int descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
	if (descriptor >= MAX_DESCRIPTORS)
		stop("too many descriptors");
	if (descriptor >= 0 && fstat(descriptor, &status) == 0) {
		int64_t what = existed ? 0 : CREATED;
		if (existed && (flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY)
			what |= TRUNCATED;
		if (S_ISDIR(status.st_mode))
			what |= DIRECTORY;
		recorded[descriptor] = status.st_ino;
		put_named(OPEN, status.st_ino, what, name);
	}
	pthread_mutex_unlock(&lock);
	return descriptor;
}

static int open_any(int folder, const char *path, int flags, mode_t mode)
{
	const char *name = path[0] == '/' ? name_below(path) : NULL;
	if (name != NULL)
		return open_recorded(name, path, flags, mode);
	int descriptor = (int)syscall(SYS_openat, folder, path, flags, mode);
	if (descriptor >= 0 && descriptor < MAX_DESCRIPTORS)
		recorded[descriptor] = 0;
	return descriptor;
}

#define MODE(flags, mode)                                            \
	mode_t mode = 0;                                             \
	if ((flags) & (O_CREAT | O_TMPFILE)) {                       \
		va_list rest;                                        \
		va_start(rest, flags);                               \
		mode = va_arg(rest, mode_t);                         \
		va_end(rest);                                        \
	}

int open(const char *path, int flags, ...)
{
	MODE(flags, mode);
	return open_any(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	MODE(flags, mode);
	return open_any(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
	MODE(flags, mode);
	return open_any(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...)
{
	MODE(flags, mode);
	return open_any(folder, path, flags | O_LARGEFILE, mode);
}

int close(int descriptor)
{
	REAL(int, "close", int);
	if (descriptor >= 0 && descriptor < MAX_DESCRIPTORS)
		recorded[descriptor] = 0;
	return real(descriptor);
}

ssize_t write(int descriptor, const void *data, size_t bytes)
{
	uint64_t inode = inode_of(descriptor);
	if (inode == 0)
		return syscall(SYS_write, descriptor, data, bytes);
	pthread_mutex_lock(&lock);
	ssize_t written = syscall(SYS_write, descriptor, data, bytes);
	if (written > 0)
		put(WRITE, inode, lseek(descriptor, 0, SEEK_CUR) - written, written, NULL, 0, data, (size_t)written);
	pthread_mutex_unlock(&lock);
	return written;
}

static ssize_t write_at(int descriptor, const void *data, size_t bytes, off_t offset)
{
	uint64_t inode = inode_of(descriptor);
	if (inode == 0)
		return syscall(SYS_pwrite64, descriptor, data, bytes, offset);
	pthread_mutex_lock(&lock);
	ssize_t written = syscall(SYS_pwrite64, descriptor, data, bytes, offset);
	if (written > 0)
		put(WRITE, inode, offset, written, NULL, 0, data, (size_t)written);
	pthread_mutex_unlock(&lock);
	return written;
}

ssize_t pwrite(int descriptor, const void *data, size_t bytes, off_t offset)
{
	return write_at(descriptor, data, bytes, offset);
}

ssize_t pwrite64(int descriptor, const void *data, size_t bytes, off_t offset)
{
	return write_at(descriptor, data, bytes, offset);
}

static int truncate_to(int descriptor, off_t bytes)
{
	uint64_t inode = inode_of(descriptor);
	if (inode == 0)
		return (int)syscall(SYS_ftruncate, descriptor, bytes);
	pthread_mutex_lock(&lock);
	int result = (int)syscall(SYS_ftruncate, descriptor, bytes);
	if (result == 0)
		put(TRUNCATE, inode, 0, bytes, NULL, 0, NULL, 0);
	pthread_mutex_unlock(&lock);
	return result;
}

int ftruncate(int descriptor, off_t bytes)
{
	return truncate_to(descriptor, bytes);
}

int ftruncate64(int descriptor, off_t bytes)
{
	return truncate_to(descriptor, bytes);
}

static int sync_recorded(int descriptor, long call)
{
	uint64_t inode = inode_of(descriptor);
	if (inode == 0)
		return (int)syscall(call, descriptor);
	if (sync_delay_us > 0)
		usleep(sync_delay_us);
	pthread_mutex_lock(&lock);
	int result = (int)syscall(call, descriptor);
	if (result == 0)
		put(SYNC, inode, 0, 0, NULL, 0, NULL, 0);
	pthread_mutex_unlock(&lock);
	return result;
}

int fsync(int descriptor)
{
	return sync_recorded(descriptor, SYS_fsync);
}

int fdatasync(int descriptor)
{
	return sync_recorded(descriptor, SYS_fdatasync);
}

/* posix_fallocate answers an error number and leaves errno alone. */
static int extend_to(int descriptor, off_t offset, off_t bytes)
{
	uint64_t inode = inode_of(descriptor);
	int before = errno;
	pthread_mutex_lock(&lock);
	int result = syscall(SYS_fallocate, descriptor, 0, offset, bytes) == 0 ? 0 : errno;
	if (result == 0 && inode != 0)
		put(EXTEND, inode, 0, offset + bytes, NULL, 0, NULL, 0);
	pthread_mutex_unlock(&lock);
	errno = before;
	return result;
}

int posix_fallocate(int descriptor, off_t offset, off_t bytes)
{
	return extend_to(descriptor, offset, bytes);
}

int posix_fallocate64(int descriptor, off_t offset, off_t bytes)
{
	return extend_to(descriptor, offset, bytes);
}

int rename(const char *from, const char *to)
{
	const char *from_name = name_below(from), *to_name = name_below(to);
	if (from_name == NULL && to_name == NULL)
		return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
	if (from_name == NULL || to_name == NULL)
		put_unsupported("rename into or out of the folder");
	pthread_mutex_lock(&lock);
	int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
	if (result == 0)
		put(RENAME, 0, 0, 0, from_name, strlen(from_name) + 1, to_name, strlen(to_name));
	pthread_mutex_unlock(&lock);
	return result;
}

int unlink(const char *path)
{
	const char *name = name_below(path);
	if (name == NULL)
		return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
	pthread_mutex_lock(&lock);
	int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
	if (result == 0)
		put_named(UNLINK, 0, 0, name);
	pthread_mutex_unlock(&lock);
	return result;
}

int mkdir(const char *path, mode_t mode)
{
	const char *name = name_below(path);
	if (name == NULL)
		return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
	pthread_mutex_lock(&lock);
	int result = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
	if (result == 0)
		put_named(MKDIR, 0, 0, name);
	pthread_mutex_unlock(&lock);
	return result;
}

void *mmap(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset)
{
	if (inode_of(descriptor) != 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE))
		put_unsupported("mmap");
	return (void *)syscall(SYS_mmap, address, bytes, protection, flags, descriptor, offset);
}

void *mmap64(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset)
{
	return mmap(address, bytes, protection, flags, descriptor, offset);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
	if (inode_of(descriptor) != 0)
		put_unsupported("writev");
	return syscall(SYS_writev, descriptor, parts, count);
}

ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset)
{
	REAL(ssize_t, "pwritev", int, const struct iovec *, int, off_t);
	if (inode_of(descriptor) != 0)
		put_unsupported("pwritev");
	return real(descriptor, parts, count, offset);
}

int fallocate(int descriptor, int mode, off_t offset, off_t bytes)
{
	if (inode_of(descriptor) != 0)
		put_unsupported("fallocate");
	return (int)syscall(SYS_fallocate, descriptor, mode, offset, bytes);
}

int fallocate64(int descriptor, int mode, off_t offset, off_t bytes)
{
	return fallocate(descriptor, mode, offset, bytes);
}

int truncate(const char *path, off_t bytes)
{
	if (name_below(path) != NULL)
		put_unsupported("truncate");
	return (int)syscall(SYS_truncate, path, bytes);
}

int link(const char *from, const char *to)
{
	if (name_below(from) != NULL || name_below(to) != NULL)
		put_unsupported("link");
	return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int rmdir(const char *path)
{
	if (name_below(path) != NULL)
		put_unsupported("rmdir");
	return (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
}
