"""Which checkpoint is resumed: the newest one that was saved to its end, of the same training."""

import json
import shutil

import pytest
import torch
from datasets import Dataset
from safetensors.torch import save_file

from star_hf.errors import TrainingError
from star_hf.training.checkpoints import (
    IDENTITY,
    check_same,
    hash_of_rows,
    hash_of_weights,
    is_whole,
    newest_whole,
    save_identity,
)


SAME = {"data": ["d"], "labels": "l", "base": "b", "recipe": {"learning_rate": 0.1, "seed": 1}, "processes": 1}
FILES = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]


@pytest.fixture
def output(tmp_path):
    """Two checkpoints with the files of a trainer."""
    for step in (4, 8):
        folder = tmp_path / f"checkpoint-{step}"
        save_identity(folder, SAME)
        save_file({"a": torch.ones(64), "b": torch.zeros(3)}, folder / "model.safetensors")
        for name in FILES[1:4]:
            torch.save({"a": torch.ones(64)}, folder / name)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return tmp_path


def test_the_newest_checkpoint_is_taken(output):
    (output / "checkpoint-12.tmp").mkdir()
    (output / "checkpoint-last").mkdir()
    assert newest_whole(output) == (output / "checkpoint-8", [])
    assert newest_whole(output / "nowhere") == (None, [])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("left", [0, 0.5, 0.99])
def test_a_file_that_was_cut_leaves_the_checkpoint_out(output, name, left):
    path = output / "checkpoint-8" / name
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    assert newest_whole(output) == (output / "checkpoint-4", [output / "checkpoint-8"])


@pytest.mark.parametrize("name", ["model.safetensors", "rng_state.pth", "trainer_state.json"])
def test_a_file_that_is_missing_leaves_the_checkpoint_out(output, name):
    (output / "checkpoint-8" / name).unlink()
    assert newest_whole(output)[0] == output / "checkpoint-4"


def test_every_process_must_have_saved_its_state(output):
    save_identity(output / "checkpoint-8", {**SAME, "processes": 2})
    assert not is_whole(output / "checkpoint-8")
    shutil.copy(output / "checkpoint-8" / "rng_state.pth", output / "checkpoint-8" / "rng_state_1.pth")
    assert is_whole(output / "checkpoint-8")


def test_the_same_training_goes_on(output):
    check_same(output / "checkpoint-8", SAME)
    check_same(output / "checkpoint-8", {**SAME, "processes": 2})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": ["e"]}, "Different: the data\\."),
        ({"labels": "m"}, "Different: the token ids and labels\\."),
        ({"base": "c"}, "Different: the base weights\\."),
        ({"recipe": {"learning_rate": 0.2, "seed": 1}}, "Different: `learning_rate` .0.1 there, 0.2 now.\\."),
        ({"recipe": {"learning_rate": 0.1}}, "Different: `seed` .1 there, None now.\\."),
        ({"data": ["e"], "base": "c"}, "Different: the data, the base weights\\."),
    ],
)
def test_another_training_is_refused_with_what_differs(output, change, words):
    with pytest.raises(TrainingError, match=words):
        check_same(output / "checkpoint-8", {**SAME, **change})


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_a_checkpoint_that_does_not_say_what_it_is_from_is_refused(output, text):
    path = output / "checkpoint-8" / IDENTITY
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(TrainingError, match="checkpoint-8"):
        check_same(output / "checkpoint-8", SAME)


def test_rows_differ_by_value_and_order():
    rows = [{"input_ids": [1, 2], "labels": [3]}, {"input_ids": [1], "labels": [2, 3]}]
    hashes = {hash_of_rows(Dataset.from_list(made)) for made in (rows, rows[::-1], rows[:1])}
    assert len(hashes) == 3 and hash_of_rows(Dataset.from_list(rows)) in hashes


def test_weights_differ_by_their_ends_and_sizes(tmp_path):
    assert hash_of_weights(tmp_path, "commit") == "commit" and hash_of_weights(tmp_path) is None
    content, seen = bytearray(5 << 20), set()
    for place in (0, (5 << 20) - 1, None):
        changed = bytearray(content)
        if place is not None:
            changed[place] = 1
        (tmp_path / "model.safetensors").write_bytes(changed)
        seen.add(hash_of_weights(tmp_path, "commit"))
    (tmp_path / "model.safetensors").write_bytes(content[:-1])
    assert len(seen | {hash_of_weights(tmp_path)}) == 4
