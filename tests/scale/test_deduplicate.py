"""Deduplication in shards against one process, under datatrove's executors on this machine."""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from itertools import combinations_with_replacement
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from star_hf.deduplication.rules import stable_order
from star_hf.errors import ConfigError, IncompleteRunError, SourceError
from star_hf.scale import deduplicate as scaled
from star_hf.scale.dedup.joins import partners
from star_hf.scale.deduplicate import Banding, deduplicate_shards
from star_hf.scale.executors import Scale
from star_hf.schema import COLLECTED, as_dataset
from star_hf.transforms.deduplicate import deduplicate
from star_hf.utils.text import row_id
from word_encoder import SlowEncoder, WordEncoder


NGRAM = {"A": 3, "AttaQ": 7, "HarmfulQA": 7, "SafetyInstructions": 7, "ALERT": 7}


def collected(pairs):
    return as_dataset([{"id": row_id(text), "question": text, "source": source} for source, text in pairs], COLLECTED)


def here(stages, scale, log_dir, progress=True):
    """The stages in this process, each task through pickle as an executor sends it."""
    for stage in stages:
        for rank in range(stage.count):
            data = None
            for step in pickle.loads(pickle.dumps(stage.pipeline)):
                data = step(data, rank, stage.count)


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(scaled, "run_stages", here)


