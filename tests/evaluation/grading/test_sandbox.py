"""Attacks on the sandbox. Python's own fence is taken down first, so that the kernel, the watch and the checker hold.

Each program reaches its end only if its attack works. The attacks are harmless where they work: signal 0, small files,
limits that stay. A few run always, all of them in four ways with `--long`: as root and as a user, with and without
namespaces.
"""

import os
import resource
import socket
import sys
import textwrap
import time
from pathlib import Path

import pytest

from star_hf.errors import ConfigError
from star_hf.evaluation.grading import code_execution, confinement
from star_hf.evaluation.grading.code_execution import ProgramResult, SandboxLimits, code_verdicts, run_program
from star_hf.evaluation.grading.confinement import Confinement, require
from star_hf.evaluation.types import Item, Response


pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="model code is only run on Linux"),
    pytest.mark.skipif(
        sys.platform == "linux" and confinement.confinement().level == "weak", reason="the kernel lacks a fence"
    ),
]

LIMITS = SandboxLimits(seconds=3, memory_mb=400)

DOWN = """
import contextlib, ctypes, os, sys, time
folder, fence = os.getcwd(), sys.modules["__main__"]
fence.FORBIDDEN = fence.MOVES = ()
fence.MAX_WRITTEN = 10**9
os.path.realpath = lambda path, **options: folder
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
"""

