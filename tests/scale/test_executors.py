"""Stages one after the other: one that is not done ends the run, whatever the executor says."""

import pytest

from star_hf.errors import IncompleteRunError
from star_hf.scale import executors
from star_hf.scale.executors import Scale, Stage, run_stages


class Executor:
    """An executor that has done these ranks and then fails, or says nothing."""

    def __init__(self, count, done, error=None):
        self.count, self.done, self.error = count, done, error

    def run(self):
        if self.error:
            raise self.error

    def get_incomplete_ranks(self, skip_completed):
        return (
            [rank for rank in range(self.count) if rank not in self.done] if skip_completed else [*range(self.count)]
        )


@pytest.mark.parametrize(
    ("error", "words"), [(ZeroDivisionError("oh"), "ZeroDivisionError: oh"), (None, "see the logs")]
)
@pytest.mark.parametrize("done", [{0, 1}, set()])
def test_no_stage_begins_before_all_tasks_of_the_last_one_are_done(tmp_path, monkeypatch, error, words, done):
    begun = []

    def make(pipeline, count, scale, logs, **more):
        begun.append(logs.name)
        return Executor(count, {0, 1, 2}) if logs.name == "first" else Executor(count, done, error)

    monkeypatch.setattr(executors, "_executor", make)
    stages = [Stage(name, (print,), 3) for name in ("first", "second", "third")]
    with pytest.raises(IncompleteRunError, match=f"{3 - len(done)} of 3 tasks of 'second' are not done: {words}"):
        run_stages(stages, Scale(), tmp_path, progress=False)
    assert begun == ["first", "second"]