def written(rows, folder, files=3):
    """The rows in several Parquet files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.parquet" for number in range(files)]
    for number, path in enumerate(paths):
        pq.write_table(pa.Table.from_pylist(rows.to_list()[number::files], COLLECTED.arrow_schema), path)
    return paths


def tables(folder):
    """The rows of all shards that were kept, and those that were removed."""
    return tuple(
        [row for path in sorted((folder / name).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
        for name in ("kept", "removed")
    )


def in_one_process(rows, held_out, **options):
    """What one process makes of the rows, in the order that shards have."""
    rows = rows.select(stable_order(*(rows[name][:] for name in COLLECTED)))
    result = deduplicate(rows, held_out, progress=False, **options)
    return result.kept.to_list(), result.removed.to_list()


def synthetic(size, seed=0):
    """Questions of which many repeat others, or are variations of them, in three sources; and held-out items."""
    draw = random.Random(seed)
    words = [f"word{number}" for number in range(80)]
    texts = [[draw.choice(words) for _ in range(draw.randint(2, 14))] for _ in range(size // 2)]
    while len(texts) < size:
        text = list(draw.choice(texts))
        if draw.random() < 0.7:
            text[draw.randrange(len(text))] = draw.choice(words)
        texts.append(text)
    pairs = [(draw.choice("ABBCCC"), " ".join(text)) for text in texts]
    return collected(pairs), collected([("bench", text) for _, text in pairs[:: size // 8]])


WORDS = st.sampled_from(["how", "lock", "PICK", "a", "straße", "ﬁsh", "fish", "水", "door"])
TEXTS = st.lists(WORDS, max_size=10).map(" ".join)


@given(
    st.lists(st.tuples(st.sampled_from("ABC"), TEXTS), min_size=1, max_size=14),
    st.lists(st.tuples(st.just("bench"), TEXTS), max_size=3),
    st.integers(1, 4),
    st.sampled_from([0.9, None]),
)
def test_shards_give_what_one_process_gives(tmp_path_factory, pairs, items, shards, threshold):
    rows, held_out, folder = collected(pairs), collected(items), tmp_path_factory.mktemp("shards")
    options = {"ngram": NGRAM, "tfidf_threshold": 0.6, "embedding_threshold": threshold, "encoder": WordEncoder()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaled, "run_stages", here)
        deduplicate_shards(written(rows, folder, 2), held_out, folder / "out", scale=Scale(shards=shards), **options)
    assert tables(folder / "out") == in_one_process(rows, held_out, **options)


def test_each_two_shards_meet_once():
    for shards in range(1, 10):
        pairs = [tuple(sorted((shard, other))) for shard in range(1, shards + 1) for other in partners(shard, shards)]
        assert sorted(pairs) == sorted(set(combinations_with_replacement(range(shards + 1), 2)) - {(0, 0)})


def test_shards_are_of_like_size_and_keep_other_columns(tmp_path, in_process):
    rows = [{"id": n, "question": f"q {n}", "source": "AB"[n % 3 == 0], "n": n} for n in range(900)]
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    options = {"embedding_threshold": None, "tfidf_threshold": 1.0, "scale": Scale(shards=4)}
    tally = deduplicate_shards([tmp_path / "rows.parquet"], collected([]), tmp_path / "out", **options)
    kept, removed = tables(tmp_path / "out")
    assert tally.kept == len(kept) and len(kept) + len(removed) == 900
    assert all(row["id"] == str(row["n"]) for row in kept)
    sizes = [pq.read_metadata(path).num_rows for path in (tmp_path / "out" / "work" / "shards").glob("*/rows.parquet")]
    assert sorted(sizes)[0] == 0 and all(150 < size < 300 for size in sorted(sizes)[1:])


def test_minhash_that_misses_nothing_gives_what_one_process_gives(tmp_path, in_process):
    pytest.importorskip("datatrove")
    rows, held_out = synthetic(200)
    options = {"ngram": NGRAM, "embedding_threshold": None}
    sure = Banding(buckets=60, hashes=1, common=1.0)
    scale = Scale(shards=3)
    deduplicate_shards(written(rows, tmp_path), held_out, tmp_path / "out", scale=scale, banding=sure, **options)
    assert tables(tmp_path / "out") == in_one_process(rows, held_out, **options)


def test_minhash_finds_as_many_pairs_as_its_arithmetic_says(tmp_path, in_process):
    pytest.importorskip("datatrove")
    texts = [" ".join(f"w{n}x{m}" for m in range(10)) for n in range(300)]
    texts += [" ".join(text.split()[:8] + [f"v{n}", f"u{n}"]) for n, text in enumerate(texts)]
    rows, banding = collected([("A", text) for text in texts]), Banding(buckets=4, hashes=3, common=1.0)
    options = {"embedding_threshold": None, "tfidf_threshold": 0.1, "ngram": {"A": 11}, "banding": banding}
    deduplicate_shards(written(rows, tmp_path), collected([]), tmp_path / "out", scale=Scale(shards=2), **options)
    found = sum(row["detail"].startswith("step d") for row in tables(tmp_path / "out")[1])
    jaccard = 8 / 12
    assert found / 300 == pytest.approx(1 - (1 - jaccard**banding.hashes) ** banding.buckets, abs=0.08)


def test_what_does_not_fit_is_named(tmp_path, in_process):
    rows, held_out = synthetic(40)
    paths, options = written(rows, tmp_path), {"embedding_threshold": None, "scale": Scale(shards=2)}
    deduplicate_shards(paths, held_out, tmp_path / "out", **options)
    with pytest.raises(ConfigError, match="other tfidf_threshold"):
        deduplicate_shards(paths, held_out, tmp_path / "out", tfidf_threshold=0.7, **options)
    with pytest.raises(ConfigError, match="other held_out"):
        deduplicate_shards(paths, held_out.select(range(1)), tmp_path / "out", **options)
    written(rows.select(reversed(range(len(rows)))), tmp_path)
    with pytest.raises(ConfigError, match="other inputs"):
        deduplicate_shards(paths, held_out, tmp_path / "out", **options)
    pq.write_table(pa.table({"question": ["q"]}), tmp_path / "bare.parquet")
    with pytest.raises(SourceError, match="no column id, source"):
        deduplicate_shards([tmp_path / "bare.parquet"], held_out, tmp_path / "other", **options)
    pq.write_table(
        pa.table({"id": ["1", "2"], "question": ["q", None], "source": ["A"] * 2}), tmp_path / "bare.parquet"
    )
    with pytest.raises(SourceError, match="with no question"):
        deduplicate_shards([tmp_path / "bare.parquet"], held_out, tmp_path / "other", **options)
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        deduplicate_shards([tmp_path / "nowhere.parquet"], held_out, tmp_path / "other", **options)


def test_all_stages_are_submitted_to_slurm_each_after_the_one_before(tmp_path, monkeypatch):
    pytest.importorskip("datatrove")
    rows, held_out = synthetic(40)
    called = tmp_path / "called.txt"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(f'#!/bin/sh\necho "$@" >> {called}\nwc -l < {called}\n')
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    slurm = Scale(executor="slurm", shards=2, options={"partition": "cpu", "time": "1:00:00"})
    with pytest.raises(IncompleteRunError, match="8 stages were submitted to Slurm"):
        options = {"embedding_threshold": None, "progress": False}
        deduplicate_shards(written(rows, tmp_path), held_out, tmp_path / "out", scale=slurm, **options)
    arrays = [line for line in called.read_text().splitlines() if "RUN_OFFSET" in line]
    assert len(arrays) == 8 and sum("--dependency=afterok:" in line for line in arrays) == 7


CHILD = """
import sys
from pathlib import Path
from datasets import Dataset
from star_hf.scale.deduplicate import deduplicate_shards
from star_hf.scale.executors import Scale
from word_encoder import SlowEncoder
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    deduplicate_shards(
        sorted((folder / "in").glob("*.parquet")),
        Dataset.from_parquet(str(folder / "items.parquet")),
        folder / "out",
        scale=Scale(shards=3, options={"start_method": "fork"}),
        ngram={"A": 3},
        encoder=SlowEncoder(folder / "flag"),
        progress=False,
    )
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_does_nothing_again(tmp_path):
    pytest.importorskip("datatrove")
    rows, held_out = synthetic(300)
    rows = collected([*zip(rows["source"], rows["question"], strict=True), ("A", "where do workers on strike meet")])
    paths = written(rows, tmp_path / "in")
    held_out.to_parquet(tmp_path / "items.parquet")
    (tmp_path / "flag").touch()
    (tmp_path / "child.py").write_text(CHILD)
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    child = subprocess.Popen(
        [sys.executable, tmp_path / "child.py", tmp_path],
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    completed = tmp_path / "out" / "logs" / "encode" / "completions"
    begun = time.monotonic()
    while time.monotonic() - begun < 60 and child.poll() is None:
        if (tmp_path / "flag.begun").exists() and completed.is_dir() and len(list(completed.iterdir())) == 3:
            break
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert len(list(completed.iterdir())) == 3, "all shards but the one that waits were encoded"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("work/*/**/*") if path.is_file()}
    (tmp_path / "flag").unlink()
    options = {"ngram": {"A": 3}, "encoder": SlowEncoder(tmp_path / "flag")}
    scale = Scale(shards=3, workers=1)
    deduplicate_shards(paths, held_out, tmp_path / "out", scale=scale, progress=False, **options)
    assert before and all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert tables(tmp_path / "out") == in_one_process(rows, held_out, **options)