X86 = os.uname().machine == "x86_64"
NETWORK = {
    "a TCP socket": "import socket; socket.socket()",
    "a UDP datagram": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    "a socket on the host": "import socket; socket.socket(socket.AF_UNIX).connect({socket!r})",
    "an abstract socket": "import socket; socket.socket(socket.AF_UNIX).connect('\\0' + {socket!r})",
    "a pair of sockets": "import socket; socket.socketpair()",
    "a raw socket": "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "netlink": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    "packets": "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)",
    "a virtual machine's host": "import socket; socket.socket(40, socket.SOCK_STREAM)",
    "a server": "import socket; socket.create_server(('127.0.0.1', 0))",
    "a web page": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')",
    "an event loop": "import asyncio; asyncio.new_event_loop()",
    "the call itself": "call(41, 1, 1, 0)",
    "io_uring": "call(425, 8, ctypes.create_string_buffer(256))",
}
PROCESSES = {
    "fork": "os.fork()",
    "a daemon": "os.fork() or os.setsid() or os.fork()",
    "vfork": "call(58)",
    "clone": "call(56, 17, 0, 0, 0, 0)",
    "clone3": "call(435, (ctypes.c_uint64 * 11)(0, 0, 0, 0, 17), 88)",
    "spawn": "os.posix_spawn('/bin/true', ['true'], dict())",
    "a command": "import subprocess; subprocess.run(['true'], check=True)",
    "a shell": "assert os.system('true') == 0",
    "a pipe from a shell": "assert os.popen('echo x').read() == 'x\\n'",
    "another program": "os.execv('/bin/true', ['true'])",
    "a program from memory": "call(322, -1, b'/bin/true', None, None, 0)",
    "multiprocessing": "import multiprocessing; multiprocessing.get_context('fork').Process(target=print).start()",
    "a pool": "import concurrent.futures as f; f.ProcessPoolExecutor(1).submit(print).result()",
    "a terminal": "import pty; pty.fork()",
    "a signal to the checker": "os.kill(os.getppid(), 0)",
    "a signal to the first process": "os.kill(1, 0)",
    "a signal to the evaluator": "os.kill({pid}, 0)",
    "a signal to a group": "os.killpg(os.getpgid({pid}), 0)",
    "a signal to a thread": "call(234, os.getppid(), os.getppid(), 0)",
    "a queued signal": "call(129, os.getppid(), 0, ctypes.create_string_buffer(128))",
    "a handle on a process": "os.pidfd_open(os.getppid())",
    "a session of its own": "os.setsid()",
    "a debugger": "call(101, 16, os.getppid(), 0, 0)",
    "another's memory": "call(310, os.getppid(), ctypes.create_string_buffer(16), 1, None, 0, 0)",
    "another's memory as a file": "open('/proc/%d/mem' % os.getppid(), 'rb')",
    "another's environment": "open('/proc/%d/environ' % {pid}, 'rb').read()",
}
RIGHTS = {
    "its own limits": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))",
    "the checker's limits": "import resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (9, 9))",
    "the evaluator's limits": "import resource; resource.prlimit({pid}, resource.RLIMIT_NOFILE, (99, 99))",
    "priority": "os.setpriority(os.PRIO_PROCESS, 0, 1)",
    "cores": "os.sched_setaffinity(0, os.sched_getaffinity(0))",
    "another user": "os.setuid(os.getuid())",
    "namespaces": "call(272, 0x10000000)",
    "another's namespaces": "call(308, os.open('/proc/self/ns/net', os.O_RDONLY), 0)",
    "a mount": "call(165, b'tmpfs', folder.encode(), b'tmpfs', 0, None)",
    "a new root": "os.chroot('.')",
    "a device": "os.mknod('zero', 0o20666, os.makedev(1, 5))",
    "bpf": "call(321, 0, None, 0)",
    "performance counters": "call(298, None, 0, -1, -1, 0)",
    "keys": "call(250, 0, -3, 0)",
    "user faults": "call(323, 0)",
    "another personality": "call(135, 0x0400000)",
    "shared memory": "call(29, 0, 4096, 0o1600)",
    "a queue": "call(240, b'star', 66, 0o600, None)",
}
MEMORY = {
    "executable memory": "import mmap; mmap.mmap(-1, 4096, prot=7)",
    "memory made executable": """
        buffer = ctypes.create_string_buffer(8192)
        call(10, ctypes.c_void_p((ctypes.addressof(buffer) + 4095) // 4096 * 4096), 4096, 7)
    """,
    "a file in memory": "os.memfd_create('x')",
    "a file in shared memory": "open('/dev/shm/star', 'w')",
    "a compiled module": """
        import _csv, shutil, importlib.machinery as m, importlib.util as u
        with open(_csv.__file__, 'rb') as source, open('own.so', 'wb') as copy:
            copy.write(source.read())
        loader = m.ExtensionFileLoader('_csv', folder + '/own.so')
        u.module_from_spec(u.spec_from_loader('_csv', loader))
    """,
    "a compiled library": """
        import _csv
        with open(_csv.__file__, 'rb') as source, open('own.so', 'wb') as copy:
            copy.write(source.read())
        ctypes.CDLL(folder + '/own.so')
    """,
    "more than there is": "x = bytearray(1 << 33)",
    "step by step": "x = []\nwhile True:\n    x.append(bytearray(1 << 24))",
    "maps": "import mmap; x = [mmap.mmap(-1, 1 << 28) for _ in range(64)]",
    "threads": """
        import threading
        threading.stack_size(1 << 15)
        for _ in range(400):
            threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
        time.sleep(1)
    """,
    "endless work": "while True: pass",
    "endless work that catches the signal": """
        import signal
        signal.signal(signal.SIGXCPU, lambda *_: None)
        while True: pass
    """,
    "endless waiting": "time.sleep(1000)",
    "many megabytes": """
        for number in range(700):
            with open('file', 'wb') as file:
                file.write(bytes(1 << 20))
    """,
    "many files": "files = [open(str(number), 'w') for number in range(1000)]",
    "a large file": "file = open('large', 'wb', 0)\nwhile True:\n    assert file.write(bytes(1 << 20))",
}
FILES = {
    "passwords": "open('/etc/passwd').read()",
    "a secret": "open({secret!r}).read()",
    "a secret by a link": "os.symlink({secret!r}, 'link'); open('link').read()",
    "a secret by a hard link": "os.link({secret!r}, 'link'); open('link').read()",
    "a secret by a path": "open(folder + '/../../../../..' + {secret!r}).read()",
    "a list of files": "os.listdir(os.path.dirname({secret!r}))",
    "a new file": "open({secret!r} + '.new', 'w')",
    "a new folder": "os.mkdir({secret!r} + '.new')",
    "writing over": "open({secret!r}, 'w')",
    "cutting": "os.truncate({secret!r}, 0)",
    "removing": "os.remove({secret!r})",
    "moving": "os.rename({secret!r}, {secret!r} + '.moved')",
    "rights": "os.chmod({secret!r}, 0o777)",
    "an owner": "os.chown({secret!r}, os.getuid(), os.getgid())",
    "times": "os.utime({secret!r})",
    "attributes": "os.setxattr({secret!r}, 'user.x', b'x')",
}
ATTACKS = {
    f"{kind}: {name}": textwrap.dedent(program).strip()
    for kind, group in {
        "network": NETWORK,
        "processes": PROCESSES,
        "rights": RIGHTS,
        "memory": MEMORY,
        "files": FILES,
    }.items()
    for name, program in group.items()
    if X86 or "call(" not in program  # system calls by their numbers there
}
QUICK = ("network: a socket on the host", "network: the call itself", "processes: fork", "processes: clone3")
QUICK += ("processes: a signal to the evaluator", "rights: the evaluator's limits", "memory: a compiled module")
QUICK += ("memory: threads", "files: a secret", "files: rights", "files: a secret by a hard link")
QUICK += ("memory: endless work that catches the signal",)


