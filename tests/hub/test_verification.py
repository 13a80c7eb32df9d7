"""What `verify` says of a good release, and of each kind of damage."""

import io
import json

import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from hub import USER, Repo
from star_hf.errors import ConfigError, StarError
from star_hf.hub.dataset_release import dataset_release
from star_hf.hub.release import MANIFEST, publish
from star_hf.hub.verification import verify
from star_hf.utils.text import row_id


NAME = f"{USER}/checked"
DEFAULT = "default/train.parquet"


@pytest.fixture(scope="module")
def release(finished, tmp_path_factory):
    return dataset_release(finished, NAME, sources_dir=tmp_path_factory.mktemp("nothing"))


@pytest.fixture
def repo(hub, release) -> Repo:
    publish(release, NAME)
    return hub.repo("datasets", NAME)


@pytest.fixture
def look(tmp_path):
    """Names of the checks that found something, and all they said."""

    def run(**options) -> tuple[list[str], str]:
        found = verify(NAME, sources_dir=tmp_path, **options)
        assert found.ok == all(check.ok for check in found.checks)
        return (
            [check.name for check in found.checks if not check.ok],
            " ".join(text for check in found.checks for text in (*check.problems, *check.notes)),
        )

    return run


def rewritten(repo: Repo, change) -> bytes:
    """The default table with changed rows, as a file."""
    rows = Dataset(pq.read_table(io.BytesIO(repo.files()[DEFAULT])))
    file = io.BytesIO()
    change(rows).to_parquet(file)
    return file.getvalue()


def with_hash(repo: Repo, content: bytes) -> None:
    """Put a table there together with its hash, as somebody would who knows."""
    import hashlib

    repo.edit(DEFAULT, content)
    manifest = json.loads(repo.files()[MANIFEST])
    manifest["files"][DEFAULT]["sha256"] = hashlib.sha256(content).hexdigest()
    repo.edit(MANIFEST, json.dumps(manifest).encode())


def test_what_was_published_is_verified(repo, look):
    bad, said = look()
    assert bad == [] and "default: 12 rows" in said and "sections as generated" in said
    assert "not available: StrongREJECT" in said, "what was not searched for is said"


@pytest.mark.parametrize("place", [4, 2000, -1])
def test_one_corrupted_byte_is_found(repo, look, place):
    data = bytearray(repo.files()[DEFAULT])
    data[place] ^= 1
    repo.edit(DEFAULT, bytes(data))
    bad, said = look()
    assert bad == ["files", "schema"] and f"{DEFAULT} is not what was published" in said


def test_a_missing_file_and_one_that_was_put_beside(repo, look):
    files = dict(repo.files())
    files["default/more.parquet"] = files.pop("benign/train.parquet")
    files["notes.txt"] = b"ours"
    repo.commit(files, "Move")
    bad, said = look()
    assert "files" in bad and "benign/train.parquet is missing" in said
    assert "default/more.parquet was not published" in said and "not part of this release" in said


def other(rows: Dataset, **values) -> Dataset:
    return rows.map(lambda row: {name: change(row) for name, change in values.items()}, keep_in_memory=True)


CHANGES = {
    "a row less": (lambda rows: rows.select(range(11)), "counts", "default has 11 rows, expected 12."),
    "a row less than was paid for": (lambda rows: rows.select(range(11)), "ids", "1 id of provenance in no table"),
    "a row twice": (lambda rows: rows.select([0, *range(11)]), "ids", "1 duplicate id in default"),
    "a column less": (lambda rows: rows.remove_columns("source"), "schema", "The columns of default are"),
    "a type": (lambda rows: other(rows, source=lambda row: 1), "schema", "default.source is Value('int64')"),
    "a source": (lambda rows: other(rows, source=lambda row: "x"), "counts", "12 rows of the source 'x', expected 0"),
    "a category": (
        lambda rows: other(rows, category=lambda row: ["Sieves"]),
        "counts",
        "12 rows of the category 'Sieves', expected 0",
    ),
    "a question with its id": (
        lambda rows: other(
            rows, question=lambda row: row["question"] + "!", id=lambda row: row_id(row["question"] + "!")
        ),
        "ids",
        "12 ids of provenance in no table",
    ),
    "a question": (
        lambda rows: other(rows, question=lambda row: row["question"] + " Please?"),
        "ids",
        "12 ids of default without a matching question",
    ),
}


