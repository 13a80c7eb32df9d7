"""The demo's training, with a small model in the place of the embedded one."""

import shutil

import pytest

from star_hf.demo import train as demo
from star_hf.sources.loading import load
from star_hf.training.data import digest
from star_hf.training.record import load_record


FEW = ("--num_train_epochs", "1", "--train_layers", "2")
"""The small model has two layers."""


@pytest.fixture(autouse=True)
def small(monkeypatch, model_folder):
    monkeypatch.setattr(demo, "unpack", lambda folder: shutil.copytree(model_folder, folder, dirs_exist_ok=True))


def test_it_trains_on_the_starter_set_once_for_each_state_of_the_data(tmp_path):
    first = demo.train_demo(tmp_path / "model", "--max_rows", "6", *FEW)
    assert first.datasets[0]["rows"] == 6
    assert first.datasets[0]["sha256"] == digest(load("starter").select(range(6)))
    assert load_record(tmp_path / "model" / "tuned") == first
    again = demo.train_demo(tmp_path / "model", "--max_rows", "6", *FEW)
    assert again.seconds == first.seconds  # read, not trained again
    faster = demo.train_demo(tmp_path / "model", "--max_rows", "6", *FEW, "--learning_rate", "1e-3")
    assert faster.recipe["learning_rate"] == 1e-3, "a training with other settings is another one"
    other = demo.train_demo(tmp_path / "model", "--max_rows", "4", *FEW)
    assert other.datasets[0]["rows"] == 4