@pytest.fixture
def host(tmp_path):
    """What an attack could reach: a listening socket, an abstract one, a secret file; all of it is as it was after."""
    secret = tmp_path / "secret"
    secret.write_text("kept")
    os.utime(secret, (1, 1))
    path = f"/tmp/star-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX) as named, socket.socket(socket.AF_UNIX) as abstract:
        for listener, address in ((named, path), (abstract, f"\0{path}")):
            listener.bind(address)
            listener.listen()
            listener.setblocking(False)
        os.chmod(path, 0o777)
        for folder in (tmp_path, *tmp_path.parents[:3]):
            if folder.stat().st_uid == os.getuid() and folder != Path("/tmp"):
                folder.chmod(0o755)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        yield {"secret": str(secret), "socket": path, "pid": os.getpid()}
        for listener in (named, abstract):
            with pytest.raises(BlockingIOError):
                listener.accept()
        os.unlink(path)
    assert [each.name for each in tmp_path.iterdir()] == ["secret"] and secret.read_text() == "kept"
    assert (secret.stat().st_mtime, secret.stat().st_mode & 0o777) == (1, 0o644)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def attacked(name, host):
    return run_program(DOWN + ATTACKS[name].format(**host) if "{" in ATTACKS[name] else DOWN + ATTACKS[name], LIMITS)


def without_namespaces(monkeypatch):
    monkeypatch.setattr(confinement, "_namespaces", tuple)


