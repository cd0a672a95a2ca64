"""The date of a process, which a test sets while it runs: what no test could do to its machine."""

import subprocess
from pathlib import Path

CODE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *by;

static __attribute__((constructor)) void look(void) {
  int fd = open("SET_BY", O_RDONLY | O_CLOEXEC);
  by = mmap(0, sizeof *by, PROT_READ, MAP_SHARED, fd, 0);
  if (by == MAP_FAILED) _exit(98);
  close(fd);
}

int clock_gettime(clockid_t id, struct timespec *at) {
  int failed = (int)syscall(SYS_clock_gettime, id, at);
  if (!failed && by && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += *by;
  return failed;
}

int gettimeofday(struct timeval *at, void *zone) {
  struct timespec found;
  int failed = clock_gettime(CLOCK_REALTIME, &found);
  at->tv_sec = found.tv_sec;
  at->tv_usec = found.tv_nsec / 1000;
  (void)zone;
  return failed;
}

time_t time(time_t *at) {
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  if (at) *at = found.tv_sec;
  return found.tv_sec;
}
"""


class Date:
    """The date of the processes that are started with its `environ`."""

    def __init__(self, folder: Path) -> None:
        self._by, code, library = (folder / f"date.{kind}" for kind in ("by", "c", "so"))
        self.set_by(0)
        code.write_text(CODE.replace("SET_BY", str(self._by)))
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, code], check=True)
        self.environ = {"LD_PRELOAD": str(library)}

    def set_by(self, seconds: int) -> None:
        """Let it be off by so many seconds."""
        with self._by.open("r+b" if self._by.exists() else "wb", buffering=0) as file:
            file.write(seconds.to_bytes(8, "little", signed=True))
