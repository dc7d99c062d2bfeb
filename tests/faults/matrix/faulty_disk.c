/*
 * A preload library that makes the disk of one queue node slow or broken: the files of shards below one folder. Settings, from
 * the environment:
 *   FAULTY_DISK_NODE     the node's id, as EVENFLOW_NODE_ID has it: in every other process this library does nothing
 *   FAULTY_DISK_DIR      the folder, an absolute path without a slash at its end
 *   FAULTY_DISK_CONTROL  a file of `struct control`, which a test and this library map both
 *
 * The k-th call of a kind fails, once, with the error that the control names; or each sync takes longer. A sync of a descriptor
 * that a sync has failed on before is counted: after that nobody knows what of the file is on the disk.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WRITE = 1, SYNC, READ };
enum { MAX_DESCRIPTORS = 65536 };

/* The layout that faulty_disk.py writes and reads. */
struct control {
	_Atomic int64_t kind;
	_Atomic int64_t calls_until;
	_Atomic int64_t error;
	_Atomic int64_t sync_delay_us;
	_Atomic int64_t failed;
	_Atomic int64_t synced_again;
};

static struct control *control;
static char root[PATH_MAX];
static size_t root_bytes;
/* 1: a shard's file; 2: one on which a sync has failed. */
static _Atomic char watched[MAX_DESCRIPTORS];

__attribute__((constructor)) static void start(void)
{
	const char *node = getenv("FAULTY_DISK_NODE"), *own = getenv("EVENFLOW_NODE_ID");
	const char *folder = getenv("FAULTY_DISK_DIR"), *path = getenv("FAULTY_DISK_CONTROL");
	if (!node || !own || !folder || !path || strcmp(node, own) != 0 || strlen(folder) >= sizeof(root))
		return;
	root_bytes = strlen(folder);
	memcpy(root, folder, root_bytes + 1);
	int descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
	if (descriptor < 0)
		return;
	void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
	syscall(SYS_close, descriptor);
	if (mapped != MAP_FAILED)
		control = mapped;
}

static int ends_with(const char *path, const char *end)
{
	size_t bytes = strlen(path), end_bytes = strlen(end);
	return bytes >= end_bytes && strcmp(path + bytes - end_bytes, end) == 0;
}

static int open_any(int folder, const char *path, int flags, mode_t mode)
{
	int descriptor = (int)syscall(SYS_openat, folder, path, flags, mode);
	if (control != NULL && descriptor >= 0 && descriptor < MAX_DESCRIPTORS)
		watched[descriptor] = strncmp(path, root, root_bytes) == 0 && path[root_bytes] == '/' &&
				      (ends_with(path, ".db") || ends_with(path, ".db-wal"));
	return descriptor;
}

static int state_of(int descriptor)
{
	return control != NULL && descriptor >= 0 && descriptor < MAX_DESCRIPTORS ? watched[descriptor] : 0;
}

/* Whether this call of a shard's file is the one that fails; then errno is set. */
static int fails(int descriptor, int64_t kind)
{
	if (!state_of(descriptor) || control->kind != kind || atomic_fetch_sub(&control->calls_until, 1) != 1)
		return 0;
	control->kind = 0;
	errno = (int)control->error;
	atomic_fetch_add(&control->failed, 1);
	return 1;
}

#define MODE(flags, mode)                      \
	mode_t mode = 0;                       \
	if ((flags) & (O_CREAT | O_TMPFILE)) { \
		va_list rest;                  \
		va_start(rest, flags);         \
		mode = va_arg(rest, mode_t);   \
		va_end(rest);                  \
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

ssize_t write(int descriptor, const void *data, size_t bytes)
{
	return fails(descriptor, WRITE) ? -1 : syscall(SYS_write, descriptor, data, bytes);
}

ssize_t pwrite64(int descriptor, const void *data, size_t bytes, off_t offset)
{
	return fails(descriptor, WRITE) ? -1 : syscall(SYS_pwrite64, descriptor, data, bytes, offset);
}

ssize_t pwrite(int descriptor, const void *data, size_t bytes, off_t offset)
{
	return pwrite64(descriptor, data, bytes, offset);
}

ssize_t pread64(int descriptor, void *data, size_t bytes, off_t offset)
{
	return fails(descriptor, READ) ? -1 : syscall(SYS_pread64, descriptor, data, bytes, offset);
}

ssize_t pread(int descriptor, void *data, size_t bytes, off_t offset)
{
	return pread64(descriptor, data, bytes, offset);
}

static int sync_any(int descriptor, long call)
{
	int state = state_of(descriptor);
	if (state == 2)
		atomic_fetch_add(&control->synced_again, 1);
	if (state && control->sync_delay_us > 0)
		usleep((useconds_t)control->sync_delay_us);
	if (fails(descriptor, SYNC)) {
		watched[descriptor] = 2;
		return -1;
	}
	return (int)syscall(call, descriptor);
}

int fsync(int descriptor)
{
	return sync_any(descriptor, SYS_fsync);
}

int fdatasync(int descriptor)
{
	return sync_any(descriptor, SYS_fdatasync);
}
