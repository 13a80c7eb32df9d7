"""Servers that star_hf starts: found, shared, waited for, and ended on every kind of exit."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from star_hf.errors import ConfigError
from star_hf.llm import Endpoint, Journal, Request, serving
from star_hf.llm.asking import provider_of


VLLM = """\
#!{python}
# Plays `vllm serve`: lists its model and echoes, with a child of its own, as vLLM has.
import json, os, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
options = dict(zip(sys.argv[3::1], sys.argv[4::1]))
if "--break" in sys.argv:
    print("CUDA out of memory, says the stand-in", flush=True)
    sys.exit(1)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open({starts!r}, "a") as starts:
    keys = [name for name in os.environ if name.endswith("_API_KEY")]
    note = {{"pids": [os.getpid(), child.pid], "argv": sys.argv[1:], "secrets": keys}}
    starts.write(json.dumps(note) + "\\n")
if "--never" in sys.argv:
    time.sleep(600)
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *ignored): pass
    def send(self, status, data):
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        good = self.headers["Authorization"] == "Bearer " + os.environ["VLLM_API_KEY"]
        name = options["--served-model-name"]
        self.send(200 if good else 401, {{"data": [{{"id": name, "root": sys.argv[2]}}]}})
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        good = self.headers["Authorization"] == "Bearer " + os.environ["VLLM_API_KEY"]
        message = {{"role": "assistant", "content": "served"}}
        usage = {{"prompt_tokens": 1, "completion_tokens": 1}}
        choice = {{"index": 0, "message": message, "finish_reason": "stop"}}
        self.send(200 if good else 401, {{"model": "m", "choices": [choice], "usage": usage}})
ThreadingHTTPServer((options["--host"], int(options["--port"])), Handler).serve_forever()
"""


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    """A program that plays vLLM, in an environment's folder; and what it was started with."""
    program, starts = tmp_path / "env" / "bin" / "vllm", tmp_path / "starts.jsonl"
    program.parent.mkdir(parents=True)
    program.write_text(VLLM.format(python=sys.executable, starts=str(starts)))
    program.chmod(0o755)
    monkeypatch.setenv(serving.VARIABLE, str(tmp_path / "env"))
    monkeypatch.chdir(tmp_path)
    yield lambda: [json.loads(line) for line in starts.read_text().splitlines()] if starts.exists() else []
    serving.stop_all()