def as_a_user(function, monkeypatch):
    """What a function returns, a text, in a child process of another user."""
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.chdir("/")
    monkeypatch.setattr(confinement.tempfile, "tempdir", "/tmp")
    confinement._tasks_of_user.cache_clear()
    given, taken = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(taken, function().encode())
        finally:
            os._exit(0)
    os.close(taken)
    with open(given, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def test_pythons_fence_is_down_in_attacks():
    assert run_program(DOWN + "call(39 if os.uname().machine == 'x86_64' else 172)\nopen('a', 'w')").label == "passed"
    assert run_program("import ctypes\nctypes.CDLL(None)").label == "failed"


@pytest.mark.parametrize("name", QUICK)
def test_an_attack_is_held_by_the_kernel(name, host):
    if name in ATTACKS:
        assert attacked(name, host).label != "passed"


@pytest.mark.parametrize("name", QUICK)
def test_an_attack_is_held_without_namespaces(name, host, monkeypatch):
    without_namespaces(monkeypatch)
    if name in ATTACKS:
        assert attacked(name, host).label != "passed"


@pytest.mark.parametrize("command", confinement._COMMANDS, ids=lambda command: " ".join(command[:3]))
def test_each_command_for_namespaces_holds_and_lets_pass(command, host, monkeypatch):
    monkeypatch.setattr(confinement, "_COMMANDS", (command,))
    confinement._namespaces.cache_clear()
    try:
        if not confinement._namespaces():
            pytest.skip("it does not work here")
        assert confinement.confinement.__wrapped__().level == "isolated"
        assert run_program("open('a', 'w').write('x')", LIMITS).label == "passed"
        assert run_program("def f(x): return x * x", LIMITS, entry_point="f", tests=TESTS).label == "passed"
        assert attacked("files: a secret", host).label == "failed"
        assert attacked("network: a socket on the host", host).label == "failed"
    finally:
        confinement._namespaces.cache_clear()


@pytest.mark.long
@pytest.mark.parametrize("user", ["root", "user"])
@pytest.mark.parametrize("namespaces", [True, False])
@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_is_held_in_every_way(name, namespaces, user, host, monkeypatch):
    if (os.getuid() == 0) != (user == "root") and os.getuid() != 0:
        pytest.skip("only root can be both")
    if not namespaces:
        without_namespaces(monkeypatch)
    if user == "root" or os.getuid() != 0:
        label = attacked(name, host).label
    else:
        label = as_a_user(lambda: attacked(name, host).label, monkeypatch)
    assert label in ("failed", "timeout")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be both")
@pytest.mark.parametrize("namespaces", [True, False])
def test_a_right_program_passes_as_a_user(namespaces, monkeypatch):
    if not namespaces:
        without_namespaces(monkeypatch)
    program = "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()\nopen('a', 'w').write('x')"
    assert as_a_user(lambda: run_program(program, LIMITS).label, monkeypatch) == "passed"


# The verdict: `f` should square. Each of these tries to pass without.
TESTS = "def check(candidate):\n    assert candidate(3) == 9\n    assert candidate(4) == 16\n"
CHEATS = {
    "a value that equals anything": "class E:\n    __eq__ = lambda *_: True\ndef f(x): return E()",
    "a number that equals anything": "class E(int):\n    __eq__ = lambda *_: True\ndef f(x): return E(1)",
    "a list that equals anything": "class E(list):\n    __eq__ = lambda *_: True\ndef f(x): return E()",
    "another class": "class E:\n    __class__ = int\n    __eq__ = lambda *_: True\ndef f(x): return E()",
    "a numpy scalar of its own": "class E:\n    shape = ()\n    item = lambda self: self\ndef f(x): return E()",
    "an exit": "import os\ndef f(x): os._exit(0)",
    "an exit of Python": "import sys\ndef f(x): sys.exit(0)",
    "an exit at the start": "import sys\nsys.exit(0)",
    "no function": "x = 1",
    "another check": "import builtins\ncheck = builtins.check = lambda f: None\ndef f(x): return 0",
    "no assertions": "import builtins\nbuiltins.AssertionError = type('E', (), {})\ndef f(x): return 0",
    "the checker's functions": "import sys\nsys.modules['__main__'].check = lambda *a: None\ndef f(x): return 0",
    "ready again": """
        import sys
        def f(x):
            fence, frame = sys.modules['__main__'], sys._getframe(1)
            fence.send(frame.f_locals['replies'], ('ready',))
            return 0
    """,
    "an object that runs": """
        import pickle, sys
        class E:
            def __reduce__(self): return (eval, ("type('E', (), {'__eq__': lambda *_: True})()",))
        def f(x):
            names = sys._getframe(1).f_locals
            for _ in range(2):
                pickle.dump(('returned', E()), names['replies'])
                names['replies'].flush()
                pickle.load(names['calls'])
    """,
    "what was read before the fork": """
        import sys
        def f(x):
            frame = sys._getframe()
            while 'given' not in frame.f_locals:
                frame = frame.f_back
            return x * x if b'candidate(4)' in getattr(frame.f_locals['given'], 'peek', bytes)() else 0
    """,
    "an endless message": """
        import os, sys
        def f(x):
            pipe = sys._getframe(1).f_locals['replies'].fileno()
            while True: os.write(pipe, b'B\\xff\\xff\\xff\\x7f' + bytes(60000))
    """,
    "all that it finds": """
        import contextlib, gc, os, sys
        def f(x):
            words, frame = [], sys._getframe()
            while frame:
                words += [v for v in frame.f_locals.values() if isinstance(v, (bytes, str))]
                frame = frame.f_back
            words += [str(o)[:10000] for o in gc.get_objects() if isinstance(o, dict) and 'nonce' in o]
            for word in words:
                for number in range(64):
                    with contextlib.suppress(OSError):
                        os.write(number, word if isinstance(word, bytes) else word.encode())
            os._exit(0)
    """,
    "every open file": """
        import contextlib, os
        def f(x):
            for number in range(64):
                with contextlib.suppress(OSError):
                    os.write(number, b'{"nonce": "x", "holds": {}}')
            os._exit(0)
    """,
    "the tests": """
        import gc
        def f(x):
            texts = [v for o in gc.get_objects() if isinstance(o, dict) for v in list(o.values())]
            return x * x if any('candidate(4)' in v and 'def f' not in v for v in texts if isinstance(v, str)) else 0
    """,
}


@pytest.mark.parametrize("program", CHEATS.values(), ids=CHEATS)
@pytest.mark.parametrize("namespaces", [True, False])
def test_no_program_passes_without_being_right(program, namespaces, monkeypatch):
    if not namespaces:
        without_namespaces(monkeypatch)
    assert run_program(textwrap.dedent(program), LIMITS, entry_point="f", tests=TESTS).label != "passed"


VALUES = [
    "1",
    "1.5",
    "True",
    "None",
    "'ü'",
    "b'x'",
    "[1, (2, 3)]",
    "{1: {2}}",
    "frozenset({1})",
    "float('inf')",
    "-0.0",
]


@pytest.mark.parametrize("value", VALUES)
def test_plain_values_cross_as_they_are(value):
    tests = f"def check(c):\n    v = c({value})\n    assert v == {value} and type(v) is type({value})\n"
    assert run_program("def f(x): return x", LIMITS, entry_point="f", tests=tests).label == "passed"


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("from collections import Counter\ndef f(x): return Counter(x)", "assert c('aab') == {'a': 2, 'b': 1}"),
        ("from collections import namedtuple\ndef f(x): return namedtuple('P', 'x')(x)", "assert c(1) == (1,)"),
        ("import numpy as np\ndef f(x): return np.float64(x) / 2", "assert c(1) == 0.5"),
        (
            "import numpy as np\ndef f(x): return [np.int64(x)] + list(np.random.rand(1) > 2)",
            "assert c(1) == [1, False]",
        ),
        ("class E(int): pass\ndef f(x): return [E(x)]", "assert c(1) == [1]"),
        ("def f(*, x): return x", "assert c(x=2) == 2"),
        ("n = []\ndef f(x):\n    n.append(x)\n    return len(n)", "c(1)\n    assert c(1) == 2"),
        ("def f(x): raise KeyError(x)", "try:\n        c(1)\n    except KeyError:\n        return\n    assert 0"),
        ("def f(x): return 'é'.encode('gb2312', 'ignore') + chr(955).encode()", "c(1)"),
        ("def f(x):\n    import decimal, datetime, hashlib\n    return str(decimal.Decimal(x))", "assert c(1) == '1'"),
        ("def f(x):\n    import time\n    return time.strptime('2020', '%Y').tm_year", "assert c(1) == 2020"),
    ],
)
def test_a_right_program_passes(program, tests):
    result = run_program(program, SandboxLimits(), entry_point="f", tests=f"def check(c):\n    {tests}\n")
    assert result == ProgramResult("passed")


