from dataclasses import replace

import pytest

from star_hf.pipeline.run import Run
from star_hf.report.samples import KEPT, TWIN, _quotas, sample
from star_hf.utils.files import write_json


def test_every_reason_is_among_the_samples(run):
    outcomes = {one.outcome for one in sample(run)}
    expected = {f"{stage}: {reason}" for stage, record in run.records.items() for reason in record.removed}
    assert outcomes == {KEPT, TWIN} | expected


def test_the_whole_of_a_small_run_is_shown_once(run):
    kept = [one.id for one in sample(run) if one.outcome == KEPT]
    assert sorted(kept) == sorted(run.table("select")["id"])
    shown = sample(run)
    removed = sum(sum(record.removed.values()) for record in run.records.values())
    assert len(shown) == len(kept) + run.records["rewrite"].rows_out + removed


def test_the_choice_is_seeded(run):
    assert sample(run, 12, seed=3) == sample(run, 12, seed=3)
    assert {one.id for one in sample(run, 12, seed=3)} != {one.id for one in sample(run, 12, seed=4)}


def test_a_removed_row_brings_all_that_is_known_of_it(run):
    found = sample(run)
    below = next(one for one in found if one.outcome == "select: below_full_marks")
    assert below.thought and below.answer and below.category and min(below.score.values()) < 10
    copy = next(one for one in found if one.outcome == "deduplicate: exact_duplicate")
    assert copy.matched["text"] and copy.matched["similarity"] == 1.0
    twin = next(one for one in found if one.outcome == TWIN)
    assert twin.origin in set(run.table("select")["id"])


def test_a_failed_twin_does_not_carry_the_response_of_its_original(run):
    failed = [one for one in sample(run) if one.outcome.startswith("rewrite:")]
    assert failed and all(one == replace(one, thought=None, answer=None, score={}) for one in failed)


def test_a_run_that_stopped_early_is_sampled_as_far_as_it_came(run, tmp_path):
    import shutil

    shutil.copytree(run.folder, tmp_path / "run")
    early = Run(tmp_path / "run")
    manifest = early.manifest
    manifest["stages"] = {name: manifest["stages"][name] for name in ("collect", "deduplicate")}
    write_json(early.manifest_path, manifest)
    kept = [one for one in sample(early) if one.outcome == KEPT]
    assert len(kept) == early.records["deduplicate"].rows_out


@pytest.mark.parametrize(
    ("sizes", "total", "expected"),
    [
        ({KEPT: 1000, "a": 1000, "b": 10, "c": 1000}, 100, {KEPT: 50, "a": 20, "b": 10, "c": 20}),
        ({KEPT: 3, "a": 100}, 10, {KEPT: 3, "a": 7}),
        ({KEPT: 100, "a": 1}, 10, {KEPT: 9, "a": 1}),
        ({KEPT: 0}, 10, {KEPT: 0}),
        ({KEPT: 5, "a": 5}, 0, {KEPT: 0, "a": 0}),
    ],
)
def test_quotas_spread_what_there_is(sizes, total, expected):
    assert _quotas(sizes, total) == expected