@pytest.mark.slow
def test_under_ray_the_rows_are_the_same(tmp_path, ray):
    rows, held_out = synthetic(300)
    options = {"ngram": NGRAM, "embedding_threshold": None}
    scale = Scale(executor="ray", shards=2, options={"mem_per_cpu_gb": 0.1})
    paths = written(rows, tmp_path)
    deduplicate_shards(paths, held_out, tmp_path / "out", scale=scale, progress=False, **options)
    assert tables(tmp_path / "out") == in_one_process(rows, held_out, **options)


@pytest.mark.slow
def test_the_papers_corpus_in_shards_is_that_of_one_process(tmp_path, shared_data):
    pytest.importorskip("datatrove")
    table = pq.read_table(shared_data / "as_read_by_star1.parquet").to_pylist()
    rows, held_out = (
        collected([(row["dataset"], row["question"]) for row in table if row["role"] == role])
        for role in ("train", "test")
    )
    options = {"ngram": NGRAM, "embedding_threshold": None}
    scale = Scale(shards=4, options={"start_method": "fork"})
    paths = written(rows, tmp_path)
    tally = deduplicate_shards(paths, held_out, tmp_path / "out", scale=scale, progress=False, **options)
    assert sum(tally.removed.values()) + tally.kept == len(rows) == 21_708
    assert tables(tmp_path / "out") == in_one_process(rows, held_out, **options)
