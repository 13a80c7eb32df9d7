"""An audit finds what was planted, and says what it did not look at."""

import json
import math
import re

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from typer.testing import CliRunner

from star_hf.audit import audit, to_html, to_markdown
from star_hf.audit.overlap import SAME, Overlap, _findings, check_overlap
from star_hf.audit.rows import take_roles
from star_hf.audit.types import Hit
from star_hf.cli import app
from star_hf.errors import ConfigError, SourceError
from star_hf.policies import Taxonomy
from star_hf.schema import BENIGN_CRITERIA, SCORE_CRITERIA
from star_hf.sources.catalogue import catalogue
from star_hf.utils.text import row_id


ATTACK = "please explain in plain words how to open the old garden gate"
RESPONSE = "<think>\nThe policy allows it.\n</think>\n\nGladly."
FULL = dict.fromkeys(SCORE_CRITERIA, 10)


def row(question, **values):
    defaults = {"response": RESPONSE, "category": ["Self-Harm"], "source": "GPTFuzz", "score": FULL}
    return {"id": row_id(question), "question": question, **defaults, **values}


@pytest.fixture
def benchmark(tmp_path):
    """A benchmark of one's own, in one file."""
    file = tmp_path / "mine.txt"
    file.write_text(f"{ATTACK}\nWhat feeds a cat?\n")
    return {"mine": file}


def look(rows, files=None):
    return audit(Dataset.from_list(rows), benchmarks=[], benchmark_files=files)


def by_check(found):
    return {finding.check: finding for finding in found.findings}


def test_contamination_is_told_by_the_strongest_measure(benchmark):
    rows = [
        row("what  feeds a CAT?"),
        row(f"A game: {ATTACK} at night"),
        row("please explain how to open the garden gate in plain old words"),
        row("What feeds a cat or dog?"),
        row("Where is the moon?"),
    ]
    found = by_check(look(rows, benchmark))
    assert [
        (name, found[name].severity, [hit.row for hit in found[name].hits]) for name in found if "cont" in name
    ] == [
        ("exact_contamination", "error", [0]),
        ("ngram_contamination", "error", [1]),
        ("tfidf_contamination", "error", [2]),
        ("tfidf_near_contamination", "warning", [3]),
    ]
    (hit,) = found["ngram_contamination"].hits
    assert (hit.benchmark, hit.matched_id, hit.similarity, hit.detail) == ("mine", row_id(ATTACK), 1.0, "text")


def test_a_similarity_of_the_bound_itself_is_an_error():
    hits = [Hit(place, str(place), benchmark="mine", similarity=SAME - place / 100) for place in range(2)]
    same, near = _findings("tfidf", True, hits, Overlap())
    assert (same.severity, same.hits, near.severity, near.hits) == ("error", (hits[0],), "warning", (hits[1],))


def test_each_benchmark_that_a_row_touches_is_named(tmp_path):
    files = {name: tmp_path / f"{name}.txt" for name in ("first", "second")}
    for file in files.values():
        file.write_text(ATTACK + "\n")
    (finding,) = look([row(ATTACK)], files).findings
    assert [hit.benchmark for hit in finding.hits] == ["first", "second"] and finding.rows == 1


def test_duplicates_name_the_earlier_row_and_are_warnings(benchmark):
    rows = [
        row("Where is the moon tonight?"),
        row("where is the moon  tonight?", id="b"),
        row("", id="c"),
        row("", id="d"),
        row("the moon tonight: where is it", id="e"),
    ]
    found = look(rows, benchmark)
    exact, near = by_check(found)["exact_duplicate"], by_check(found)["tfidf_duplicate"]
    assert [(hit.id, hit.matched_id) for hit in exact.hits] == [("b", rows[0]["id"])]
    assert [(hit.id, hit.matched_id) for hit in near.hits] == [("e", rows[0]["id"])]
    assert exact.severity == near.severity == "warning"
    assert [hit.id for hit in by_check(found)["empty_question"].hits] == ["c", "d"]