def test_a_deep_folder_has_a_verdict_and_is_removed(tmp_path, monkeypatch):
    without_namespaces(monkeypatch)
    monkeypatch.setattr(confinement.tempfile, "tempdir", str(tmp_path))
    program = "import os\nfor _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')\n"
    assert run_program(DOWN + program).label == "passed"
    for _ in range(200):
        if not list(tmp_path.iterdir()):
            break
        time.sleep(0.05)
    assert not list(tmp_path.iterdir())


def test_a_slow_removal_does_not_hold_up_the_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(confinement, "CLEANUP_S", 0)
    (tmp_path / "place" / "work").mkdir(parents=True)
    (tmp_path / "place" / "work" / "file").touch()
    confinement._remove(tmp_path / "place")  # returns, and the other program goes on


@pytest.mark.parametrize(
    ("found", "level"),
    [
        (Confinement("unshare", 5, True), "isolated"),
        (Confinement(None, 1, True), "restricted"),
        (Confinement("bwrap", 0, True), "weak"),
        (Confinement("unshare", 5, False), "weak"),
    ],
)
def test_levels(found, level, monkeypatch):
    monkeypatch.setattr(confinement, "confinement", lambda: found)
    assert found.level == level and str(found).startswith(level)
    for number, least in enumerate(confinement.LEVELS):
        if number < confinement.LEVELS.index(level):
            with pytest.raises(ConfigError, match=f"{level} .*, not {least}") as error:
                require(least)
            assert f"--sandbox {level}" in error.value.remedy
        else:
            assert require(least) == found


