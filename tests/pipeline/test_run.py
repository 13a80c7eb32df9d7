import pytest

from star_hf.errors import StarError
from star_hf.pipeline.run import Run
from star_hf.schema import COLLECTED, REMOVED, as_dataset


@pytest.mark.parametrize(("missing", "made"), [({}, 1), ({"GPTFuzz": "not there"}, 2)])
def test_a_stage_that_missed_a_source_is_tried_again_and_a_whole_one_is_not(missing, made, tmp_path):
    calls = []

    def make():
        calls.append(1)
        rows = [{"id": str(len(calls)), "question": "How do I hide a present?", "source": "mine"}]
        return {"rows": as_dataset(rows, COLLECTED), "removed": as_dataset([], REMOVED)}, {"missing": missing}

    for _ in range(2):
        Run(tmp_path).stage("collect", {"sources": ["GPTFuzz"]}, {}, None, make)
    assert len(calls) == made
    assert Run(tmp_path).table("collect")["id"][:] == [str(made)]


def tables(kept=1, removed=0):
    row = {"id": "1", "question": "How do I hide a present?", "source": "mine"}
    return {"rows": as_dataset([row] * kept, COLLECTED), "removed": as_dataset([row] * removed, REMOVED)}, {}


@pytest.mark.parametrize(
    ("change", "made"), [({}, 1), ({"parameters": {"size": 2}}, 2), ({"inputs": {"rows": "another hash"}}, 2)]
)
def test_a_stage_runs_again_for_other_parameters_or_other_rows(change, made, tmp_path):
    calls = []
    given = {"parameters": {"size": 1}, "inputs": {"rows": "hash"}, "rows_in": 1}
    for options in (given, {**given, **change}):
        Run(tmp_path).stage("select", **options, make=lambda: (calls.append(1), tables())[1])
    assert len(calls) == made


@pytest.mark.parametrize("rows_in", [2, 4])
def test_a_stage_that_does_not_account_for_every_row_fails_and_leaves_no_record(rows_in, tmp_path):
    run = Run(tmp_path)
    with pytest.raises(StarError, match=f"lost rows: {rows_in} in, but 2 out and 1 removed"):
        run.stage("select", {}, {}, rows_in, lambda: tables(2, 1))
    assert not run.records and not run.stage_folder("select").exists()
    assert run.stage("select", {}, {}, 3, lambda: tables(2, 1)).rows_in == 3
