"""Runs `sandbox.py` on a job, confined, watched and cleaned up after; and finds out which confinement holds here.

Each program has its own empty folder and a clean environment. Three fences of the kernel are used, each if it is
there: seccomp (by libseccomp) refuses network, other processes, and memory that can be executed; Landlock refuses
other files; namespaces (by `unshare`, or else bubblewrap) hide network, processes and the folder. The parent watches
memory, threads and time of all that a program starts.
"""

import json
import math
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from ...errors import ConfigError


__all__ = ["LEVELS", "Confinement", "Ended", "Level", "SandboxLimits", "confinement", "require", "run_job"]

SANDBOX = Path(__file__).with_name("sandbox.py")

Level = Literal["isolated", "restricted", "weak"]
LEVELS = ("isolated", "restricted", "weak")
"""From the strongest: all three fences; seccomp and Landlock; less."""

PATIENCE = 30
"""However busy the machine, a program is stopped after this many times its CPU time."""

INTERVAL_S = 0.05

MOST_TASKS = 64
"""Threads and processes of a program and its checker, at most."""

MOST_WRITTEN = 512 << 20
"""Bytes that a program may write, to whatever."""

CLEANUP_S = 2

DENIED = """
    socket socketpair socketcall connect bind listen accept accept4 sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg
    execve execveat fork vfork kill tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal pidfd_getfd
    ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp setrlimit setpriority
    sched_setscheduler sched_setparam sched_setattr sched_setaffinity ioprio_set setsid setpgid setns unshare mount
    umount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr memfd_create
    memfd_secret userfaultfd bpf perf_event_open io_uring_setup io_uring_enter io_uring_register keyctl add_key
    request_key init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff syslog
    sethostname setdomainname settimeofday clock_settime clock_settime64 adjtimex clock_adjtime stime quotactl
    quotactl_fd acct iopl ioperm modify_ldt name_to_handle_at open_by_handle_at mknod mknodat personality vhangup
    fanotify_init fanotify_mark inotify_init inotify_init1 mq_open mq_unlink msgget semget shmget shmat chmod fchmod
    fchmodat fchmodat2 chown fchown lchown fchownat lchown32 chown32 fchown32 setxattr lsetxattr fsetxattr setxattrat
    removexattr lremovexattr fremovexattr removexattrat utime utimes utimensat futimesat setuid setgid setreuid
    setregid setresuid setresgid setgroups setfsuid setfsgid capset remap_file_pages pkey_mprotect statmount listmount
""".split()
"""System calls that no graded program needs: network, other processes, more rights, other files, the machine."""

LATE = """
    _bisect _codecs_cn _codecs_hk _codecs_iso2022 _codecs_jp _codecs_kr _codecs_tw _contextvars _datetime _decimal
    _heapq _json _multibytecodec _opcode _pickle _queue _random _statistics _struct array binascii cmath math select
    unicodedata zlib _strptime
""".split()
"""Compiled modules that Python's library imports on first use."""


@dataclass(frozen=True)
class SandboxLimits:
    """What a program may use: seconds of CPU time, and megabytes of memory."""

    seconds: float = 10.0
    memory_mb: int = 1024


@dataclass(frozen=True)
class Confinement:
    """What holds code back on this machine: the command that makes namespaces, Landlock's version, seccomp."""

    namespaces: str | None
    landlock: int
    seccomp: bool

    @property
    def level(self) -> Level:
        """The level of `LEVELS` that this is."""
        if not (self.landlock and self.seccomp):
            return "weak"
        return "isolated" if self.namespaces else "restricted"

    def __str__(self) -> str:
        fences = {
            "seccomp": self.seccomp,
            f"Landlock {self.landlock}": self.landlock,
            f"namespaces by {self.namespaces}": self.namespaces,
        }
        return (
            f"{self.level} ({', '.join(name for name, holds in fences.items() if holds) or 'nothing of the kernel'})"
        )


@dataclass(frozen=True)
class Ended:
    """How a job ended: whether its last line was reached, or why it was stopped, its last line of errors, and what
    held it back."""

    reached_end: bool
    stopped: str | None
    detail: str
    holds: dict | None = None


@cache
def confinement() -> Confinement:
    """What holds on this machine, found out by running an empty program."""
    holds = run_job(SANDBOX, {"program": ""}, {"given": "", "tests": ""}, SandboxLimits()).holds or {}
    prefix = _namespaces()
    return Confinement(Path(prefix[0]).name if prefix else None, holds.get("landlock", 0), holds.get("seccomp", False))


def require(least: Level) -> Confinement:
    """The confinement that holds. Raises [`ConfigError`] if it is weaker than `least`."""
    if least not in LEVELS:
        raise ConfigError(f"There is no level of confinement {least!r}.", f"Use {', '.join(LEVELS)}.")
    if sys.platform != "linux":
        raise ConfigError(
            f"Model code cannot be confined on {sys.platform}, so it is not run.", "Use Linux, or a container."
        )
    found = confinement()
    if LEVELS.index(found.level) > LEVELS.index(least):
        raise ConfigError(
            f"Model code would be confined less than asked for: {found}, not {least}.",
            "Seccomp needs libseccomp (on Debian and Ubuntu the package libseccomp2), Landlock needs Linux 5.13, and "
            "namespaces need `unshare` or bubblewrap to be allowed. In a container or virtual machine that holds "
            f"nothing of value, allow it with --sandbox {found.level} (or STAR_HF_SANDBOX={found.level}).",
        )
    return found