def test_an_unknown_level_is_refused():
    with pytest.raises(ConfigError, match="isolated, restricted, weak"):
        require("strong")


def test_without_libseccomp_the_level_says_so(tmp_path, monkeypatch):
    lacking = tmp_path / "sandbox.py"
    lacking.write_text(confinement.SANDBOX.read_text().replace("libseccomp.so.2", "no-such-library"))
    monkeypatch.setattr(confinement, "SANDBOX", lacking)
    assert confinement.confinement.__wrapped__().level == "weak"


ITEM = Item("h/0", "ask", target=TESTS, facts={"signature": "def f(x):\n", "entry_point": "f"})


def test_nothing_runs_below_the_level(monkeypatch):
    monkeypatch.setattr(confinement, "confinement", lambda: Confinement(None, 0, False))
    monkeypatch.setattr(code_execution, "run_program", lambda *a, **k: pytest.fail("it ran"))
    with pytest.raises(ConfigError, match="confined less"):
        code_verdicts({"h/0": ITEM}, [Response("h/0", answer="x = 1")], allow_code_execution=True)


def test_a_timeout_is_run_once_more_alone(monkeypatch):
    calls, left = [], ["timeout", "failed", "timeout", "passed", "timeout"]

    def run(program, *a, **k):
        calls.append(program)
        return ProgramResult(left.pop(0))

    monkeypatch.setattr(code_execution, "run_program", run)
    monkeypatch.setattr(code_execution.os, "cpu_count", lambda: 1)
    answers = [Response("h/0", number, f"```python\ndef f(x): return {number}\n```") for number in range(3)]
    verdicts = code_verdicts({"h/0": ITEM}, answers, allow_code_execution=True, progress=False)
    assert [verdict.value for verdict in verdicts] == [1, 0, 0]
    assert [call.strip()[-1] for call in calls] == ["0", "1", "2", "0", "2"]
