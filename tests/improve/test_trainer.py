"""Commands of the user: their placeholders, their failures, and what they must leave."""

import os
import sys

import pytest

from star_hf.errors import BusyError, ConfigError, TrainingError
from star_hf.improve.config import Train
from star_hf.improve.trainer import arguments, placeholders, run_trainer, serving


def python(code, *more):
    return [sys.executable, "-c", code, *map(str, more)]


LEAVES = (
    "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir(exist_ok=True); (p / 'model.safetensors').touch()"
)


def test_values_are_never_split_and_no_shell_reads_them():
    values = {"data": "/a b/$(touch x);.jsonl", "output": "/out"}
    words = arguments("accelerate launch train.py --data {data} '--extra={\"a\": 1}' --out={output}", values)
    assert words == ["accelerate", "launch", "train.py", "--data", values["data"], '--extra={"a": 1}', "--out=/out"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --in {data}", "it needs `{config}`, or both `{data}` and `{output}`"),
        ("train", "it needs `{config}`"),
        ("train {data} {outptu}", "there is no placeholder {outptu}"),
        ("train '{data} {output}", "No closing quotation"),
        ("train --config {config}", "`recipe` is missing"),
    ],
)
def test_a_command_that_cannot_work_is_refused_at_once(command, message):
    with pytest.raises(ConfigError) as told:
        Train(command=command)
    assert message in str(told.value)


def test_the_names_of_placeholders():
    assert placeholders("{python} x.py {data} {output}") == {"python", "data", "output"}
    assert Train(command="x {data} {output}").recipe is None


def test_a_trainer_that_fails_is_one_message_with_its_last_words(tmp_path):
    with pytest.raises(TrainingError, match="exit code 3: out of luck") as told:
        run_trainer(python("print('out of luck'); raise SystemExit(3)"), tmp_path / "model", 1)
    assert str(tmp_path / "model.log") in str(told.value) and (tmp_path / "model.log").read_text() == "out of luck\n"


@pytest.mark.parametrize("code", ["pass", "import pathlib, sys; pathlib.Path(sys.argv[1]).mkdir()"])
def test_a_trainer_that_leaves_no_model_is_one_message(tmp_path, code):
    with pytest.raises(TrainingError, match="left no weights"):
        run_trainer(python(code, tmp_path / "model"), tmp_path / "model", 1)


def test_a_trainer_that_does_not_exist_is_one_message(tmp_path):
    with pytest.raises(TrainingError, match="cannot be started: no-such-trainer"):
        run_trainer(["no-such-trainer"], tmp_path / "model", 1)


def test_what_another_training_left_is_no_model_of_this_one(tmp_path):
    output = tmp_path / "model"
    run_trainer(python(LEAVES, output), output, "these rows")
    run_trainer(python("pass"), output, "these rows")  # resumed, and found done
    with pytest.raises(TrainingError, match="left no weights"):
        run_trainer(python("pass"), output, "other rows")
    assert not output.exists()


def test_two_trainers_never_write_to_one_folder(tmp_path):
    import fcntl

    with (tmp_path / "model.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="started earlier still writes"):
            run_trainer(python(LEAVES, tmp_path / "model"), tmp_path / "model", 1)


def test_a_trainer_holds_the_lock_itself_since_its_parent_may_be_killed(tmp_path):
    """Here it leaves a process that holds on, while this one has let go."""
    output, end = tmp_path / "model", tmp_path / "end"
    os.mkfifo(end)
    code = f"import os\nif os.fork() == 0: os.closerange(1, 3); open({str(end)!r}).read(); os._exit(0)\n" + LEAVES
    run_trainer(python(code, output), output, 1)
    with pytest.raises(BusyError, match="started earlier still writes"):
        run_trainer(python(LEAVES, output), output, 1)
    end.write_text("")


SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *a): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
server.serve_forever()
"""


def free_port():
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_server_is_waited_for_and_ended(tmp_path):
    from star_hf.improve.trainer import _answers

    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    with serving(python(SERVER, port), url, tmp_path / "log", 30):
        assert _answers(url)
        with pytest.raises(ConfigError, match="answers at .* already"), serving(["x"], url, tmp_path / "log", 1):
            pass
    assert not _answers(url)


def test_a_server_that_ends_or_is_missing_is_one_message(tmp_path):
    url = f"http://127.0.0.1:{free_port()}/v1"
    with (
        pytest.raises(ConfigError, match="exit code 4: no GPU"),
        serving(python("print('no GPU'); raise SystemExit(4)"), url, tmp_path / "log", 30),
    ):
        pass
    with pytest.raises(ConfigError, match="cannot be started"), serving(["no-such"], url, tmp_path / "log", 30):
        pass
