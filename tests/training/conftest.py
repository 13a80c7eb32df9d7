"""A small model on disk, and a small data set beside it."""

import json

import pytest

import standins


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A random Qwen2 of two layers with R1's template, as a folder."""
    folder = tmp_path_factory.mktemp("small-r1")
    tokenizer = standins.small_tokenizer("r1")
    tokenizer.save_pretrained(folder)
    standins.small_model(tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    """32 mild rows as `train.jsonl`."""
    folder = tmp_path_factory.mktemp("small-data")
    (folder / "train.jsonl").write_text("\n".join(json.dumps(row) for row in standins.rows(32)) + "\n")
    return folder
