"""`kill -9` at instants all over a run: the same bytes in the end, and nothing is paid for twice."""

import json
import os
import random
import signal
import subprocess
import sys

import pytest
from improve_world import ImproveWorld, options

from star_hf.improve.loop import improve


CONCURRENCY, STEPS = 8, 350

NURSERY = """
import json, os, signal, sys
from star_hf.improve.config import ImproveConfig
from star_hf.improve.loop import improve
from star_hf.improve import data, forecast, measure
config = ImproveConfig.model_validate_json(open(sys.argv[1]).read())
STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "socket.connect", "sqlite3.connect", "subprocess.Popen"}
for line in sys.stdin:  # a run directory and an instant; a child runs there, so that imports are paid once
    folder, last = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setsid()  # so that the trainer is killed too
        steps = 0
        def hook(event, arguments):
            global steps
            if event in STEPS:
                steps += 1
                if steps == last:
                    os.killpg(0, signal.SIGKILL)
        sys.addaudithook(hook)
        improve(config, folder, progress=False)
        open(folder + ".steps", "w").write(str(steps))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def files_of(run):
    """The bytes of all that a run leaves, without its times."""
    found = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.suffix in (".parquet", ".yaml", ".jsonl", ".safetensors"):
            found[name] = path.read_bytes()
    ledger = json.loads((run / "ledger.json").read_text("utf-8"))
    for entry in ledger["stages"].values():
        del entry["seconds"]
    del ledger["config"]  # it has the server's port
    return {**found, "ledger.json": ledger}


WEAK = {"Keys, doors#rule-1": 16}


class Killed(BaseException):
    """What no code expects."""


def test_cut_off_before_any_file_it_ends_with_the_same_bytes_and_pays_nothing_twice(tmp_path, monkeypatch):
    """In this process: each attempt ends before one of the files that it would put in place."""
    calm, world = ImproveWorld(tmp_path / "calm", WEAK), ImproveWorld(tmp_path / "cut", WEAK)
    with calm.server() as server:
        assert improve(options(tmp_path / "in", server.url, calm), calm.run, progress=False).shipped
    replace, left, cuts = os.replace, [0], 0

    def cut(*arguments):
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return replace(*arguments)

    with world.server() as server:
        config = options(tmp_path / "in", server.url, world)
        monkeypatch.setattr(os, "replace", cut)
        for left[0] in (4, 8, 12, 0):
            try:
                done = improve(config, world.run, progress=False)
            except Killed:
                cuts += 1
        monkeypatch.undo()
    assert cuts == 3 and done.shipped
    assert files_of(world.run) == files_of(calm.run) and world.paid == calm.paid


@pytest.mark.long
def test_killed_anywhere_it_ends_with_the_same_bytes_and_pays_nothing_twice(tmp_path, rounds=2, kills=20):
    weak = {"Keys, doors#rule-1": 16 * rounds}
    calm = ImproveWorld(tmp_path / "calm", weak)
    with calm.server() as server:
        done = improve(options(tmp_path / "in", server.url, calm, patience=2), calm.run, progress=False)
        assert done.shipped and len(done.rounds) == rounds + 1
    luck, world = random.Random(20261201), ImproveWorld(tmp_path / "killed", weak)
    with world.server() as server:
        config = options(tmp_path / "in", server.url, world, patience=2)
        (tmp_path / "config.json").write_text(config.model_dump_json())
        command = [sys.executable, "-c", NURSERY, str(tmp_path / "config.json")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:

            def run(last):
                nursery.stdin.write(json.dumps([str(world.run), last]) + "\n")
                nursery.stdin.flush()
                return int(nursery.stdout.readline())

            codes = [run(luck.randint(10, STEPS * rounds)) for _ in range(kills)]
            while (code := run(0)) != 0:
                codes.append(code)
            nursery.stdin.close()
    killed = codes.count(-signal.SIGKILL)
    assert set(codes) <= {0, -signal.SIGKILL} and killed >= kills / 2, "an instant after the end kills nothing"
    assert files_of(world.run) == files_of(calm.run)
    twice = sum(count - 1 for count in world.paid.values() if count > 1)
    assert set(world.paid) == set(calm.paid) and twice <= killed * CONCURRENCY, "only what was in flight"
