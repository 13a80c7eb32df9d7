"""The cards: complete, in the paper's order, and readable by `load_dataset` itself."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, load_dataset, load_dataset_builder
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard

from star_hf.errors import SourceError
from star_hf.sources import catalogue as catalogue_module
from star_hf.sources.catalogue import Source, catalogue
from star_hf.sources.readers import AS_STAR_1, CORRECTED, NOT_HELD_OUT_BY_STAR_1, readers_of
from star_hf.sources.reading import read_source
from star_hf.utils import paths


TRAINING = (
    "GPTFuzz SimpleSafetyTests MaliciousInstruct QHarm TDCRedTeaming MaliciousInstructions HarmfulQ HExPHI HarmBench "
    "AttaQ HarmfulQA SafetyInstructions UltraSafety ALERT SaladBench PKUSafeRLHF BeaverTails wildjailbreak"
).split()
HELD_OUT = "StrongREJECT JBBBehaviours SGBench wildjailbreak-eval XSTest WildChat".split()
EVALUATION_SETS = "AIME24 MATH-500 GPQA-Diamond MMLU-Pro HumanEval".split()
NGRAMS = {
    **{"BeaverTails": 5, "wildjailbreak": 5, "PKUSafeRLHF": 6},
    **dict.fromkeys(("AttaQ", "HarmfulQA", "SafetyInstructions", "UltraSafety", "ALERT"), 7),
}
UNPINNED = {"HExPHI", "wildjailbreak", "wildjailbreak-eval", "WildChat", "GPQA-Diamond"}
SAMPLES = {".csv": "x\na\n", ".tsv": "x\ty\na\tb\n", ".json": '{"x": "a"}\n', ".jsonl": '{"x": "a"}\n', ".txt": "a\n"}
SOURCES = catalogue()
DECLARING = [name for name, source in SOURCES.items() if "dataset_info:" in (source.folder / "README.md").read_text()]

every_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


def test_catalogue_has_the_papers_sources_in_order():
    assert list(SOURCES) == TRAINING + HELD_OUT + EVALUATION_SETS
    assert [source.order for source in SOURCES.values()] == list(range(1, 30))
    assert [name for name, source in SOURCES.items() if source.role == "train"] == TRAINING
    assert {name: SOURCES[name].ngram for name in TRAINING} == {name: NGRAMS.get(name, 8) for name in TRAINING}
    assert [name for name, source in SOURCES.items() if source.role == "held_out"] == HELD_OUT
    assert all(SOURCES[name].ngram is None and SOURCES[name].fields for name in HELD_OUT + EVALUATION_SETS)
    assert all(set(source.fields) <= set(source.columns) for source in SOURCES.values())


def test_every_source_has_a_reader_and_every_function_a_source():
    assert list(readers_of("recommended")) == list(SOURCES)
    assert set(SOURCES) - set(readers_of("paper")) == {"WildChat"}
    assert (AS_STAR_1 | CORRECTED).keys() | set(NOT_HELD_OUT_BY_STAR_1) <= SOURCES.keys()
    assert set(CORRECTED) == {"wildjailbreak", "wildjailbreak-eval"}


def test_a_source_without_a_function_has_no_column_but_that_of_its_question():
    columns = {name: source.columns for name, source in SOURCES.items() if name not in AS_STAR_1}
    assert columns.pop("SimpleSafetyTests") == ("prompt", "prompts_final")  # the Hub's name and the local copy's
    assert all(len(names) == 1 for names in columns.values())


@every_source
def test_card_is_complete(source: Source):
    card = DatasetCard.load(source.folder / "README.md", ignore_metadata_errors=False)
    assert set(MetadataConfigs.from_dataset_card_data(card.data)) == {"default"}
    assert card.data.pretty_name == source.name
    assert "](https://" in card.text and "STAR-1" in card.text
    assert [path.name for path in source.folder.iterdir()] == ["README.md"]
    assert source.gated in ("none", "auto", "manual") and source.homepage.startswith("https://")
    assert ("HF_TOKEN" in card.text) == (source.gated != "none")
    assert len({Path(file).suffix for file in source.files}) == 1
    assert all(file.startswith(("https://", "hf://datasets/")) for file in source.files)


@every_source
def test_revision_is_a_commit_or_the_card_says_that_it_is_not(source: Source):
    card = (source.folder / "README.md").read_text()
    if source.name in UNPINNED:
        assert source.revision == "main" and "not pinned" in card
    else:
        assert len(source.revision) == 40 and "not pinned" not in card
        assert all(source.revision in file for file in source.files)


def _with_other_files(source: Source, files: list[str], parent: Path) -> Path:
    """A copy of a card's folder in which only the place of the files differs."""
    _, meta, body = (source.folder / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(meta)
    card["configs"][0]["data_files"] = files
    folder = parent / source.name
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card, sort_keys=False)}---\n{body}")
    return folder