@pytest.mark.parametrize(("change", "check", "words"), CHANGES.values(), ids=CHANGES)
def test_rows_that_were_changed_with_their_hash_are_found_by_what_they_say(repo, look, change, check, words):
    with_hash(repo, rewritten(repo, change))
    bad, said = look()
    assert "files" not in bad and check in bad and words in said, said


def test_a_card_is_compared_with_the_data_and_edits_are_told(repo, look):
    good = repo.files()["README.md"].decode()
    repo.edit("README.md", good.replace("## Fields", "## Columns").encode())
    bad, said = look()
    assert bad == [] and "edited by hand: fields" in said
    repo.edit("README.md", good.replace("num_examples: 12", "num_examples: 13", 1).encode())
    bad, said = look()
    assert bad == ["card"] and "It says 13 rows for default, which has 12" in said
    repo.edit("README.md", b"---\nlicense: [\n---\n")
    assert look()[0] == ["card"]
    repo.edit("README.md", good.encode())
    assert look()[0] == []


def test_contamination_is_found(repo, hub, tmp_path):
    rows = Dataset(pq.read_table(io.BytesIO(repo.files()[DEFAULT])))
    folder = tmp_path / "XSTest"
    folder.mkdir()
    (folder / "xstest_prompts.csv").write_text(
        f'id,prompt,type,label,focus,note\n1,"{rows[0]["question"]}",x,safe,,\n'
    )
    found = verify(NAME, sources_dir=tmp_path)
    (bad,) = [check for check in found.checks if not check.ok]
    assert bad.name == "contamination and form" and "XSTest" in bad.problems[0]
    assert rows[0]["question"] not in str(found)


def test_a_good_revision_stays_good(repo, look):
    (tag,) = repo.tags
    repo.edit(DEFAULT, b"damaged")
    assert look()[0] != [] and look(revision=tag)[0] == []


def test_what_cannot_be_verified_is_named(hub, repo, tmp_path, monkeypatch):
    with pytest.raises(StarError, match="no data set or model"):
        verify(f"{USER}/nowhere")
    with pytest.raises(ConfigError, match="no such revision"):
        verify(NAME, revision="nowhere")
    repo.edit(MANIFEST, b"{}")
    with pytest.raises(StarError, match="was edited or is broken"):
        verify(NAME, sources_dir=tmp_path)
    hub.repos["datasets", f"{USER}/other"] = Repo()
    with pytest.raises(StarError, match="to compare it with"):
        verify(f"{USER}/other")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(StarError, match="has no access to it"):
        verify(NAME)


def test_what_star_1s_authors_published_is_looked_at_without_hashes(hub, tmp_path):
    rows = Dataset.from_list(
        [
            {
                **{"id": str(n), "question": f"How do I misuse sieve {n}?", "category": ["Self-Harm"], "source": "x"},
                "response": "<think>\nA thought about sieves.\n</think>\n\nI cannot help with that.",
            }
            for n in range(915)
        ]
    )
    repo = hub.repos["datasets", "UCSC-VLAA/STAR-benign-915"] = Repo()
    rows.to_parquet(file := io.BytesIO())
    repo.edit("data/train.parquet", file.getvalue())
    found = verify("UCSC-VLAA/STAR-benign-915", sources_dir=tmp_path)
    assert [check.name for check in found.checks] == ["rows", "contamination and form"] and found.checks[0].ok
    rows.select(range(914)).to_parquet(file := io.BytesIO())
    repo.edit("data/train.parquet", file.getvalue())
    found = verify("UCSC-VLAA/STAR-benign-915", sources_dir=tmp_path)
    assert found.checks[0].problems == ("It has 914 rows, expected 915.",)