def ends(pid, within=10.0):
    """Whether a process is gone, or soon will be."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def ask(endpoint):
    answers = {}
    failures = provider_of(endpoint).complete(
        iter([("k", Request([{"role": "user", "content": "Hi"}]))]), answers.__setitem__
    )
    assert not failures, failures
    return answers["k"].text


def test_one_server_starts_at_the_first_request_and_is_shared(vllm, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-the-server")
    one = Endpoint(provider="vllm", model="org/model", serve={"args": ["--max-model-len", "99"]})
    other = one.model_copy(update={"temperature": 0.5})
    one.check()
    assert one.identity()["at"] == "vllm serve org/model --max-model-len 99" and vllm() == []
    assert ask(one) == ask(other) == "served"
    (start,) = vllm()
    assert start["argv"][:4] == ["serve", "org/model", "--max-model-len", "99"]
    assert start["secrets"] == ["VLLM_API_KEY"]
    key = one.api_key()
    assert key not in " ".join(start["argv"]) and key not in json.dumps(one.identity())
    assert Path("logs/vllm-org-model.log").exists()
    serving.stop_all()
    assert all(ends(pid) for pid in start["pids"])
    assert ask(one) == "served" and len(vllm()) == 2


def test_other_arguments_are_another_server_and_the_name_alone_is_in_keys(vllm):
    one = Endpoint(provider="vllm", model="m", serve=True)
    two = Endpoint(
        provider="vllm", model="m", name="judge", serve={"model": "org/weights", "args": ["--dtype", "half"]}
    )
    assert (one.identity()["at"], two.identity()["at"]) == ("vllm serve m", "judge")
    assert ask(one) == ask(two) == "served"
    assert [start["argv"][1] for start in vllm()] == ["m", "org/weights"]
    assert one.url != two.url


def test_a_server_that_ended_is_started_again(vllm):
    endpoint = Endpoint(provider="vllm", model="m", serve=True)
    assert ask(endpoint) == "served"
    os.kill(vllm()[0]["pids"][0], signal.SIGKILL)
    assert all(ends(pid) for pid in vllm()[0]["pids"])
    until = time.monotonic() + 10
    while serving._lives(next(iter(serving._servers.values()))) and time.monotonic() < until:
        time.sleep(0.02)
    assert ask(endpoint) == "served" and len(vllm()) == 2


def test_a_server_that_fails_is_one_error_with_its_last_words(vllm):
    endpoint = Endpoint(provider="vllm", model="m", serve={"args": ["--break"]})
    with pytest.raises(ConfigError, match="vllm serve m ended.\n  CUDA out of memory, says the stand-in") as error:
        ask(endpoint)
    assert "logs/vllm-m.log" in error.value.remedy


def test_a_server_that_never_answers_is_ended(vllm):
    endpoint = Endpoint(provider="vllm", model="m", serve={"args": ["--never"], "timeout_s": 1.5})
    with pytest.raises(ConfigError, match="did not answer within 2 s"):
        ask(endpoint)
    assert all(ends(pid) for start in vllm() for pid in start["pids"])


def test_without_vllm_the_remedy_says_how_to_get_it(vllm, monkeypatch, tmp_path):
    endpoint = Endpoint(provider="vllm", model="m", serve=True)
    monkeypatch.setenv(serving.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="There is no program .*nowhere") as error:
        endpoint.check()
    assert f"export {serving.VARIABLE}=" in error.value.remedy
    monkeypatch.delenv(serving.VARIABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="not installed here"):
        endpoint.check()
    assert Endpoint(provider="vllm", model="m", serve={"vllm": str(tmp_path / "env")}).check() is None


@pytest.mark.parametrize(
    "options",
    [
        {"provider": "openai"},
        {"base_url": "http://localhost:1/v1"},
        {"api_key_env": "MY_KEY"},
        {"name": "n", "pool": [{"base_url": "http://localhost:1/v1"}]},
        {"serve": {"arguments": []}},
    ],
    ids=range(5),
)
def test_what_does_not_go_with_serve_is_refused(options):
    with pytest.raises(ConfigError, match="serve"):
        Endpoint(**{"provider": "vllm", "model": "m", "serve": True, **options})


PROGRAM = """
import os, sys, time
sys.path[:0] = {paths!r}
from star_hf.llm import Endpoint, serving
endpoint = Endpoint(provider="vllm", model="m", serve=True)
print(endpoint.url, flush=True)
{then}
"""


def started(then, **options):
    code = PROGRAM.format(paths=[str(Path(__file__).resolve().parents[2])], then=textwrap.dedent(then))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **options)
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    return process


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"])
def test_the_server_ends_with_its_process_however_that_ends(vllm, name):
    process = started("time.sleep(600)", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    process.send_signal(getattr(signal, name))
    process.wait()
    assert all(ends(pid) for pid in vllm()[0]["pids"])


@pytest.mark.slow
def test_the_server_ends_with_an_error_and_serves_processes_that_are_started_meanwhile(vllm):
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}], check=True); raise ValueError"
    inner = "from star_hf.llm import Endpoint; print(Endpoint(provider='vllm', model='m', serve=True).url)"
    process = started(child.format(inner))
    process.wait()
    assert len(vllm()) == 1 and all(ends(pid) for pid in vllm()[0]["pids"])


def test_a_finished_stage_starts_nothing(vllm, tmp_path):
    from datasets import Dataset

    from star_hf.llm.annotate import annotate
    from star_hf.schema import COLLECTED
    from star_hf.transforms.rewrite import BenignRewriter

    endpoint = Endpoint(provider="vllm", model="m", serve=True)
    rows = Dataset.from_list([{"id": "a", "question": "How?", "source": "s", "category": ["Self-Harm"]}])
    with Journal(tmp_path / "journal.sqlite") as journal:
        options = {"max_unusable": 1, "max_reasks": 0, "progress": False}
        first = annotate(rows, BenignRewriter(), endpoint, journal, **options)
        serving.stop_all()
        again = annotate(rows, BenignRewriter(), endpoint, journal, **options)
    assert COLLECTED.keys() <= rows.features.keys() and len(vllm()) == 1
    assert list(first.removed) == list(again.removed) and len(first.removed) == 1
