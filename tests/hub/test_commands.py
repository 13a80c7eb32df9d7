"""`star-hf publish` and `star-hf verify` as people type them."""

import sys

import pytest
from datasets import load_dataset

from hub import USER, Repo
from measured import write_results
from star_hf import cli


NAME = f"{USER}/typed"


@pytest.fixture
def star_hf(monkeypatch, capsys):
    """Run a command line; its exit code, and what it said without line breaks."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["star-hf", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        said = capsys.readouterr()
        return code, " ".join((said.out + said.err).split())

    return run


def test_publish_dataset_dry_then_really_then_again(hub, finished, tmp_path, star_hf):
    words = ("publish", "dataset", finished, "--repo-id", NAME, "--sources-dir", tmp_path)
    code, said = star_hf(*words, "--dry-run")
    assert code == 0 and "private, new" in said and "push default/train.parquet" in said, said
    assert "Nothing was published" in said and "Not for commercial use: ALERT" in said and not hub.repos
    code, said = star_hf(*words, "--gated")
    assert code == 0 and f"{hub.url}/datasets/{NAME} at small-" in said
    repo = hub.repo("datasets", NAME)
    assert load_dataset(NAME, split="train").num_rows == 12 and (repo.private, repo.gated) == (True, "auto")
    code, said = star_hf(*words, "--public")
    assert code == 0 and "same default/train.parquet" in said and "push" not in said
    assert (repo.private, repo.gated) == (False, "auto")


def test_what_cannot_be_published_ends_with_one_message(hub, finished, tmp_path, star_hf, monkeypatch):
    code, said = star_hf("publish", "dataset", tmp_path, "--repo-id", NAME)
    assert code == 2 and "has no manifest.json" in said
    code, said = star_hf("publish", "dataset", finished, "--repo-id", "typed", "--sources-dir", tmp_path)
    assert code == 2 and "Give --repo-id as `owner/name`." in said
    monkeypatch.delenv("HF_TOKEN")
    code, said = star_hf("publish", "dataset", finished, "--repo-id", NAME, "--sources-dir", tmp_path)
    assert code == 2 and "no token found" in said and "HF_TOKEN" in said and not hub.repos


def test_verify_ends_with_an_error_once_a_byte_is_corrupted(hub, finished, tmp_path, star_hf):
    assert star_hf("publish", "dataset", finished, "--repo-id", NAME, "--sources-dir", tmp_path)[0] == 0
    code, said = star_hf("verify", NAME, "--sources-dir", tmp_path)
    assert code == 0 and "ok files" in said and "wrong" not in said
    repo = hub.repo("datasets", NAME)
    repo.edit("benign/train.parquet", repo.files()["benign/train.parquet"][:-1] + b"x")
    code, said = star_hf("verify", NAME, "--sources-dir", tmp_path)
    assert code == 1 and "wrong files" in said and f"{NAME} is not what was published" in said


def test_publish_model_and_results_say_what_they_would_do(hub, tmp_path, star_hf):
    code, said = star_hf("publish", "model", tmp_path, "--repo-id", NAME)
    assert code == 2 and "has no star_training.json" in said
    code, said = star_hf("publish", "results", tmp_path, "--repo-id", NAME)
    assert code == 1 and f"There is no model {NAME}" in said and "star-hf publish model" in said
    hub.repos["models", NAME] = Repo()
    folder = write_results(tmp_path / "results", {"jbb": [1] * 9 + [0]}, model="typed")
    code, said = star_hf("publish", "results", folder, "--repo-id", NAME, "--dry-run")
    assert code == 0 and "push star_results.json" in said and "Nothing was published" in said
    assert star_hf("publish", "results", folder, "--repo-id", NAME)[0] == 0
    assert b"90.0 (59.6 to 98.2)" in hub.repo("models", NAME).files()["README.md"]
