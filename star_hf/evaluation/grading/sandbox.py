"""Runs one program and its tests, each restricted in a process of its own: `python -I sandbox.py`.

Nothing imports it: `star_hf.evaluation.grading.code_execution` starts it in an empty working directory. It reads a job
from standard input and forks. The child gives up its rights, runs the program, and then answers calls of its function.
The parent, the checker, reads the tests and a nonce only now, gives up its rights too, and calls the function from the
tests over pipes. After the last test it writes the nonce to standard output. So the program never has the tests, what
they expect, or the nonce in its memory, and only plain values come from it, no object that equals anything.
"""

import ast
import builtins
import ctypes
import importlib
import io
import json
import os
import pickle
import resource
import signal
import struct
import sys
from contextlib import suppress


HOLDS = {"namespaces": False, "landlock": 0, "seccomp": False}
"""What the kernel holds back in this process."""

SYSCALLS = (444, 445, 446)
"""landlock_create_ruleset, landlock_add_rule, landlock_restrict_self: the same numbers on every architecture."""

READ = 1 << 2 | 1 << 3
"""Read a file, list a folder."""

RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Number of file rights in each version of Landlock; 16 from version 5 on."""

READABLE = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom")
READABLE += (sys.prefix, sys.base_prefix, *(path for path in sys.path if path.endswith("-packages")))

FORBIDDEN = ("ctypes.", "os.exec", "os.fork", "os.kill", "os.posix_spawn", "os.spawn", "os.system", "pty.", "socket.")
FORBIDDEN += ("subprocess.", "shutil.", "os.chmod", "os.chown", "os.setxattr", "sys.addaudithook")
MAX_WRITTEN = 100
"""How often files may be opened for writing; each can grow to 1 MB."""

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
MOVES = ("os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate", "os.utime")


def limit(memory: int, cpu_s: int, tasks: int) -> None:
    """Limit memory (bytes), CPU time (seconds), the user's threads on the machine, and everything else."""
    for name, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 1 << 20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, tasks),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        with suppress(ValueError):  # below what the system allows anyway
            resource.setrlimit(name, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))


def own_folder(folder: str) -> None:
    """Put a file system of memory over the working directory, which ends with the process; only in namespaces."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = 2 | 4 | 8  # no set-user-id bits, no devices, no executable files
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, b"size=128m,nr_inodes=2k") == 0:
        os.chdir(folder)


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
    HOLDS["landlock"] = version if done else 0
    return done


class _Argument(ctypes.Structure):
    """`struct scmp_arg_cmp`: the number of an argument, an operator, and its operands."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


UNEQUAL, EQUAL, MASKED, REFUSE, ALLOW = 1, 4, 7, 0x00050000, 0x7FFF0000


def seccomp(rules: list[tuple], library: object) -> bool:
    """Have the kernel refuse system calls, by libseccomp ([page](https://github.com/seccomp/libseccomp)).

    A rule is a name, an error number, and, if it is about an argument, `(number, operator, a, b)`. Returns whether
    the kernel and the library can do so.
    """
    if library is None:
        return False
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ALLOW)))
    for name, error, *arguments in rules:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number != -1:  # which no architecture has
            given = (_Argument * max(1, len(arguments)))(*(_Argument(*argument) for argument in arguments))
            action = ctypes.c_uint32(REFUSE | error)
            library.seccomp_rule_add_array(context, action, number, ctypes.c_uint(len(arguments)), given)
    done = library.seccomp_load(context) == 0
    library.seccomp_release(context)
    return done


def _rules(denied: list[str]) -> list[tuple]:
    """No call of `denied`, threads but no processes, limits only to be read, signals only to itself."""
    return [
        *((name, 1) for name in denied),
        ("clone", 1, (0, MASKED, 0x00010000, 0)),
        ("clone3", 38),  # "not there": the C library takes clone
        ("prlimit64", 1, (2, UNEQUAL, 0, 0)),
        ("tgkill", 1, (0, UNEQUAL, os.getpid(), 0)),
        ("ioctl", 1, (1, EQUAL, 0x5412, 0)),
    ]


def confine(job: dict, folder: str, program: str = "") -> None:
    """Give up rights. What the program imports is loaded before no more memory can become executable."""
    library = None
    with suppress(OSError):
        library = ctypes.CDLL("libseccomp.so.2")
    limit(job["memory"], job["cpu_s"], job["tasks"])
    landlock(folder)
    HOLDS["seccomp"] = seccomp(_rules(job["denied"]), library)
    preload(program)
    if HOLDS["seccomp"]:
        executable = [("mmap", 1, (2, MASKED, 4, 4)), ("mprotect", 1, (2, MASKED, 4, 4))]
        HOLDS["seccomp"] = seccomp(executable, library)