@every_source
def test_load_dataset_accepts_the_card(source: Source, tmp_path):
    suffix = Path(source.files[0].removesuffix(".xz").removesuffix(".gz")).suffix
    file = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        Dataset.from_dict({"x": ["a"]}).to_parquet(file)
    else:
        file.write_text(SAMPLES[suffix])
    folder = _with_other_files(source, [str(file)], tmp_path / "raw")
    builder = load_dataset_builder(str(folder), cache_dir=str(tmp_path))
    for option, value in source.options.items():
        assert getattr(builder.config, option) == value
    declared = DatasetCard.load(folder / "README.md").data.to_dict().get("dataset_info", {"features": []})
    assert list(builder.info.features or []) == [column["name"] for column in declared["features"]]
    assert not builder.info.features or set(source.columns) <= set(builder.info.features)


@pytest.mark.parametrize("name", DECLARING)
def test_declared_features_are_those_of_the_file(name, shared_data, tmp_path):
    source = SOURCES[name]
    files = [str(shared_data / "raw" / name / file) for file in source.local]
    folder = str(_with_other_files(source, files, tmp_path))
    declared = load_dataset_builder(folder, cache_dir=str(tmp_path)).info.features
    dataset = load_dataset(folder, split="train", cache_dir=str(tmp_path))
    assert dataset.features == declared and len(dataset) > 0


@pytest.fixture
def served_card(tmp_path):
    """Puts a card with other files behind a loopback server, and returns its source."""
    (tmp_path / "files").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "files")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def serve(name: str, contents: dict[str, str]) -> Source:
        for file, content in contents.items():
            (tmp_path / "files" / file).write_text(content)
        urls = [f"http://127.0.0.1:{server.server_port}/{file}" for file in contents]
        return catalogue_module._read(_with_other_files(SOURCES[name], urls, tmp_path / "raw") / "README.md")

    yield serve
    server.shutdown()
    server.server_close()


def test_load_dataset_reads_a_card_folder_over_http(served_card):
    source = served_card("GPTFuzz", {"list.csv": "index,text\n0,how do I pick a lock?\n1,how do I fool a cat?\n"})
    dataset = load_dataset(str(source.folder), split="train")
    assert dataset["text"][:] == ["how do I pick a lock?", "how do I fool a cat?"]
    assert list(read_source(source)) == [{"text": "how do I pick a lock?"}, {"text": "how do I fool a cat?"}]


def test_headerless_files_keep_their_first_line_and_their_order(served_card):
    source = served_card("HExPHI", {"category_10.csv": "ten\n", "category_2.csv": '"two, again"\nlast\n'})
    assert [row["question"] for row in read_source(source)] == ["ten", "two, again", "last"]


def test_tab_separated_file_keeps_the_word_null_and_empty_cells(served_card):
    table = "vanilla\tadversarial\tcompletion\tdata_type\nnull\t\tlong\tvanilla_benign\n"
    source = served_card("wildjailbreak", {"train.tsv": table})
    assert list(read_source(source)) == [{"vanilla": "null", "data_type": "vanilla_benign"}]


def test_list_of_strings_loads_as_the_column_text(served_card):
    source = served_card("TDCRedTeaming", {"dev.json": '["a lock", "a cat"]', "test.json": '["a dog"]'})
    assert [row["text"] for row in read_source(source)] == ["a lock", "a cat", "a dog"]


def test_card_without_our_key_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "datasets_scripts" / "raw" / "Broken"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\nconfigs:\n- data_files: x.csv\n---\nNothing.\n")
    monkeypatch.setattr(paths, "PACKAGE", tmp_path)
    with pytest.raises(SourceError, match=r"Broken/README.md.*star_hf"):
        catalogue()
