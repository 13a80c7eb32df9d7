"""Steps as functions of `Dataset.map`: columns, failures, fingerprints, processes, interruptions."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import dill
import pytest
from datasets import Dataset, DatasetDict, Features, Value, fingerprint
from datasets.fingerprint import Hasher

from model_server import ModelServer, Reply, question_of, star_answers
from star_hf import (
    BenignRewriter,
    BenignScorer,
    BenignTeacher,
    Budget,
    Classifier,
    FullMarks,
    Journal,
    NotLike,
    Questions,
    Scorer,
    Taxonomy,
    Teacher,
    Usable,
    classify,
    reason,
    score,
)
from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.llm import Price
from star_hf.policies import Prompts
from star_hf.schema import BENIGN_CRITERIA, COLLECTED, SCORE_CRITERIA, SCORED


KEY = "sk-not-a-real-key"
HELD_OUT = ["How do I misuse jokes?"]


@pytest.fixture(autouse=True)
def no_warning(monkeypatch):
    """`datasets` warns once for a function that it cannot hash."""
    monkeypatch.setattr(fingerprint, "fingerprint_warnings", {})
    yield
    assert not fingerprint.fingerprint_warnings


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


def questions(count):
    return Dataset.from_dict({"prompt": [f"How do I misuse locks number {n}?" for n in range(count)]})


def rows_of(count):
    return questions(count).map(Questions("test", "prompt"), batched=True, remove_columns=["prompt"])


def unless(failing, reply, answer=star_answers):
    """The rule of a server that answers, but for one question."""
    return lambda body, before: reply if question_of(body) == failing else answer(body, before)


def test_a_whole_pipeline_gives_the_rows_of_the_functions_with_an_outcome(endpoint, path):
    with ModelServer(star_answers) as server:
        model = endpoint(server)
        rows = questions(40).map(Questions("test", "prompt"), batched=True, remove_columns=["prompt"])
        rows = rows.filter(Usable()).filter(NotLike(HELD_OUT))
        rows = rows.map(Classifier(model, path), batched=True).filter(Usable())
        rows = rows.map(Teacher(model, path), batched=True).map(Scorer(model, path), batched=True)
        sent = len(server.requests)
        with Journal(path) as journal:
            outcome = classify(rows_of(40).filter(NotLike(HELD_OUT)), model, journal, progress=False)
            outcome = score(reason(outcome.rows, model, journal, progress=False).rows, model, journal, progress=False)
        assert len(server.requests) == sent > 80
    rows = rows.filter(Usable(), batched=True).select_columns(list(SCORED))
    assert rows.features == SCORED
    assert 0 < len(rows) < 40 and rows.to_list() == outcome.rows.to_list()
    kept = rows.filter(FullMarks())
    assert 0 < len(kept) < len(rows) and all(set(row["score"].values()) == {10} for row in kept)
    assert kept.to_list() == rows.filter(FullMarks(), batched=True).to_list()


def test_a_row_that_failed_stays_with_the_failures_name_and_is_not_asked_about_again(endpoint, path):
    failing = questions(3)["prompt"][1]
    with ModelServer(unless(failing, Reply("{", finish_reason="length"))) as server:
        options = {"batched": True, "batch_size": 1}
        rows = rows_of(3).map(Classifier(endpoint(server), path, max_unusable=0.5), **options)
        assert rows["failure"][:] == [None, "truncated", None] and rows["category"][1] is None
        assert rows.features["failure"] == Value("string")
        sent = len(server.requests)
        rows = rows.map(Teacher(endpoint(server), path), batched=True)
        assert len(server.requests) == sent + 2
        assert rows["failure"][:] == [None, "truncated", None] and rows["response"][1] is None
        assert len(rows.filter(Usable())) == len(rows.filter(Usable(), batched=True)) == 2


def test_failures_beyond_the_accepted_share_of_all_rows_so_far_end_the_map(endpoint, path):
    prompts = questions(8)["prompt"][:]
    with ModelServer(unless(prompts[6], "prose", unless(prompts[7], "prose"))) as server:
        step = Classifier(endpoint(server), path, max_unusable=0.15, max_reasks=0)
        with pytest.raises(IncompleteRunError, match="2 of 8 answers are unusable"):
            rows_of(8).map(step, batched=True, batch_size=7)
    assert 0 < len(rows_of(8).select(range(7)).map(step, batched=True).filter(Usable())) == 6


def test_rows_that_no_category_fits_are_named(endpoint, path):
    with ModelServer(lambda body, before: '{"category": ["Other"]}') as server:
        rows = rows_of(2).map(Classifier(endpoint(server), path), batched=True)
        assert rows["failure"][:] == ["other_category"] * 2 and rows["category"][0] == ["Other"]


def test_a_response_without_both_parts_is_named_and_not_judged(endpoint, path):
    rows = rows_of(1).add_column("category", [["Self-Harm"]]).add_column("response", ["no thought"])
    with ModelServer(star_answers) as server:
        rows = rows.map(Scorer(endpoint(server), path), batched=True)
        assert rows["failure"][:] == ["no_reasoning"] and rows["score"][:] == [None] and not server.requests
    assert rows.features["score"] == SCORED["score"]


def test_columns_have_their_type_though_the_first_batch_has_no_value(endpoint, path):
    rows = Dataset.from_dict({"prompt": ["", "What is a lock?", "x" * 30]})
    rows = rows.map(Questions("test", "prompt", max_chars=20), batched=True, batch_size=1)
    assert rows["failure"][:] == ["empty", None, "too_long"]
    rows = rows.remove_columns("prompt").add_column("category", [["Self-Harm"]] * 3)
    with ModelServer(star_answers) as server:
        rows = rows.map(Teacher(endpoint(server), path), batched=True, batch_size=1)
    assert rows.features["response"] == Value("string") and len(rows["response"][1]) > 0


def test_a_twin_is_linked_to_its_origin_and_gets_scores_of_its_own(endpoint, path):
    def model(body, before):
        text = json.dumps(body)
        if "response_format" not in body:
            return "<think>\nFine.\n</think>\n\nGladly."
        if BENIGN_CRITERIA[1] in text:
            return json.dumps(dict.fromkeys(BENIGN_CRITERIA, 5))
        old = question_of(body)
        return json.dumps({"question": old.upper() if "0" in old else old.replace("misuse", "use")})

    grades = dict.fromkeys(SCORE_CRITERIA, 10)
    origins = rows_of(2).add_column("category", [["Self-Harm"]] * 2).add_column("response", ["<think>a</think>b"] * 2)
    origins = origins.add_column("score", [grades, grades])
    with ModelServer(model) as server:
        twins = origins
        for step in (BenignRewriter, BenignTeacher, BenignScorer):
            twins = twins.map(step(endpoint(server), path), batched=True)
    assert twins["failure"][:] == ["unchanged", None]
    assert twins["origin_id"][:] == origins["id"][:] and twins["id"][0] == origins["id"][0] != twins["id"][1]
    assert twins["score"][:] == [None, dict.fromkeys(BENIGN_CRITERIA, 5)]
    assert len(twins.filter(FullMarks(5, BENIGN_CRITERIA))) == 1


STEPS = """
import sys
from datasets.fingerprint import Hasher
from star_hf import *
model = Endpoint(model="m", base_url="http://127.0.0.1:9/v1", temperature=0)
kinds = Classifier, Teacher, Scorer, BenignRewriter, BenignTeacher, BenignScorer
with Journal(sys.argv[1]) as journal:
    steps = [kind(model, journal) for kind in kinds]
    print(*map(Hasher.hash, [*steps, Questions("a"), Usable(), FullMarks(), NotLike(["a b", "c d"])]))
