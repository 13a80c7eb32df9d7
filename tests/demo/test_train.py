"""The demo's training, with a small model in the place of the embedded one."""

import shutil

import pytest
import yaml
from datasets import Dataset

import standins
from star_hf.demo import train as demo
from star_hf.training.record import load_record


@pytest.fixture
def data(tmp_path):
    """A finished data set's folder, as a build leaves it."""
    folder = tmp_path / "dataset"

    def make(rows):
        (folder / "default").mkdir(parents=True, exist_ok=True)
        Dataset.from_list(standins.rows(rows)).to_parquet(folder / "default" / "train.parquet")
        card = {
            "configs": [{"config_name": "default", "data_files": "default/train.parquet"}],
            # without its counts `load_dataset` takes another state of the folder from its cache
            "dataset_info": {"config_name": "default", "splits": [{"name": "train", "num_examples": rows}]},
        }
        (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n")
        return folder

    return make


def test_it_trains_once_for_each_state_of_the_data(data, tmp_path, model_folder, monkeypatch):
    monkeypatch.setattr(demo, "unpack", lambda folder: shutil.copytree(model_folder, folder, dirs_exist_ok=True))
    first = demo.train_demo(data(6), tmp_path / "model")
    assert len(first.curve) == 12 and first.datasets[0]["rows"] == 6
    assert load_record(tmp_path / "model" / "tuned") == first
    assert demo.train_demo(data(6), tmp_path / "model").seconds == first.seconds  # read, not trained again
    assert demo.train_demo(data(4), tmp_path / "model").datasets[0]["rows"] == 4