def preload(program: str) -> None:
    """Import the installed modules that a program names, with those of their parts that it names."""
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        nodes = list(ast.walk(ast.parse(program)))
        named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        parts = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        roots = {name.partition(".")[0] for name in named} - set(sys.stdlib_module_names)
        for name in [*sorted(named), *sorted(f"{root}.{part}" for root in roots for part in parts)]:
            with suppress(BaseException):  # the program meets the same error
                importlib.import_module(name)


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


class _Plain(pickle.Unpickler):
    """Reads numbers, texts and containers only."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"{module}.{name} is no plain value")


def plain(value: object, depth: int = 0) -> object:
    """A value of Python's own types; those of subclasses and of numpy's scalars become these, others are refused."""
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if depth > 100:
        raise TypeError("the value is nested too deeply")
    if callable(item := getattr(value, "item", None)) and getattr(value, "shape", None) == ():
        return plain(item(), depth + 1)
    for kind in (bool, int, float, str, bytes):
        if isinstance(value, kind):
            return kind(value)
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return kind(plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return {plain(key, depth + 1): plain(item, depth + 1) for key, item in value.items()}
    raise TypeError(f"{type(value).__name__} is no plain value")


def send(pipe: io.BufferedWriter, message: object) -> None:
    pickle.dump(message, pipe)
    pipe.flush()


def serve(job: dict, folder: str, calls: io.BufferedIOBase, replies: io.BufferedIOBase) -> None:
    """Run the program, then call its function with what comes, and send back what it returns or raises."""
    confine(job, folder, job["program"])
    code = compile(job["program"], "program.py", "exec")
    name = job["entry_point"]
    job.clear()
    forbid(folder)
    sys.argv[:] = ["program.py"]
    names = {"__name__": "program"}
    exec(code, names)
    send(replies, ("ready",))
    while name:
        try:
            arguments, named = _Plain(calls).load()
        except EOFError:
            return
        try:
            reply = ("returned", plain(names[name](*arguments, **named)))
        except Exception as error:
            reply = ("raised", type(error).__name__, str(error)[:500])
        send(replies, reply)


def check(job: dict, folder: str, calls: io.BufferedIOBase, replies: io.BufferedIOBase) -> None:
    """Run the tests with a function that asks the program."""

    def candidate(*arguments: object, **named: object) -> object:
        send(calls, (plain(arguments), plain(named)))
        kind, *content = _Plain(replies).load()
        if kind == "raised":
            known = getattr(builtins, content[0], None)
            known = known if isinstance(known, type) and issubclass(known, Exception) else None
            raise (known or type(content[0], (Exception,), {"__module__": "builtins"}))(content[1])
        return content[0]

    if _Plain(replies).load() != ("ready",):
        raise ValueError("the program did not get ready")
    if name := job["entry_point"]:
        names = {"__name__": "tests"}
        exec(compile(job["given"], "given.py", "exec"), names)
        names[name] = candidate
        exec(compile(job["tests"], "tests.py", "exec"), names)
        names["check"](candidate)


def main() -> None:
    """Fork the program, then read the tests and the nonce, check, and prove that the last test passed."""
    folder = os.path.realpath(os.getcwd())
    given = open(0, "rb", buffering=0)  # what comes after the first line is not read before the fork
    job = json.loads(given.readline())
    HOLDS["namespaces"] = job["namespaces"]
    if job["namespaces"]:
        own_folder(folder)
    for name in job["late"]:
        with suppress(ImportError):
            importlib.import_module(name)
    calls, replies = os.pipe(), os.pipe()
    program = os.fork()
    if program == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for handle, other in ((0, null), (1, null), (calls[1], null), (replies[0], null)):
            os.dup2(other, handle)
        serve(job, folder, open(calls[0], "rb"), open(replies[1], "wb"))
        return
    os.close(calls[0])
    os.close(replies[1])
    job.update(json.loads(given.readall()))
    given.close()
    confine(job, folder, f"{job['given']}\n{job['tests']}")
    try:
        check(job, folder, open(calls[1], "wb"), open(replies[0], "rb"))
        os.write(1, json.dumps({"holds": HOLDS, "nonce": job["nonce"]}).encode())
    except EOFError:
        _, status, used = os.wait4(program, 0)
        if os.WTERMSIG(status) == signal.SIGXCPU or used.ru_utime + used.ru_stime >= 0.9 * job["cpu_s"]:
            os.write(1, b"timeout")
        os._exit(1)


if __name__ == "__main__":
    main()
