"""Model servers that this process starts and that end with it: `vllm serve` behind an endpoint with `serve`."""

import atexit
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from ..errors import ConfigError
from ..utils.options import Strict
from ..utils.secrets import remember
from ..utils.text import counted


__all__ = ["VARIABLE", "Serve", "Server", "find", "running", "stop_all"]

logger = logging.getLogger(__name__)

VARIABLE = "STAR_HF_VLLM"
"""The environment variable that names vLLM: its program, or the folder of the environment that it is installed in."""

LAST_LINES, POLL_S, GRACE_S = 15, 0.2, 10.0
"""Lines of a log that an error shows; seconds between two looks at a server; seconds that a server has to end."""

WATCHER = """
import os, signal, subprocess, sys, threading
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, start_new_session=True)
def end(*ignored):
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, kind)
            child.wait(float(sys.argv[1]))
        except (OSError, subprocess.TimeoutExpired):
            continue
def wait_for_the_parent():
    while os.read(0, 1):
        pass
    end()
threading.Thread(target=wait_for_the_parent, daemon=True).start()
for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(kind, lambda *ignored: end())
code = child.wait()
end()  # what it started and left behind
sys.exit(code)
"""
"""The program between this process and the server. Its standard input ends when this process does, even by `kill -9`;
then it ends the server with all its processes."""


class Serve(Strict):
    """A server to start: `vllm serve MODEL ARGS`, on a free port of this machine, with a key of its own.

    Args:
        model (`str`, *optional*): Weights: an id on the Hub or a folder; the endpoint's `model` by default.
        args (`tuple[str, ...]`): Further arguments, such as `["--max-model-len", "16384"]`.
        vllm (`str`, *optional*): The program, or the folder of the environment that has it; by default that of the
            variable `STAR_HF_VLLM`, else `vllm` of this environment or on the path.
        timeout_s (`float`, defaults to 1800): Seconds to load the model, with its download.
        logs (`str`, defaults to `"logs"`): Folder of the server's log.
    """

    model: str | None = None
    args: tuple[str, ...] = ()
    vllm: str | None = None
    timeout_s: float = 1800
    logs: str = "logs"


@dataclass
class Server:
    """A server that runs: its address, its key, and the watcher that ends it; `None` if another process started it."""

    url: str
    key: str
    watcher: subprocess.Popen[bytes] | None = None

    def answers(self) -> bool:
        """Whether it lists its models."""
        try:
            headers = {"Authorization": f"Bearer {self.key}"}
            return httpx.get(f"{self.url}/models", headers=headers, timeout=5, trust_env=False).is_success
        except httpx.HTTPError:
            return False


_servers: dict[str, Server] = {}
_lock = threading.Lock()


def find(serve: Serve) -> str:
    """The program that serves; a `ConfigError` if there is none."""
    named = serve.vllm or os.environ.get(VARIABLE)
    beside = str(Path(sys.executable).parent)
    if named is None:
        found = shutil.which("vllm", path=beside) or shutil.which("vllm")
    else:
        places = [Path(named).expanduser(), Path(named).expanduser() / "bin" / "vllm"]
        found = next((str(place) for place in places if place.is_file() and os.access(place, os.X_OK)), None)
    if found is None:
        raise ConfigError(
            f"There is no program {named}." if named else "vLLM is not installed here, and no other one is named.",
            "Install vLLM in an environment of its own (its pins exclude ours): python -m venv ~/vllm; "
            f"~/vllm/bin/pip install vllm. Then: export {VARIABLE}=~/vllm, or `serve: {{vllm: ~/vllm}}`.",
        )
    return found


def running(serve: Serve, name: str) -> Server:
    """The server of these options under the model's name; started if none runs, and shared by all who ask.

    A process that this one starts finds the server, too.

    Raises:
        [`ConfigError`]: If there is no vLLM, or the server ends or does not answer in time; with its log.
    """
    what = json.dumps([name, serve.model or name, serve.args, find(serve)])
    label = f"STAR_HF_SERVER_{hashlib.sha256(what.encode()).hexdigest()[:16].upper()}"
    with _lock:
        if (server := _servers.get(label)) is not None and _lives(server):
            return server
        if label in os.environ:
            inherited = Server(*json.loads(os.environ[label]))
            remember(inherited.key)
            if inherited.answers():
                return _servers.setdefault(label, inherited)
        server = _servers[label] = _started(serve, name)
        os.environ[label] = json.dumps([server.url, server.key])
        return server


def _lives(server: Server) -> bool:
    return server.watcher is None or server.watcher.poll() is None


def _started(serve: Serve, name: str) -> Server:
    key, weights = secrets.token_urlsafe(24), serve.model or name
    remember(key)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [find(serve), "serve", weights, *serve.args]
    program += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", name]
    log = Path(serve.logs) / f"vllm-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)[-80:]}.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("wb")
    except OSError as error:
        raise ConfigError(f"{log} cannot be written: {error.strerror}.", "Name another folder by `logs`.") from None
    # The key goes by the environment, where no list of processes shows it. No key of a provider goes along.
    environment = {n: v for n, v in os.environ.items() if n == "HF_TOKEN" or not n.endswith(("_API_KEY", "_TOKEN"))}
    environment["VLLM_API_KEY"] = key
    logger.info("vllm: starting %s, log in %s", weights, log)
    began = time.monotonic()
    with output:
        watcher = subprocess.Popen(
            [sys.executable, "-c", WATCHER, str(GRACE_S), *program],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process, which may still need answers
        )
    server = Server(f"http://127.0.0.1:{port}/v1", key, watcher)
    try:
        while not server.answers():
            late = time.monotonic() - began > serve.timeout_s
            if late or watcher.poll() is not None:
                what = f"did not answer within {serve.timeout_s:.0f} s" if late else "ended"
                raise ConfigError(f"vllm serve {weights} {what}.{_last_lines(log)}", f"See {log}, and `serve.args`.")
            time.sleep(POLL_S)
    except BaseException:
        _stop(server)
        raise
    logger.info("vllm: %s answers after %s", weights, counted(round(time.monotonic() - began), "second"))
    return server


def _last_lines(log: Path) -> str:
    lines = log.read_bytes().decode(errors="replace").splitlines()[-LAST_LINES:]
    return "".join(f"\n  {line[:300]}" for line in lines)


def _stop(server: Server) -> None:
    if server.watcher is not None and server.watcher.stdin is not None:
        server.watcher.stdin.close()
        server.watcher.wait()


@atexit.register
def stop_all() -> None:
    """End all servers that this process has started, and wait until they have ended."""
    with _lock:
        for label, server in list(_servers.items()):
            os.environ.pop(label, None)
            _stop(server)
            del _servers[label]
