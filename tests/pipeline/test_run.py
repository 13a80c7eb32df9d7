import pytest

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
