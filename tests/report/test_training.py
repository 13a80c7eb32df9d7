import json

import pytest

from star_hf.errors import TrainingError
from star_hf.report import write_report
from star_hf.report.training import training_section


@pytest.fixture
def folder(record, tmp_path):
    record.save(tmp_path)
    return tmp_path


def test_the_curve_is_the_log(folder):
    section = training_section(folder)
    assert section.lead == "base, SFT on 1,000 rows: 11 steps in 2.5 minutes."
    loss = section.panels[0]
    assert [trace.name for trace in loss.figure.data] == ["loss", "eval loss"]
    assert loss.figure.data[0].y == tuple(2 - step / 10 for step in range(1, 11)), "no number, no point"
    assert loss.table.head == ("step", "loss", "eval loss") and loss.table.rows[-1] == (10, 1.0, 0.5)
    assert loss.text.endswith("From 1.9 to 1.")


def test_the_recipe_says_what_was_given_and_leaves_out_what_was_not(folder):
    assert training_section(folder).panels[-1].table.rows == (
        ("base model", "", "org/base at abc"),
        ("mode", "", "recommended"),
        ("data", "train", "runs/star-1/dataset, 1,000 rows"),
        ("recipe", "num train epochs", "5"),
        ("", "bf16", "yes"),
        ("", "note", "<script>1</script>"),
        ("preflight", "tokens", "1,234,567"),
        ("", "memory gib", "0.004612"),
        ("hardware", "device", "cpu"),
    )


def test_the_page_shows_it(run, folder):
    html = write_report(run, folder / "report.html", training=folder).read_text(encoding="utf-8")
    assert 'data-figure="training-0"' in html and "&lt;script&gt;1&lt;/script&gt;" in html


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", " is damaged: it is not JSON"),
        ("[]", " holds a list, expected an object"),
        ("null", " holds a NoneType, expected an object"),
        ('{"base_model": {}}', ": `base_model.name` is missing"),
    ],
)
def test_what_is_no_record_is_said(tmp_path, text, problem):
    (tmp_path / "star_training.json").write_text(text)
    with pytest.raises(TrainingError, match=f"star_training.json{problem}"):
        training_section(tmp_path)


def test_where_there_is_no_record_is_said(folder):
    for place in (folder / "elsewhere", folder / "star_training.json"):
        with pytest.raises(TrainingError, match="has no star_training.json"):
            training_section(place)


def test_a_training_that_logged_nothing_has_a_recipe(folder):
    path = folder / "star_training.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "log_history": [], "seconds": 1.2}))
    section = training_section(folder)
    assert section.lead == "base, SFT on 1,000 rows: 0 steps in 1.2 seconds."
    assert [panel.title for panel in section.panels] == ["Recipe"]