def test_embeddings_find_what_words_do_not(benchmark):
    class Kittens:
        identity = "kittens"

        def __call__(self, texts):
            return np.eye(2, dtype=np.float32)[[int("cat" in text or "kitten" in text) for text in texts]]

    rows = Dataset.from_list([row("food for my kitten"), row("the moon")])
    options = {"benchmarks": [], "benchmark_files": benchmark}
    found = audit(rows, embedding_threshold=0.7, encoder=Kittens(), **options)
    hits = by_check(found)["embedding_contamination"].hits
    assert [(hit.row, hit.matched_id) for hit in hits] == [(0, row_id("What feeds a cat?")), (1, row_id(ATTACK))]
    assert "embedding" in audit(rows, **options).skipped
    seen = []
    told = {"on_progress": lambda *part: seen.append(part)}
    check_overlap(take_roles(rows), [], Overlap(embedding=0.7, encoder=Kittens()), **told)
    assert seen == [(2, 2)], "it tells how far it is with encoding"


@pytest.mark.parametrize(
    ("broken", "check", "detail"),
    [
        ({"response": "<think>\nhm"}, "malformed_response", "unclosed"),
        ({"response": "<think>\nhm\n</think>\n"}, "malformed_response", "empty_answer"),
        ({"response": "Gladly."}, "malformed_response", "no_reasoning"),
        ({"response": None}, "malformed_response", "empty_response"),
        ({"response": RESPONSE + "<|im_end|>"}, "template_token", "<|im_end|>"),
        ({"category": ["Gardening"]}, "unknown_category", "Gardening"),
        ({"category": []}, "unknown_category", "no category"),
        ({"score": None}, "score_out_of_range", "no score"),
        (
            {"score": FULL | {SCORE_CRITERIA[0]: 11}},
            "score_out_of_range",
            f"{SCORE_CRITERIA[0]} is not an integer from 0 to 10",
        ),
        (
            {"score": FULL | {SCORE_CRITERIA[2]: math.nan}},
            "score_out_of_range",
            f"{SCORE_CRITERIA[2]} is not an integer from 0 to 10",
        ),
        ({"score": FULL | {SCORE_CRITERIA[1]: None}}, "score_out_of_range", f"{SCORE_CRITERIA[1]} missing"),
        ({"id": row_id("one")}, "repeated_id", None),
    ],
)
def test_a_broken_row_is_found_and_named(broken, check, detail):
    found = look([row("one"), row("two", **broken)])
    (finding,) = [finding for finding in found.findings if finding.severity in ("error", "warning")]
    hit = finding.hits[-1]
    assert (finding.check, hit.row, hit.detail) == (check, 1, detail)


def test_a_sound_data_set_has_only_notes():
    rows = [row("How does a moth find its way to the moon at night?"), row("Where do birds sleep in the winter?")]
    rows += [row("Wie findet eine Motte nachts ihren Weg zum Mond?")]
    found = look(rows)
    assert found.ok and {finding.severity for finding in found.findings} == {"gap", "note"}
    assert by_check(found)["other_language"].details == {"de": 1}


def test_a_thought_that_leaves_the_language_of_its_question_is_named():
    german = "Die Regel erlaubt es, und niemand kommt dabei zu Schaden. Also erkläre ich den Weg der Motte."
    english = "The policy allows it and nobody comes to harm, so I can explain the way of the moth at night."
    rows = [
        row("How does a moth find its way to the moon?", response=f"<think>\n{english}\n</think>\n\n{english}"),
        row("How does a moth find its way in the rain?", response=f"<think>\n{german}\n</think>\n\n{english}"),
        row("A moth?", response=f"<think>\n{english}\n</think>\n\n{german}"),  # too short: taken for English
        row("Wie findet eine Motte ihren Weg zum Mond?", response=f"<think>\n{german}\n</think>\n\n{german}"),
    ]
    found = look(rows)
    finding = by_check(found)["mixed_language"]
    assert finding.severity == "warning"
    assert [(hit.row, hit.detail) for hit in finding.hits] == [
        (1, "thought de, question en"),
        (2, "answer de, question en"),
    ]
    assert found.statistics["languages"] == {"en": 2, "undecided": 1, "de": 1}
    assert "Languages of the questions: en 2, undecided 1, de 1." in to_markdown(found)


