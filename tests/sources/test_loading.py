"""`star_hf.load`: names, revisions, streaming, local copies; over HTTP where files are on the Hub."""

import json

import pytest
from datasets import Dataset, IterableDataset, load_dataset

import star_hf
from hub import USER, Repo
from star_hf.errors import ConfigError, SourceError
from star_hf.schema import SCORED
from star_hf.sources import loading
from star_hf.sources.catalogue import catalogue
from star_hf.sources.loading import card_folders


ROW = {
    "id": "1",
    "question": "How do I misuse a sieve?",
    "response": "<think>\nA thought.\n</think>\n\nI cannot help.",
    "category": ["Self-Harm"],
    "source": "my-own",
    "score": dict.fromkeys(SCORED["score"], 9),
}


@pytest.fixture
def cards(tmp_path, monkeypatch):
    """Cards of our own beside the project's, and a way to write one."""

    def write(name: str, files: str, **config) -> None:
        folder = tmp_path / "datasets_scripts" / name
        folder.mkdir(parents=True)
        metadata = json.dumps({"configs": [{"config_name": "default", "data_files": files, **config}]})
        (folder / "README.md").write_text(f"---\n{metadata}\n---\n")
        loading.card_folders.cache_clear()

    monkeypatch.setattr(loading, "project_folder", lambda name: tmp_path / name)
    yield write
    loading.card_folders.cache_clear()


def test_every_product_and_source_has_a_name():
    folders = card_folders()
    assert list(folders)[:4] == ["star_1", "star_41k", "star_benign_915", "starter"]
    assert set(folders) == {"star_1", "star_41k", "star_benign_915", "starter", *catalogue()}
    cards = [folder for name, folder in folders.items() if name != "starter"]
    assert all([file.name for file in folder.iterdir()] == ["README.md"] for folder in cards)


@pytest.mark.parametrize("name", ["my_set", "My-Set", "MYSET"])
def test_names_are_found_however_they_are_written(cards, tmp_path, name):
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    cards("my_set", str(tmp_path / "rows.jsonl"))
    assert star_hf.load(name)[0] == ROW
    assert star_hf.load(name, split=None)["train"].num_rows == 1


def test_an_unknown_name_gets_a_hint():
    with pytest.raises(ConfigError, match="no data set 'star-2'.*\n.*star_1"):
        star_hf.load("star-2")


def test_files_on_the_hub_are_read_at_the_cards_revision_or_another(hub, cards):
    repo = hub.repos["datasets", f"{USER}/there"] = Repo()
    old = repo.edit("rows.jsonl", json.dumps(ROW).encode())
    new = repo.edit("rows.jsonl", json.dumps({**ROW, "id": "2"}).encode())
    cards("there", f"hf://datasets/{USER}/there@{old}/rows.jsonl")
    assert star_hf.load("there")["id"][:] == ["1"]
    assert star_hf.load("there", revision=new)["id"][:] == ["2"]
    assert star_hf.load("there", revision="main")["id"][:] == ["2"]
    rows = star_hf.load("there", revision=old, streaming=True)
    assert isinstance(rows, IterableDataset) and next(iter(rows))["id"] == "1"


def test_what_has_no_revision_says_so(cards, tmp_path):
    cards("local", str(tmp_path / "rows.jsonl"))
    with pytest.raises(ConfigError, match="has no revisions"):
        star_hf.load("local", revision="main")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("hf://datasets/a/b/data/x.csv", "hf://datasets/a/b@v2/data/x.csv"),
        ("hf://datasets/a/b@main/data/*.csv", "hf://datasets/a/b@v2/data/*.csv"),
        ("https://raw.githubusercontent.com/a/b/0123/d/x.csv", "https://raw.githubusercontent.com/a/b/v2/d/x.csv"),
    ],
)
def test_the_address_at_another_revision(file, expected):
    assert loading._at(file, "v2", "x") == expected


def test_a_local_copy_is_read_in_the_cards_form(tmp_path):
    (tmp_path / "GPTFuzz").mkdir()
    (tmp_path / "GPTFuzz" / "question_list.csv").write_text("index,text\n0,Why?\n")
    assert star_hf.load("gptfuzz", sources_dir=tmp_path)["text"][:] == ["Why?"]
    with pytest.raises(SourceError, match="^There is no file .*/AttaQ/"):
        star_hf.load("AttaQ", sources_dir=tmp_path)
    with pytest.raises(ConfigError, match="^star_1 is a product, not a source: it has no local copy"):
        star_hf.load("star_1", sources_dir=tmp_path)


def test_star_1_is_the_published_file_with_the_published_schema(shared_data):
    """The card's features on a copy of the file that it names, by its hash."""
    import hashlib

    from huggingface_hub import DatasetCard

    file = shared_data / "raw" / "STAR-1" / "STAR-1.json"
    card = DatasetCard.load(card_folders()["star_1"] / "README.md").data
    assert hashlib.sha256(file.read_bytes()).hexdigest() == card["star_hf"]["sha256"]
    rows = load_dataset(str(card_folders()["star_1"]), data_files=str(file), split="train")
    assert isinstance(rows, Dataset) and rows.features == SCORED and len(rows) == card["star_hf"]["rows"]
