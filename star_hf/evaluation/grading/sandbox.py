"""Runs one program, restricted, in a process of its own: `python -I sandbox.py PROGRAM MEMORY CPU NONCE RESULT`.

Nothing imports it: `star_hf.evaluation.grading.code_execution` starts it in an empty working directory. It reads the
nonce from one pipe, gives up its rights, runs PROGRAM, and after the last line writes the nonce to the other pipe. A
program that ends early, in whatever way, never gets there.
"""

import ctypes
import os
import resource
import struct
import sys


SYSCALLS = (444, 445, 446)
"""landlock_create_ruleset, landlock_add_rule, landlock_restrict_self: the same numbers on every architecture."""

READ = 1 << 2 | 1 << 3
"""Read a file, list a folder."""

RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Number of file rights in each version of Landlock; 16 from version 5 on."""

READABLE = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom")
READABLE += (sys.prefix, sys.base_prefix)

FORBIDDEN = ("ctypes.", "os.exec", "os.fork", "os.kill", "os.posix_spawn", "os.spawn", "os.system", "pty.", "socket.")
FORBIDDEN += ("subprocess.", "shutil.", "os.chmod", "os.chown", "os.setxattr", "sys.addaudithook")
MAX_WRITTEN = 100
"""How often files may be opened for writing; each can grow to 1 MB."""

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
MOVES = ("os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate")
MOVES += ("os.utime",)


def limit(memory: int, cpu_s: int) -> None:
    """Limit memory (bytes), CPU time (seconds), and everything else."""
    for name, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, 1 << 20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 16),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(name, (value, value))


def landlock(folder: str) -> bool:
    """Have the kernel allow reading where Python is, writing in `folder` only, no TCP and no signals to others.

    Returns whether the kernel can do so ([page](https://docs.kernel.org/userspace-api/landlock.html)).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    create, add, restrict = SYSCALLS
    version = libc.syscall(create, None, 0, 1)
    if version < 1:
        return False
    rights = (1 << RIGHTS.get(version, 16)) - 1
    fields = (rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    attributes = struct.pack("QQQ", *fields)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = libc.syscall(create, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    for path in {*READABLE, folder}:
        if os.path.exists(path):
            handle = os.open(path, os.O_PATH)
            allowed = rights & ~1 if path == folder else READ if os.path.isdir(path) else 1 << 2
            libc.syscall(add, ruleset, 1, struct.pack("=Qi", allowed, handle), 0)
            os.close(handle)
    done = libc.prctl(38, 1, 0, 0, 0) == 0 and libc.syscall(restrict, ruleset, 0) == 0
    os.close(ruleset)
    return done


def forbid(folder: str) -> None:
    """Refuse inside Python what no graded program needs: a second fence, and the only one without Landlock."""
    readable = [*map(os.path.realpath, READABLE), folder]
    written = 0

    def inside(path: object, *roots: str) -> bool:
        if isinstance(path, int):
            return True
        real = os.path.realpath(os.fsdecode(path))
        return any(real == root or real.startswith(root + os.sep) for root in roots)

    def hook(event: str, arguments: tuple) -> None:
        nonlocal written
        if event.startswith(FORBIDDEN):
            raise PermissionError(f"{event} is not allowed here")
        if event == "open" and not inside(arguments[0], *readable):
            raise PermissionError("files are only read where Python is")
        if event == "open" and arguments[2] & WRITES:
            if not inside(arguments[0], folder, os.devnull):
                raise PermissionError("files are only written in the working directory")
            written += 1
            if written > MAX_WRITTEN:
                raise PermissionError(f"files are opened for writing {MAX_WRITTEN} times at most")
        if event in MOVES and not all(inside(path, folder) for path in arguments if isinstance(path, str | bytes)):
            raise PermissionError(f"{event} is only allowed in the working directory")

    sys.addaudithook(hook)


def main() -> None:
    """Give up rights, run the program, and prove that its end was reached."""
    program, memory, cpu_s, pipe, result = sys.argv[1:]
    nonce = os.read(int(pipe), 64)
    os.close(int(pipe))
    folder = os.path.realpath(os.getcwd())
    with open(program, encoding="utf-8") as file:
        source = file.read()
    limit(int(memory), int(cpu_s))
    landlock(folder)
    code = compile(source, "program.py", "exec")
    forbid(folder)
    sys.argv[:] = ["program.py"]
    exec(code, {"__name__": "program"})
    os.write(int(result), nonce)


if __name__ == "__main__":
    main()