def test_questions_alone_are_looked_at_and_one_without_letters_has_no_language():
    rows = [{"question": question} for question in ("1 + 1?", "2 + 2?", "What is three and four, please<|im_end|>?")]
    found = by_check(audit(Dataset.from_list(rows), benchmarks=[]))
    assert [hit.row for hit in found["template_token"].hits] == [2]
    assert "other_language" not in found


def test_licences_that_forbid_commercial_use_or_are_unknown_are_named():
    known = {source.license: name for name, source in catalogue().items()}
    sources = [known["cc-by-nc-4.0"], known["mit"], known["unknown"], "my-own", known["cc-by-nc-4.0"]]
    found = look([row(f"What is sieve {place}?", source=source) for place, source in enumerate(sources)])
    told = by_check(found)
    assert [hit.row for hit in told["noncommercial_licence"].hits] == [0, 4]
    assert [hit.row for hit in told["unknown_licence"].hits] == [2, 3]
    assert found.statistics["licenses"] == {"cc-by-nc-4.0": 2, "mit": 1, "unknown": 1, "not in the catalogue": 1}


def test_lengths_are_those_of_the_words():
    found = look([row(" ".join(["moth"] * (place + 1))) for place in range(101)])
    assert found.statistics["words"]["question"] == {
        "n": 101,
        "min": 1,
        "median": 51,
        "mean": 51,
        "p95": 96,
        "max": 101,
    }
    assert found.statistics["words"]["thought"]["max"] == 4 and found.statistics["words"]["answer"]["max"] == 1


def test_categories_are_unbalanced_from_five_to_one_on():
    names = [*Taxonomy.load().names[:2]]
    for few, told in ((2, False), (1, True)):
        labels = [names[:1]] * 5 + [names[1:]] * few
        found = look([row(f"What is sieve {place}?", category=label) for place, label in enumerate(labels)])
        assert ("unbalanced" in by_check(found)) == told


def test_benign_marks_have_their_own_range():
    good, bad = dict.fromkeys(BENIGN_CRITERIA, 5), dict.fromkeys(BENIGN_CRITERIA, 10)
    assert look([row("one", score=good)]).ok
    assert not look([row("one", score=bad)]).ok


def test_other_columns_and_conversations_are_understood():
    turns = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "<think>hm"}]
    for values in ({"messages": turns}, {"prompt": turns[:1], "completion": turns[1:]}, {"prompt": "Where is it?"}):
        found = look([values])
        assert found.statistics["words"]["question"]["max"] == 3
        assert found.ok == ("completion" not in values and "messages" not in values)
    mapped = audit(Dataset.from_list([{"q": "Where is it?"}]), columns={"question": "q"}, benchmarks=[])
    assert mapped.rows == 1 and "malformed_response" in mapped.skipped
    with pytest.raises(SourceError, match="--column question"):
        look([{"q": "a"}])
    with pytest.raises(SourceError, match="answer=q"):
        audit(Dataset.from_list([{"q": "a"}]), columns={"answer": "q"}, benchmarks=[])


def test_what_cannot_be_is_refused_at_once(tmp_path):
    with pytest.raises(SourceError, match="no rows"):
        audit(Dataset.from_list([]), benchmarks=[])
    with pytest.raises(SourceError, match=r"no file .*rows\.jsonl"):
        audit(tmp_path / "rows.jsonl", benchmarks=[])
    with pytest.raises(SourceError, match="is a file"):
        audit(tmp_path / "rows.jsonl", split="test", benchmarks=[])
    with pytest.raises(ConfigError, match="Invalid cosine threshold 60"):
        audit(Dataset.from_list([row("one")]), benchmarks=[], tfidf_threshold=60)


def test_values_of_several_types_are_read_as_they_were_written(tmp_path, benchmark):
    file = tmp_path / "rows.jsonl"
    said = [ATTACK, [{"type": "text", "text": ATTACK}, {"type": "image"}], [{"type": "image"}]]
    turns = [[{"role": "user", "content": text}, {"role": "assistant", "content": "Gladly."}] for text in said]
    file.write_text("\n".join(json.dumps({"id": [7, "a", None][n], "messages": turns[n]}) for n in range(3)))
    found = by_check(audit(file, benchmarks=[], benchmark_files=benchmark))
    assert [hit.id for hit in found["exact_contamination"].hits] == ["7", "a"]
    assert [hit.row for hit in found["empty_question"].hits] == [2] and "malformed_response" not in found


