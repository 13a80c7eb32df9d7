import json

import pytest

from star_hf.errors import SourceError
from star_hf.report import write_report
from star_hf.report.training import training_section


@pytest.fixture
def folder(tmp_path):
    history = [{"step": step, "loss": 2 - step / 10, "learning_rate": 1e-5} for step in range(1, 11)]
    history += [
        {"step": 10, "eval_loss": 0.5},
        {"step": 10, "loss": float("nan")},
        {"step": 10, "train_runtime": 60.0},
    ]
    record = {
        "base_model": {"name": "org/base", "revision": "abc"},
        "method": "sft",
        "datasets": [{"path": "runs/star-1/dataset", "name": None, "revision": None, "rows": 1000}],
        "recipe": {"num_train_epochs": 5, "note": "<script>1</script>"},
        "log_history": history,
        "hardware": {"device": "cpu"},
        "seconds": 90.0,
    }
    (tmp_path / "star_training.json").write_text(json.dumps(record))
    return tmp_path


def test_the_curve_is_the_log(folder):
    section = training_section(folder)
    assert section.lead == "org/base, SFT on 1,000 rows: 10 steps in 1.5 minutes."
    loss = section.panels[0]
    assert [trace.name for trace in loss.figure.data] == ["loss", "eval loss"]
    assert loss.figure.data[0].y == tuple(2 - step / 10 for step in range(1, 11)), "no number, no point"
    assert loss.table.rows[-1] == (10, 1.0, 0.5)
    facts = dict(section.panels[-1].table.rows)
    assert facts["base model"] == "org/base at abc" and facts["data 1"] == "runs/star-1/dataset, 1,000 rows"


def test_the_page_shows_it(run, folder):
    html = write_report(run, folder / "report.html", training=folder).read_text(encoding="utf-8")
    assert 'data-figure="training-0"' in html and "&lt;script&gt;1&lt;/script&gt;" in html


@pytest.mark.parametrize("text", [None, "{", "[]", '{"base_model": {}}'])
def test_what_is_no_record_is_said(tmp_path, text):
    if text is not None:
        (tmp_path / "star_training.json").write_text(text)
    with pytest.raises(SourceError, match="star_training.json cannot be read"):
        training_section(tmp_path)