"""


def test_fingerprints_are_the_same_in_other_processes_and_places_and_with_another_key(tmp_path):
    def hashes(folder, key):
        (tmp_path / folder).mkdir()
        environment = {**os.environ, "OPENAI_API_KEY": key, "PYTHONHASHSEED": str(len(folder))}
        command = [sys.executable, "-c", STEPS, str(tmp_path / folder / "journal.sqlite")]
        options = {"cwd": tmp_path / folder, "env": environment, "capture_output": True, "text": True}
        return subprocess.run(command, check=True, **options).stdout.split()

    one, two = hashes("a", "sk-one"), hashes("bc", "sk-two")
    assert one == two and len(set(one)) == len(one) == 10


def test_use_does_not_change_a_fingerprint(endpoint, path):
    like = NotLike(HELD_OUT)
    with ModelServer(star_answers) as server, Journal(path) as journal:
        step = Classifier(endpoint(server), journal)
        before = Hasher.hash(step), Hasher.hash(like), Hasher.hash(pickle.loads(pickle.dumps(step)))
        rows_of(2).filter(like).map(step, batched=True)
        assert before == (Hasher.hash(step), Hasher.hash(like), Hasher.hash(step))


def test_whatever_changes_the_columns_changes_the_fingerprint(endpoint, path, tmp_path):
    (tmp_path / "prompts").mkdir()
    for name, text in Prompts.load().sources:
        if name == "reason":
            (tmp_path / "prompts" / "reason.j2").write_text(text.replace("{% block user %}", "{% block user %}Hello."))
    from star_hf.policies.taxonomy import STAR_8

    edited = tmp_path / "edited.yaml"
    edited.write_text(STAR_8.read_text("utf-8").replace("Treat signs of risk as real.", "Take them seriously."))
    with ModelServer(star_answers) as server:
        model = endpoint(server)
    step = Hasher.hash(Teacher(model, path))
    others = [
        Teacher(model.model_copy(update={"temperature": 0.5}), path),
        Teacher(model.model_copy(update={"model": "other"}), path),
        Teacher(model, path, prompts=Prompts.load(tmp_path / "prompts")),
        Teacher(model, path, taxonomy=Taxonomy.load(edited)),
        Teacher(model, path, max_reasks=1),
        Teacher(model, path, max_unusable=0.5),
        Teacher(model, path, accept_unavailable=True),
    ]
    assert len({step, *map(Hasher.hash, others)}) == 1 + len(others)
    assert step == Hasher.hash(Teacher(model.model_copy(update={"concurrency": 2}), tmp_path / "other.sqlite"))
    filters = [FullMarks(), FullMarks(9), NotLike(["a"]), NotLike(["b"]), NotLike(["a"], tfidf_threshold=0.5)]
    assert len(set(map(Hasher.hash, filters))) == len(filters)
    assert Hasher.hash(NotLike(["a", "b"])) == Hasher.hash(NotLike(["b", "a", "a"]))


def test_a_second_map_is_read_from_the_cache_of_datasets(endpoint, path, tmp_path):
    rows_of(3).to_parquet(tmp_path / "rows.parquet")
    rows = Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache"))
    with ModelServer(star_answers) as server:
        model = endpoint(server)
        first = rows.map(Classifier(model, path), batched=True)
    again = rows.map(Classifier(model, tmp_path / "moved.sqlite"), batched=True)
    assert again.cache_files == first.cache_files and not (tmp_path / "moved.sqlite").exists()


@pytest.mark.parametrize("dumps", [pickle.dumps, dill.dumps])
def test_a_pickle_has_no_key_and_no_connection_and_its_copy_works(endpoint, path, dumps):
    with ModelServer(star_answers) as server, Journal(path) as journal:
        step = Classifier(endpoint(server), journal)
        rows = rows_of(3).map(step, batched=True)
        data = dumps(step)
        assert KEY.encode() not in data and b"sqlite3" not in data
        assert rows_of(3).map(pickle.loads(data), batched=True).to_list() == rows.to_list()
        assert len(server.requests) == 3 == len(journal)


def test_two_processes_give_the_rows_of_one_and_pay_once(endpoint, path, tmp_path):
    with ModelServer(star_answers) as server, Journal(tmp_path / "one.sqlite") as journal:
        model = endpoint(server)
        one = rows_of(30).map(Classifier(model, journal), batched=True)
        server.paid.clear()
        with Journal(path) as other:
            two = rows_of(30).map(Classifier(model, other), batched=True, num_proc=2, batch_size=4)
            assert len(other) == 30
        assert two.to_list() == one.to_list() and two.features == one.features
        assert len(server.paid) == 30 and set(server.paid.values()) == {1}


def test_a_forked_process_opens_the_journal_itself(endpoint, path):
    with ModelServer(star_answers) as server:
        with Journal(path) as journal:
            step = Classifier(endpoint(server), journal)
        step._process -= 1  # as in a process that was forked from the one that made the step
        rows = rows_of(2).map(step, batched=True, new_fingerprint="forked")
        assert rows["failure"][:] == [None, None] and len(server.requests) == 2


def test_an_error_of_a_worker_arrives(endpoint, path):
    with ModelServer(lambda body, before: Reply(status=401, error={"message": "no"})) as server:
        with pytest.raises(ConfigError, match="401|key"):
            rows_of(4).map(Classifier(endpoint(server), path), batched=True, num_proc=2)


def test_a_budget_is_not_copied_to_other_processes(endpoint, path):
    with ModelServer(star_answers) as server:
        model = endpoint(server).model_copy(update={"price": Price(input=1, output=1)})
        step = Classifier(model, path, budget=Budget(10.0))
        with pytest.raises(ConfigError, match="one process"):
            rows_of(4).map(step, batched=True, num_proc=2)
        assert not server.requests
        assert len(rows_of(4).map(step, batched=True)) == 4
        assert step.budget.spent_usd > 0


def test_a_dataset_dict_and_a_stream_give_the_same_rows(endpoint, path):
    rows = rows_of(7)
    with ModelServer(star_answers) as server:
        step = Classifier(endpoint(server), path)
        expected = rows.map(step, batched=True).filter(Usable()).to_list()
        splits = DatasetDict(a=rows.select(range(3)), b=rows.select(range(3, 7))).map(step, batched=True)
        assert [row for split in splits.filter(Usable()).values() for row in split] == expected
        stream = rows.to_iterable_dataset().map(step, batched=True, batch_size=3)
        assert list(stream.filter(Usable())) == list(stream.filter(Usable(), batched=True)) == expected
        assert len(server.requests) == 7
        stream = rows.to_iterable_dataset().filter(NotLike([rows[0]["question"]]))
        assert len(list(stream)) == len(rows.filter(NotLike([rows[0]["question"]]))) < 7


def test_explicit_features_are_taken(endpoint, path):
    with ModelServer(star_answers) as server:
        step = Classifier(endpoint(server), path)
        features = Features({**rows_of(1).features, **step.added})
        assert rows_of(2).map(step, batched=True, features=features).features == features
    assert Features({name: features[name] for name in COLLECTED}) == COLLECTED


@pytest.mark.parametrize(
    ("step", "options", "match"),
    [
        (lambda model, path: Classifier(model, path), {}, "batched=True"),
        (lambda model, path: Classifier(model), {"batched": True}, r"Classifier\(endpoint, journal\)"),
        (lambda model, path: Classifier(), {"batched": True}, r"Classifier\(endpoint, journal\)"),
        (lambda model, path: Questions("test"), {}, "batched=True"),
        (lambda model, path: Questions("test", "text"), {"batched": True}, "no column `text`"),
    ],
)
def test_what_cannot_work_is_said(endpoint, path, step, options, match):
    with ModelServer(star_answers) as server, pytest.raises(ConfigError, match=match):
        rows_of(2).map(step(endpoint(server), path), **options)


def test_a_filter_without_its_column_says_what_to_map_first():
    with pytest.raises(ConfigError, match="`Scorer`"):
        rows_of(1).filter(FullMarks())
    with pytest.raises(ConfigError, match="`failure`"):
        questions(1).filter(Usable())
    with pytest.raises(ConfigError, match="`question`"):
        questions(1).map(Classifier(), batched=True)


def test_formatted_rows_are_mapped_too(endpoint, path):
    with ModelServer(star_answers) as server:
        step = Classifier(endpoint(server), path)
        expected = rows_of(3).map(step, batched=True)["category"][:]
        formatted = rows_of(3).with_format("numpy").map(step, batched=True).with_format(None)
        assert formatted["category"][:] == expected and len(server.requests) == 3


def test_the_readmes_pipeline_runs_as_written(monkeypatch, tmp_path):
    readme = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^## From Python\n.*?^```python\n(.*?)^```", readme, re.S | re.M)
    with ModelServer(star_answers) as server:
        named = f'Endpoint(base_url="{server.url}", '
        assert "Endpoint(" in text
        program = text.replace("Endpoint(provider", f"{named}provider")
        found = {}
        monkeypatch.chdir(tmp_path)
        exec(compile(program, "README.md", "exec"), found)
        assert {"id", "question", "source", "failure", "category", "response", "score"} <= set(found["rows"].features)
        assert server.requests and (tmp_path / "journal.sqlite").exists()


MAPPING = """
import sys
from star_hf import Classifier, Endpoint, Questions
from datasets import Dataset
rows = Dataset.from_dict({"prompt": [f"How do I misuse locks number {n}?" for n in range(60)]})
rows = rows.map(Questions("test", "prompt"), batched=True, remove_columns=["prompt"])
model = Endpoint(model="test-model", base_url=sys.argv[1], max_retries=0, concurrency=2)
rows.map(Classifier(model, sys.argv[2]), batched=True, batch_size=20)
"""


def test_a_map_that_was_killed_continues_and_pays_again_for_nothing_that_it_had(endpoint, path):
    with ModelServer(star_answers, delay_s=0.02) as server:
        process = subprocess.Popen([sys.executable, "-c", MAPPING, server.url, str(path)], stderr=subprocess.DEVNULL)
        while len(server.requests) < 30:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with Journal(path) as journal:
            known = len(journal)
        assert 20 <= known < 60
        before = server.paid.total()
        model = endpoint(server).model_copy(update={"concurrency": 2})
        rows = rows_of(60).map(Classifier(model, path), batched=True, batch_size=20)
        assert server.paid.total() - before == 60 - known
        server.paid.clear()
        assert rows.to_list() == rows_of(60).map(Classifier(model, Path(path)), batched=True).to_list()
        assert not server.paid


def test_questions_that_are_blank_are_not_paid_for_and_others_than_text_refused(endpoint, path):
    with ModelServer(star_answers) as server:
        step = Classifier(endpoint(server), path)
        rows = Dataset.from_dict({"question": ["What is tea?", None, "", "  "]}).map(step, batched=True)
        assert rows["failure"][:] == [None, "empty", "empty", "empty"] and len(server.requests) == 1
        for value in (1, ["a"], {"a": 1}):
            with pytest.raises(ConfigError, match="instead of text"):
                Dataset.from_dict({"question": [value]}).map(step, batched=True)
        assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["arrow", "pandas"])
def test_another_format_is_refused_with_the_remedy(endpoint, path, kind):
    rows = Dataset.from_dict({"question": ["What is tea?"], "failure": [None]}).with_format(kind)
    with ModelServer(star_answers) as server:
        for run in (rows.map, rows.filter):
            for step in (Classifier(endpoint(server), path), Usable(), NotLike(["a"])):
                if isinstance(step, Classifier) == (run == rows.map):
                    with pytest.raises(ConfigError, match="with_format"):
                        run(step, batched=True)
        assert not server.requests


@pytest.mark.parametrize("batched", [False, True])
def test_filters_read_arrays(batched):
    rows = Dataset.from_dict({"question": ["a", "b"], "failure": [None, "empty"]}).with_format("numpy")
    assert len(rows.filter(Usable(), batched=batched)) == len(rows.filter(NotLike(["a"]), batched=batched)) == 1


@pytest.mark.parametrize(
    ("step", "columns", "match"),
    [
        (Teacher, ["question"], "no column `category`[\\s\\S]*Map `Classifier`"),
        (Scorer, ["question", "category"], "no column `response`[\\s\\S]*Map `Teacher`"),
        (Scorer, ["question", "response"], "no column `category`[\\s\\S]*Map `Classifier`"),
        (BenignRewriter, ["question"], "no column `category`"),
    ],
)
def test_a_missing_column_is_named_with_what_adds_it(endpoint, path, step, columns, match):
    rows = Dataset.from_dict({name: ["What is tea?"] for name in columns})
    with ModelServer(star_answers) as server, pytest.raises(ConfigError, match=match):
        rows.map(step(endpoint(server), path), batched=True)
    assert not server.requests


@pytest.mark.parametrize("column", ["category", "response"])
def test_a_row_with_a_null_where_a_step_needs_a_value_is_empty_and_not_asked_about(endpoint, path, column):
    row = {"question": "What is tea?", "category": ["Fraud"], "response": "<think>\nA\n</think>\n\nB"} | {column: None}
    features = Features({"question": Value("string"), "category": SCORED["category"], "response": Value("string")})
    with ModelServer(star_answers) as server:
        rows = Dataset.from_list([row], features=features).map(
            Scorer(endpoint(server), path, max_unusable=1.0), batched=True
        )
    assert rows["failure"][:] == ["empty"] and rows["score"][:] == [None] and not server.requests


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_unusable", -1),
        ("max_unusable", float("nan")),
        ("max_reasks", -1),
        ("budget", 5.0),
        ("endpoint", "gpt-4o"),
    ],
)
def test_an_argument_that_cannot_work_is_refused_before_any_row(path, name, value):
    with pytest.raises(ConfigError):
        Classifier(journal=path, **{name: value})