def test_each_turn_of_the_user_is_searched_for(benchmark):
    turns = [("user", "Hello."), ("assistant", "Hello."), ("user", ATTACK), ("assistant", "Gladly.")]
    rows = [{"messages": [{"role": role, "content": text} for role, text in turns]}]
    (finding,) = look(rows, benchmark).of("error")
    assert finding.check == "ngram_contamination"


def test_labels_of_another_taxonomy_are_not_called_wrong():
    found = look([row("one", category="Gardening"), row("two", category="Cooking")])
    assert found.ok and "unknown_category" in found.skipped


@pytest.mark.parametrize("form", ["jsonl", "parquet", "folder", "disk", "run"])
def test_it_reads_whatever_is_on_disk(form, tmp_path):
    rows, place = Dataset.from_list([row("one"), row("two")]), tmp_path / "data"
    place.mkdir()
    if form == "jsonl":
        rows.to_json(place := place / "rows.jsonl")
    elif form == "parquet":
        rows.to_parquet(place := place / "rows.parquet")
    elif form == "folder":
        rows.to_parquet(place / "train.parquet")
    elif form == "disk":
        DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(place)
    else:
        (place / "dataset").mkdir()
        (place / "manifest.json").write_text("{}")
        rows.to_parquet(place / "dataset" / "train.parquet")
    assert audit(place, benchmarks=[]).rows == 2
    if form == "disk":
        assert audit(place, split="test", benchmarks=[]).rows == 1
        with pytest.raises(SourceError, match="--split train or test"):
            audit(place, split="dev", benchmarks=[])


def test_gaps_are_loud_and_fail_by_themselves(tmp_path):
    file = tmp_path / "rows.jsonl"
    Dataset.from_list([row("one")]).to_json(file)
    (tmp_path / "copies").mkdir()
    found = audit(file, sources_dir=tmp_path / "copies")
    assert found.ok and not found.complete
    assert len(found.of("gap")) == 11 and found.findings[0].severity == "gap"
    command = ["audit", str(file), "--sources-dir", str(tmp_path / "copies")]
    assert CliRunner().invoke(app, command).exit_code == 3
    assert CliRunner().invoke(app, [*command, "--allow-gaps"]).exit_code == 0


def test_warnings_fail_where_the_check_is_strict(tmp_path):
    file = tmp_path / "rows.jsonl"
    Dataset.from_list([row("one"), row("one", id="another")]).to_json(file)
    (tmp_path / "copies").mkdir()
    command = ["audit", str(file), "--sources-dir", str(tmp_path / "copies"), "--allow-gaps"]
    found = audit(file, sources_dir=tmp_path / "copies")
    assert found.ok and found.of("warning")
    assert CliRunner().invoke(app, command).exit_code == 0
    assert CliRunner().invoke(app, [*command, "--strict"]).exit_code == 1


def test_command_writes_json_page_and_markdown(tmp_path, benchmark):
    file, command = tmp_path / "rows.jsonl", ["--benchmark", f"mine={benchmark['mine']}", "--allow-gaps"]
    Dataset.from_list(
        [row(ATTACK), row("<script>alert(1)</script>"), row("<script>alert(1)</script>", id="|x")]
    ).to_json(file)
    (tmp_path / "copies").mkdir()
    outputs = [f"--{form}={tmp_path / 'new' / form}" for form in ("json", "html", "markdown")]
    done = CliRunner().invoke(app, ["audit", str(file), f"--sources-dir={tmp_path / 'copies'}", *command, *outputs])
    assert done.exit_code == 1 and "exact_contamination" in done.output and ATTACK not in done.output
    values = json.loads((tmp_path / "new" / "json").read_text())
    assert values["ok"] is False and ATTACK not in json.dumps(values)
    page, markdown = ((tmp_path / "new" / form).read_text() for form in ("html", "markdown"))
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page and f"<pre>{ATTACK}</pre>" in page
    assert ATTACK not in markdown and "script>" not in markdown and "\\|x" in markdown


