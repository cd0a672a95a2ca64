"""The disk of a server as a power cut leaves it: what was not synced is lost, whole or in parts.

A library that is loaded into the server records what it does to its files, in order. A disk may
have written any of what was not synced when the power fails, whatever came first, and of a write
any of its sectors.
"""

import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""
HEAD = struct.Struct("<BBQQ")
"""What begins each entry of a record: what was done, to which file, where, and how many bytes."""
WRITE, TRUNCATE, REMOVE, SYNC, SYNC_FOLDER = range(5)
SUFFIXES = ("", "-wal", "-journal")
"""The files of a database; the `-shm` is made anew after a crash."""
CODE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static const char database[] = "DATABASE", record[] = "RECORD";
static const char *const suffixes[] = {"", "-wal", "-journal"};

static int number_of(const char *path) {
  size_t length = strlen(database);
  if (strncmp(path, database, length) == 0)
    for (int i = 0; i < 3; i++)
      if (strcmp(path + length, suffixes[i]) == 0) return i;
  return -1;
}

static int number_of_open(int fd) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return -1;
  path[length] = 0;
  return number_of(path);
}

static void note(uint8_t what, int file, uint64_t where, const void *data, uint64_t length) {
  static int out = -1;
  if (out < 0) out = open(record, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  struct __attribute__((packed)) { uint8_t what, file; uint64_t where, length; } head =
      {what, (uint8_t)file, where, length};
  struct iovec parts[] = {{&head, sizeof head}, {(void *)data, data ? length : 0}};
  if (writev(out, parts, 2) < 0) _exit(99);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t where) {
  int file = number_of_open(fd);
  if (file >= 0) note(0, file, (uint64_t)where, data, length);
  return syscall(SYS_pwrite64, fd, data, length, where);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t where) {
  return pwrite64(fd, data, length, where);
}

int ftruncate64(int fd, off64_t length) {
  int file = number_of_open(fd);
  if (file >= 0) note(1, file, (uint64_t)length, 0, 0);
  return (int)syscall(SYS_ftruncate, fd, length);
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int unlink(const char *path) {
  int file = number_of(path);
  if (file >= 0) note(2, file, 0, 0, 0);
  return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

static int sync_file(long call, int fd) {
  int done = (int)syscall(call, fd), file = number_of_open(fd);
  struct stat found;
  if (done == 0 && file >= 0) note(3, file, 0, 0, 0);
  if (done == 0 && fstat(fd, &found) == 0 && S_ISDIR(found.st_mode)) note(4, 0, 0, 0, 0);
  return done;
}

int fsync(int fd) { return sync_file(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_file(SYS_fdatasync, fd); }
"""


def recorder(database: Path, record: Path) -> Path:
    """A library that records to a file what a process does to a database."""
    code, library = record.with_suffix(".c"), record.with_suffix(".so")
    code.write_text(CODE.replace("DATABASE", str(database)).replace("RECORD", str(record)))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, code], check=True)
    return library


@dataclass(frozen=True)
class Entry:
    """One thing that was done to a file; `end` is the size of the record after it."""

    what: int
    file: int
    where: int
    data: bytes
    end: int


def read(record: Path) -> list[Entry]:
    """What was recorded, but for an entry that the end of the process has cut."""
    found, entries, place = record.read_bytes(), list[Entry](), 0
    while place + HEAD.size <= len(found):
        what, file, where, length = HEAD.unpack_from(found, place)
        begin = place + HEAD.size
        place = begin + (length if what == WRITE else 0)
        if place <= len(found):
            entries.append(Entry(what, file, where, found[begin:place], place))
    return entries


Kept = Callable[[Entry], list[tuple[int, int]]]
"""Which parts of what was done have reached the disk: where each begins and ends in its data."""


def whole(entry: Entry) -> list[tuple[int, int]]:
    return [(0, len(entry.data))]


def spoiled(chance: random.Random) -> Kept:
    """A disk that has written some of it, of a write any sectors."""
    share = chance.choice((0, 0.2, 0.5, 0.8, 1))

    def kept(entry: Entry) -> list[tuple[int, int]]:
        if entry.what != WRITE or chance.random() < 0.5:
            return whole(entry) if chance.random() < share else []
        first = entry.where % SECTOR
        begins = [0, *range(SECTOR - first, len(entry.data), SECTOR)]
        sectors = zip(begins, [*begins[1:], len(entry.data)], strict=True)
        return [sector for sector in sectors if chance.random() < share]

    return kept


@dataclass
class File:
    """A file on a disk: what is safe there, and what was done to it since."""

    safe: bytes | None = None
    waiting: list[Entry] = field(default_factory=list)

    def sync(self) -> None:
        self.safe, self.waiting = self.after(whole), []

    def sync_folder(self) -> None:
        """That it was removed is safe now."""
        removed = [place for place, entry in enumerate(self.waiting) if entry.what == REMOVE]
        if removed:
            self.safe, self.waiting = None, self.waiting[removed[-1] + 1 :]

    def after(self, kept: Kept) -> bytes | None:
        """What is in the file once the disk has written what is kept; None where it is not."""
        content = None if self.safe is None else bytearray(self.safe)
        for entry in self.waiting:
            parts = kept(entry)
            if entry.what == REMOVE:
                if not parts:
                    break  # What came after it was done to another file.
                content = None
                continue
            content = bytearray() if content is None else content
            if entry.what == TRUNCATE and parts:
                del content[entry.where :]
                content.extend(bytes(entry.where - len(content)))
            for begin, end in parts if entry.what == WRITE else ():
                content.extend(bytes(max(0, entry.where + begin - len(content))))
                content[entry.where + begin : entry.where + end] = entry.data[begin:end]
        return None if content is None else bytes(content)


class Disk:
    """The files of a database, as far as they are safe."""

    def __init__(self, *, lies: bool = False) -> None:
        """One that `lies` says that it has synced, and has not."""
        self._files = [File() for _ in SUFFIXES]
        self._lies = lies

    def apply(self, entry: Entry) -> None:
        if entry.what in (WRITE, TRUNCATE, REMOVE):
            self._files[entry.file].waiting.append(entry)
        elif self._lies:
            pass
        elif entry.what == SYNC:
            self._files[entry.file].sync()
        else:
            for file in self._files:
                file.sync_folder()

    def fail(self, database: Path, chance: random.Random) -> None:
        """Write what a power cut now would leave of the files."""
        kept = spoiled(chance)
        for suffix, file in zip(SUFFIXES, self._files, strict=True):
            if (content := file.after(kept)) is not None:
                Path(f"{database}{suffix}").write_bytes(content)


def cuts(entries: list[Entry], count: int, disk: Disk, chance: random.Random) -> Iterator[Entry]:
    """Yield the last entry before each of some power cuts, with the disk as it is then."""
    chosen = set(chance.sample(range(len(entries)), min(count, len(entries))))
    for place, entry in enumerate(entries):
        disk.apply(entry)
        if place in chosen:
            yield entry