def run_job(sandbox: Path, job: dict, tests: dict, limits: SandboxLimits) -> Ended:
    """Run a job in a process of its own; see `sandbox.py`.

    Args:
        sandbox (`Path`): The script.
        job (`dict`): `program`, and `entry_point` if its function is called. The program's process reads this.
        tests (`dict`): `given` and `tests`. Only the checker's process reads this.
        limits (`SandboxLimits`): What the program may use.
    """
    nonce = secrets.token_hex(32)
    prefix = _namespaces()
    place = Path(tempfile.mkdtemp(prefix="star_hf-"))
    folder = place / "work"
    folder.mkdir()
    job = {"entry_point": None, **job, "memory": limits.memory_mb << 20, "cpu_s": max(1, math.ceil(limits.seconds))}
    job |= {"tasks": _tasks_of_user() + 512, "namespaces": bool(prefix), "denied": DENIED, "late": LATE}
    try:
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as result, tempfile.TemporaryFile() as errors:
            for part in (job, {**tests, "nonce": nonce}):
                given.write(json.dumps(part).encode() + b"\n")
            given.seek(0)
            process = subprocess.Popen(
                [*(part.format(folder=folder) for part in prefix), sys.executable, "-I", str(sandbox)],
                cwd=folder,
                env=_environment(folder),
                stdin=given,
                stdout=result,
                stderr=errors,
                start_new_session=True,
            )
            stopped = _watch(process, limits)
            result.seek(0)
            proof = result.read(10_000)
            if proof == b"timeout":
                stopped = stopped or "timeout"
            said = json.loads(proof) if proof.startswith(b"{") else {}
            detail = _last_line(errors) or f"exited early with code {process.returncode}"
    finally:
        _remove(place)
    reached = not stopped and secrets.compare_digest(str(said.get("nonce")), nonce)
    return Ended(reached, stopped, detail, said.get("holds"))


def _environment(folder: Path) -> dict[str, str]:
    """A clean environment, without our keys, tokens and home."""
    return {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


_COMMANDS = (
    ("unshare", "-r", "-m", "-n", "-i", "-p", "-f", "--kill-child"),
    ("unshare", "-r", "-n"),
    ("bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc")
    + ("--size", str(128 << 20), "--tmpfs", "{folder}", "--chdir", "{folder}"),
)


@cache
def _namespaces() -> tuple[str, ...]:
    """The command that hides the network and, if possible, processes and files; none where no such command works."""
    with tempfile.TemporaryDirectory() as folder:
        for name, *options in _COMMANDS:
            command = (shutil.which(name) or name, *options)
            with suppress(OSError, subprocess.TimeoutExpired):
                tried = [part.format(folder=folder) for part in command]
                if subprocess.run([*tried, "true"], capture_output=True, timeout=10).returncode == 0:
                    return command
    return ()


@cache
def _tasks_of_user() -> int:
    """Number of threads of this user: the kernel counts all of them against a limit of threads."""
    count = 0
    for process in os.scandir("/proc"):
        with suppress(OSError):
            if process.name.isdigit() and process.stat().st_uid == os.getuid():
                count += len(os.listdir(f"{process.path}/task"))
    return count


def _watch(process: subprocess.Popen, limits: SandboxLimits) -> str | None:
    """Wait, and stop what uses too much, with all that it started. Returns why it was stopped.

    Time is CPU time, and time in which all of it waits. A program that the machine has no time for is not charged.
    """
    reason, waited, used = None, 0.0, _Used()
    started = before = time.monotonic()
    while reason is None:
        try:
            process.wait(timeout=INTERVAL_S)
            break
        except subprocess.TimeoutExpired:
            used, now = _used(process.pid), time.monotonic()
        waited, before = waited + (0 if used.busy else now - before), now
        if used.tasks > MOST_TASKS:
            reason = f"more than {MOST_TASKS} threads and processes"
        elif used.memory > limits.memory_mb << 20:
            reason = f"more than {limits.memory_mb} MB of memory"
        elif used.written > MOST_WRITTEN:
            reason = f"more than {MOST_WRITTEN >> 20} MB written"
        elif max(waited, used.cpu_s - limits.seconds, (now - started) / PATIENCE) > limits.seconds + 1:
            reason = "timeout"
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in used.processes - {process.pid} if reason else ():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    return reason


@dataclass
class _Used:
    """What a process and its descendants use: threads and processes, bytes in memory and written, seconds; and
    whether one of them is running."""

    tasks: int = 0
    memory: int = 0
    written: int = 0
    cpu_s: float = 0.0
    busy: bool = False
    processes: set[int] = field(default_factory=set)


def _used(root: int) -> _Used:
    used, todo = _Used(), [root]
    while todo:
        pid = todo.pop()
        used.processes.add(pid)
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used.cpu_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            used.memory += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
            for task in Path(f"/proc/{pid}/task").iterdir():
                used.tasks += 1
                used.busy |= (task / "stat").read_text().rpartition(")")[2].split()[0] in "RD"
                todo += map(int, (task / "children").read_text().split())
        with suppress(OSError):
            used.written += int(re.search(r"wchar: (\d+)", Path(f"/proc/{pid}/io").read_text())[1])
    return used


def _remove(place: Path) -> None:
    """Remove a folder, by another program if there is something in it: however deep, and without waiting for long."""
    with suppress(OSError):
        (place / "work").rmdir()
        place.rmdir()
        return
    with suppress(subprocess.TimeoutExpired):
        subprocess.Popen(["rm", "-rf", "--", str(place)], stderr=subprocess.DEVNULL).wait(timeout=CLEANUP_S)


def _last_line(errors) -> str:
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - 2000))
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""