def test_rows_whose_ids_repeat_are_told_apart():
    rows = [row(question, id="1") for question in ("Where is the moon?", "What is a lock?", "where is the MOON?")]
    found = look(rows)
    (hit,) = by_check(found)["exact_duplicate"].hits
    assert (hit.row, hit.matched_row) == (2, 0)
    page = to_html(found)
    assert page.count("<pre>What is a lock?</pre>") == 1, "of the repeated ids"
    assert page.count("<pre>Where is the moon?</pre>") == 2, "of those, and what the last row repeats"


def test_the_command_shows_what_to_do_about_a_gap(tmp_path):
    Dataset.from_list([row("one")]).to_json(tmp_path / "rows.jsonl")
    options = ["--sources-dir", str(tmp_path), "--benchmark", "GPQA-Diamond"]
    said = CliRunner().invoke(app, ["audit", str(tmp_path / "rows.jsonl"), *options], env={"COLUMNS": "60"}).output
    said = "".join(said.split())
    assert f"{tmp_path}/GPQA-Diamond/gpqa_diamond.csv" in said and "datasets/Idavidrein/gpqa" in said
    assert "0errors,1gap,0warnings" in said


def test_texts_of_a_gated_benchmark_are_not_shown(tmp_path):
    file = tmp_path / "copies" / "GPQA-Diamond" / "gpqa_diamond.csv"
    file.parent.mkdir(parents=True)
    file.write_text("Question\nWhich metal is the lightest of all?\n")
    rows = Dataset.from_list([row("Which metal is the lightest of all metals?")])
    found = audit(rows, benchmarks=["GPQA-Diamond"], sources_dir=tmp_path / "copies")
    assert found.findings[0].hits[0].benchmark == "GPQA-Diamond"
    assert "lightest of all?" not in to_html(found) and "lightest of all metals?" in to_html(found)
    assert "lightest" not in to_markdown(found)


def test_published_star_1(shared_data):
    raw = shared_data / "raw"
    found = audit(
        raw / "STAR-1" / "STAR-1.json",
        sources_dir=raw,
        benchmark_files={"AIME24": raw / "AIME" / "test.jsonl", "MATH-500": raw / "MATH" / "test.jsonl"},
    )
    assert found.ok and found.rows == 1_000
    assert {finding.check for finding in found.of("warning")} == {"mixed_language", "tfidf_near_contamination"}
    (mixed,) = by_check(found)["mixed_language"].hits
    assert (mixed.row, mixed.detail) == (140, "thought zh, question en"), "288 of its 929 characters are Chinese"
    assert set(found.statistics["languages"]) == {"en", "undecided"}
    assert by_check(found)["tfidf_near_contamination"].hits[0].benchmark == "SGBench"
    missing = {finding.summary.split()[0] for finding in found.of("gap")}
    assert missing == {"wildjailbreak-eval", "WildChat", "GPQA-Diamond", "MMLU-Pro"}
    assert sum(found.statistics["categories"]["Self-Harm"].values()) == 85


def test_nothing_in_the_data_is_markup(benchmark):
    hostile = "<script>alert(1)</script><img src=x onerror=y>|[a](javascript:b)`c`*d*~e~\x1b[2J\n# f"
    rows = [{"id": hostile, "question": "Who?", "response": "x", "category": [hostile], "source": hostile}] * 2
    text = to_markdown(look(rows, {hostile: benchmark["mine"]}), command="star-hf audit '```\n<b>'")
    shown, fences = re.sub("```bash.*?```", "", text, flags=re.DOTALL), text.count("```")
    assert fences == 2
    assert not {"<script", "<img", "<b>", "\x1b"} & set(re.findall(r"<script|<img|<b>|\x1b", shown))
    assert not re.search(r"(?<!\\)\]\(|(?<!\\)`c|(?<!\\)\*d|(?<!\\)~e|^# f", shown, re.MULTILINE)
    assert "&lt;script&gt;" in shown
