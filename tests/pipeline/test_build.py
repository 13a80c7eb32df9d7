"""A whole build against a model server on loopback: every stage, interruptions, and what is left on disk."""

import contextlib
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset

from model_server import ModelServer, Reply, star_answers
from star_hf.errors import ConfigError, IncompleteRunError, StarError
from star_hf.llm import Completion, Journal
from star_hf.llm.journal import Entry
from star_hf.pipeline.build import build
from star_hf.pipeline.config import BuildConfig
from star_hf.pipeline.explain import explain
from star_hf.pipeline.run import STAGES, Run
from star_hf.schema import BENIGN, BENIGN_CRITERIA, PROVENANCE, SCORE_CRITERIA, SCORED
from star_hf.utils.files import locked


KEY = "sk-not-a-real-key"
COUNT = 60


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "questions.jsonl"
    topics = ["locks", "tickets", "letters", "rumours", "secrets", "jokes"]
    rows = [
        {"question": f"How do I misuse {topics[n % 6]} number {n} in town {n * 7}?", "source": f"set-{n % 3}"}
        for n in range(COUNT)
    ]
    rows += [rows[0], {"question": "", "source": "set-0"}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture
def config(questions, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def make(server, **changes):
        endpoint = {"model": "test-model", "base_url": server.url, "name": "test", "concurrency": 4, "max_retries": 1}
        endpoint["price"] = {"input": 1, "output": 2}
        roles = ("classifier", "teacher", "scorer", "rewriter")
        collect = {"sources": [], "held_out": [], "questions": str(questions)}
        return BuildConfig.model_validate(
            {
                "collect": collect,
                "deduplicate": {"embedding_threshold": None, "tfidf_threshold": 0.95},
                "endpoints": dict.fromkeys(roles, endpoint),
                "select": {"size": 12},
                **changes,
            }
        )

    return make


def files_of(run: Run) -> dict[str, str]:
    """Hashes of all tables and of the finished data set."""
    paths = [path for path in run.folder.rglob("*") if path.suffix in (".parquet", ".md")]
    return {str(path.relative_to(run.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


def test_a_build_ends_with_a_data_set_that_load_dataset_reads(config, tmp_path):
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", progress=False)
    folder = str(run.folder / "dataset")
    rows = load_dataset(folder, split="train")
    assert rows.features == SCORED and len(rows) == 12
    assert list(rows.features) == ["id", "question", "response", "category", "source", "score"]
    assert all(row["score"] == dict.fromkeys(SCORE_CRITERIA, 10) for row in rows)
    twins = load_dataset(folder, "benign", split="train")
    assert twins.features == BENIGN and 0 < len(twins) <= 12
    assert set(twins["origin_id"]) <= set(rows["id"])
    assert all(row["score"] == dict.fromkeys(BENIGN_CRITERIA, 5) for row in twins)
    receipts = load_dataset(folder, "provenance", split="train")
    assert receipts.features == PROVENANCE
    stages_of_a_row = {
        stage for stage, row_id in zip(receipts["stage"], receipts["id"], strict=True) if row_id == rows[0]["id"]
    }
    assert {"classify", "reason", "score"} <= stages_of_a_row
    assert set(receipts["id"]) == {*rows["id"], *twins["id"]}, "every row has receipts, and nothing else"


def test_counts_add_up_at_every_stage(config, tmp_path):
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", progress=False)
    records = run.records
    assert list(records) == list(STAGES)
    assert records["collect"].rows_in == COUNT + 2 and records["collect"].removed == {"empty": 1}
    for before, after in zip(STAGES, STAGES[1:], strict=False):
        assert records[after].rows_in == records[before].rows_out
        assert records[after].rows_in == records[after].rows_out + sum(records[after].removed.values())
    assert records["classify"].removed["other_category"] > 0
    assert records["select"].removed["below_full_marks"] > 0 and records["select"].removed["not_selected"] > 0


def test_a_second_build_does_nothing_and_changes_nothing(config, tmp_path):
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", progress=False)
        before, sent = files_of(run), len(server.requests)
        build(config(server), tmp_path / "run", progress=False)
        assert len(server.requests) == sent
    assert files_of(run) == before


def test_two_builds_in_two_places_are_byte_identical(config, tmp_path):
    with ModelServer(star_answers) as server:
        one = build(config(server), tmp_path / "a" / "run", progress=False)
        other = build(config(server), tmp_path / "b" / "run", progress=False)
    assert files_of(one) == files_of(other)


def test_an_edited_policy_asks_only_the_rows_that_use_it(config, tmp_path):
    import yaml

    from star_hf.policies import Taxonomy

    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", until="reason", progress=False)
        asked = {body["messages"][-1]["content"] for body in server.requests}
        source = yaml.safe_load((Path(sys.modules[Taxonomy.__module__].__file__).parent / "star_8.yaml").read_text())
        source["categories"][0]["rules"][0] += " In every language."
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(source, allow_unicode=True))
        build(config(server, policies=str(tmp_path / "mine.yaml")), run.folder, until="reason", progress=False)
        again = [body for body in server.requests if body["messages"][-1]["content"] not in asked]
    edited = source["categories"][0]["name"]
    assert len(again) == sum(edited in labels for labels in run.table("classify")["category"]) > 0
    assert all("In every language." in body["messages"][-1]["content"] for body in again)


def test_a_stage_that_fails_keeps_what_was_paid_and_goes_on(config, tmp_path):
    broken = True

    def rule(body, before):
        if broken and "response_format" not in body and len(server.paid) > COUNT + 10:
            return Reply(status=500, headers={"Retry-After-Ms": "1"})
        return star_answers(body, before)

    with ModelServer(rule) as server:
        with pytest.raises(IncompleteRunError, match="reason"):
            build(config(server), tmp_path / "run", progress=False)
        broken = False
        run = build(config(server), tmp_path / "run", progress=False)
        assert max(server.paid.values()) == 1
    with ModelServer(star_answers) as server:
        undisturbed = build(config(server), tmp_path / "other" / "run", progress=False)
    assert files_of(run) == files_of(undisturbed)


NURSERY = """
import json, os, sys
from star_hf.pipeline.build import build
from star_hf.pipeline.config import BuildConfig
config = BuildConfig.model_validate_json(open(sys.argv[1]).read())
for line in sys.stdin:  # each line is a run directory; a child builds there, so that imports are paid once
    child = os.fork()
    if child == 0:
        build(config, line.strip(), progress=False)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("most", [12, pytest.param(50, marks=pytest.mark.long)])
def test_killed_at_random_instants_it_goes_on_and_ends_with_the_same_bytes(config, tmp_path, most):
    """`kill -9` at seeded random instants over all stages, in as many builds as it takes; the server counts."""
    luck, kills, builds = random.Random(20261125), 0, 0
    with ModelServer(star_answers) as server:
        undisturbed = files_of(build(config(server), tmp_path / "calm" / "run", progress=False))
        paid_when_calm = sum(server.paid.values())
    with ModelServer(star_answers, delay_s=0.02) as server:
        recipe = tmp_path / "recipe.json"
        recipe.write_text(config(server).model_dump_json())
        command = [sys.executable, "-c", NURSERY, str(recipe)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
            while kills < most:
                folder, before, killed_here, status = (
                    tmp_path / str(builds) / "run",
                    sum(server.paid.values()),
                    0,
                    None,
                )
                while status != 0:
                    nursery.stdin.write(f"{folder}\n")
                    nursery.stdin.flush()
                    child = int(nursery.stdout.readline())
                    if kills < most:
                        time.sleep(luck.uniform(0.0, 0.6))
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(child, signal.SIGKILL)
                    status = int(nursery.stdout.readline())
                    assert status in (0, -signal.SIGKILL)
                    kills += status != 0
                    killed_here += status != 0
                builds += 1
                assert files_of(Run(folder)) == undisturbed
                time.sleep(0.1)  # until the server has sent what was in flight at the last kill
                paid = sum(server.paid.values()) - before
                assert paid_when_calm <= paid <= paid_when_calm + killed_here * 4, "4 are in flight at most"
            nursery.stdin.close()
    assert kills == most


def test_the_key_is_nowhere_in_the_run(config, tmp_path):
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", progress=False)
        assert server.keys == {f"Bearer {KEY}"}
    for path in run.folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_damaged_table_is_made_again(config, tmp_path):
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", progress=False)
        before = files_of(run)
        path = run.stage_folder("classify") / "rows.parquet"
        path.write_bytes(path.read_bytes()[:100])
        build(config(server), tmp_path / "run", progress=False)
    assert files_of(run) == before


def test_a_manifest_that_is_damaged_or_of_another_version_is_named_and_its_remedy_works(config, tmp_path):
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", progress=False)
        before, asked, text = files_of(run), len(server.requests), run.manifest_path.read_text()
        for damage, words in (
            (text[:-30], "manifest.json is damaged: it is not JSON"),
            (text.replace('"rows_in"', '"rows"', 1), r"stages: `collect\.rows_in` is missing"),
            (text.replace('"rows_out": ', '"rows_out": "x", "y": ', 1), r"`collect\.rows_out`: .* \(got 'x'\)"),
            ("[]", "holds a list, expected an object"),
        ):
            run.manifest_path.write_text(damage)
            with pytest.raises(StarError, match=words) as caught:
                build(config(server), run.folder, progress=False)
            assert caught.value.remedy.startswith(f"Delete {run.manifest_path} and run `star-hf build")
        run.manifest_path.unlink()
        build(config(server), run.folder, progress=False)
        assert files_of(run) == before and len(server.requests) == asked


def test_a_damaged_table_of_a_run_is_named(config, tmp_path):
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", until="collect", progress=False)
    path = run.stage_folder("collect") / "rows.parquet"
    path.write_bytes(path.read_bytes()[:100])
    for look in (lambda: run.table("collect"), lambda: run.columns("collect", "rows", "id")):
        with pytest.raises(StarError, match=r"rows\.parquet is damaged or was edited") as caught:
            look()
        assert "star-hf build" in caught.value.remedy


def test_a_full_disk_is_told_and_what_was_there_stays(config, tmp_path):
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", until="collect", progress=False)
    before, (soft, hard) = files_of(run), resource.getrlimit(resource.RLIMIT_FSIZE)
    tables = {name: run.table("collect", name) for name in ("rows", "removed")}
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(StarError, match="collect.new/rows.parquet cannot be written .*large") as caught:
            run.stage("collect", {}, {}, None, lambda: (tables, {}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "space" in caught.value.remedy and files_of(run) | before == files_of(run)


def test_an_edited_questions_file_is_read_again(config, questions, tmp_path):
    with ModelServer(star_answers) as server:
        build(config(server), tmp_path / "run", until="collect", progress=False)
        questions.write_text(json.dumps({"question": "How do I hide a present?"}))
        run = build(config(server), tmp_path / "run", until="collect", progress=False)
        assert run.table("collect")["question"][:] == ["How do I hide a present?"]
        before = questions.stat()
        questions.write_text(json.dumps({"question": "How do I hide a picture?"}))
        assert questions.stat().st_size == before.st_size
        os.utime(questions, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
        run = build(config(server), tmp_path / "run", until="collect", progress=False)
    assert run.table("collect")["question"][:] == ["How do I hide a picture?"]


def test_a_row_tells_its_story(config, tmp_path):
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", progress=False)
    chosen = run.table("select")[-1]
    story = explain(run, chosen["id"])
    kept = [event.stage for event in story if event.verdict == "kept"]
    assert kept == ["collect", "deduplicate", "classify", "reason", "score", "select"]
    facts = {name: value for event in story for name, value in event.facts.items()}
    assert facts["source"] == chosen["source"] and "Content_Safety_Compliance 10" in facts["score"]
    assert "tokens, $0.0" in facts["calls"]
    gone = run.table("deduplicate", "removed")[0]
    told = explain(run, gone["id"])
    left = next(event for event in told if event.verdict == "removed")
    assert left.stage == "deduplicate" and gone["matched_id"] in left.facts["matched"]
    assert left.facts["matched text"] == "How do I misuse locks number 0 in town 0?"


@pytest.mark.slow
def test_rows_of_the_real_corpus_name_the_text_that_they_left_for(shared_data, tmp_path):
    collect = {"sources_dir": shared_data / "raw"}
    config = BuildConfig.model_validate({"collect": collect, "deduplicate": {"embedding_threshold": None}})
    run = build(config, tmp_path / "run", until="deduplicate", progress=False)
    texts = {}
    for table in ("rows", "held_out"):
        for row in run.table("collect", table):
            texts.setdefault(row["id"], set()).add(row["question"])
    gone = run.table("deduplicate", "removed")
    assert len(gone) == 21_708 - 13_452 and set(gone["matched_id"]) <= set(texts)
    for row in gone.select(range(0, len(gone), 97)):
        events = [event for event in explain(run, row["id"]) if event.facts.get("reason") == row["reason"]]
        assert any(event.facts["matched text"] in texts[row["matched_id"]] for event in events)


def test_the_benign_twin_tells_where_it_comes_from(config, tmp_path):
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", progress=False)
    twin = run.table("rewrite")[0]
    (event,) = explain(run, twin["id"])
    assert event.facts["origin_id"] == twin["origin_id"]


def test_one_directory_is_built_by_one_process_at_a_time(config, tmp_path):
    with ModelServer(star_answers) as server:
        with locked(tmp_path / "run"), pytest.raises(StarError, match="Another process works in"):
            build(config(server), tmp_path / "run", until="collect", progress=False)
        build(config(server), tmp_path / "run", until="collect", progress=False)


def test_a_missing_key_is_named_before_anything_is_collected(config, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with ModelServer(star_answers) as server:
        with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
            build(config(server), tmp_path / "run", progress=False)
        assert not Run(tmp_path / "run").records
        build(config(server), tmp_path / "run", until="deduplicate", progress=False)


def test_a_finished_run_needs_no_key(config, tmp_path, monkeypatch):
    with ModelServer(star_answers) as server:
        before = files_of(build(config(server), tmp_path / "run", progress=False))
        monkeypatch.delenv("OPENAI_API_KEY")
        assert files_of(build(config(server), tmp_path / "run", progress=False)) == before


def test_a_whole_build_by_batches_is_the_same_build(config, tmp_path, monkeypatch):
    from batch_server import BatchServer
    from star_hf.llm import Batch
    from star_hf.llm.batch import provider as batch

    monkeypatch.setattr(batch, "FIRST_POLL_S", 0.01)
    with BatchServer(star_answers, looks=1) as server:
        live = build(config(server), tmp_path / "a" / "run", progress=False)
        asked = server.live
        endpoints = config(server).endpoints
        one = endpoints.scorer.model_copy(update={"batch": Batch(at_least=1, poll_s=0.01)})
        by_batch = endpoints.model_copy(update={role: one for role, _ in endpoints})
        batched = build(
            config(server).model_copy(update={"endpoints": by_batch}), tmp_path / "b" / "run", progress=False
        )
        assert len(server.batches) == 6 and server.live == asked
    for stage in STAGES:
        assert batched.table(stage).to_list() == live.table(stage).to_list()


def test_groups_may_decide_who_stays(config, tmp_path):
    """Under the second rule the questions that one threshold connects leave one row each, whatever their order."""
    given = {"embedding_threshold": None, "tfidf_threshold": 0.6}
    with ModelServer(star_answers) as server:
        first = build(config(server, deduplicate=given), tmp_path / "run", until="deduplicate", progress=False)
        kept = {"first_wins": first.table("deduplicate")["question"][:]}
        for prefer in (["rarest"], ["longest"]):
            grouped = config(server, deduplicate={**given, "rule": "one_per_group", "prefer": prefer})
            run = build(grouped, tmp_path / "run", until="deduplicate", progress=False)
            kept[prefer[0]] = run.table("deduplicate")["question"][:]
    assert 0 < len(kept["rarest"]) == len(kept["longest"]) < len(kept["first_wins"])
    assert sum(map(len, kept["longest"])) > sum(map(len, kept["rarest"]))


def test_a_budget_is_for_the_whole_run_with_what_it_has_spent(config, tmp_path):
    with ModelServer(star_answers) as server:
        with Journal(Run(tmp_path / "run").journal_path) as journal:
            journal.put(Entry("f" * 64, "classify", "test", "v1", Completion("of an earlier prompt"), 5.0))
        with pytest.raises(IncompleteRunError, match=r"the budget of \$5 allows no further request"):
            build(config(server), tmp_path / "run", budget_usd=5.0, progress=False)
        assert not server.requests
        assert len(build(config(server), tmp_path / "run", budget_usd=6.0, progress=False).table("select")) == 12


def test_what_decides_a_stage_makes_it_run_again_and_nothing_else_does(config, tmp_path):
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", progress=False)
        records, twins = run.records, run.table("rewrite")
        other = build(config(server, benign={"minimum": 4}), run.folder, progress=False)
        assert len(other.table("rewrite")) > len(twins)
        assert {stage for stage in STAGES if other.records[stage].fingerprint != records[stage].fingerprint} == {
            "rewrite"
        }
        endpoints = config(server).endpoints
        scorer = endpoints.scorer.model_copy(update={"model": "another-model"})
        changed = config(server).model_copy(update={"endpoints": endpoints.model_copy(update={"scorer": scorer})})
        build(changed, run.folder, until="score", progress=False)
    assert set(run.table("score", "provenance")["model"]) == {"another-model"}
    assert run.records["reason"] == records["reason"]


def test_an_unknown_stage_is_named(config, tmp_path):
    with ModelServer(star_answers) as server, pytest.raises(ConfigError, match="'clasify' is not a stage"):
        build(config(server), tmp_path / "run", until="clasify")


def test_an_embeddings_endpoint_is_part_of_the_run(config, tmp_path):
    def vectors(body, before):
        data = [{"index": i, "embedding": [1.0, sum(text.encode()) % 97]} for i, text in enumerate(body["input"])]
        reply = {"model": body["model"], "data": data, "usage": {"prompt_tokens": 100}}
        return Reply(raw=json.dumps(reply).encode())

    with ModelServer(vectors) as server:
        asked = {"model": "m", "provider": "vllm", "base_url": server.url, "name": "vectors"}
        priced = {**asked, "price": {"input": 1, "output": 0}}

        def deduplicated(endpoint, threshold=1.0, **options):
            steps = {
                "embedding_threshold": threshold,
                "tfidf_threshold": 0.95,
                "encoder": {"endpoint": endpoint, "languages": ["*"]},
            }
            return build(config(server, deduplicate=steps), tmp_path, until="deduplicate", progress=False, **options)

        with pytest.raises(ConfigError, match=r"deduplicate\.encoder\.endpoint.*has no price"):
            deduplicated(asked, budget_usd=1)
        run = deduplicated(priced, budget_usd=1)
        requests = len(server.requests)
        assert requests == 2
        with Journal(run.journal_path) as journal:
            assert journal.cost() == pytest.approx(requests * 100 / 1e6)
        deduplicated(priced, threshold=0.999, budget_usd=1)
        assert len(server.requests) == requests, "another threshold, the same vectors"
        deduplicated({**priced, "name": "others"}, threshold=0.999, budget_usd=1)
        assert len(server.requests) == 2 * requests, "another encoder, other vectors"


def test_the_manifest_names_the_languages_that_the_encoder_cannot_tell_apart(tmp_path, monkeypatch, caplog):
    class Blind:
        identity, languages = "blind", None

        def __call__(self, texts):
            return np.ones((len(texts), 1), np.float32)

    texts = ["แมวของฉันไม่กินอาหาร", "ต้มไข่กี่นาที", "พับเครื่องบินกระดาษอย่างไร"]
    (tmp_path / "questions.txt").write_text("\n".join(texts), encoding="utf-8")
    monkeypatch.setattr("star_hf.pipeline.build.make_encoder", lambda *given: Blind())
    collect = {"sources": [], "held_out": [], "questions": tmp_path / "questions.txt"}
    endpoints = dict.fromkeys(("classifier", "teacher", "scorer", "rewriter"), {"model": "test-model"})
    options = BuildConfig.model_validate({"collect": collect, "endpoints": endpoints})
    run = build(options, tmp_path / "run", until="deduplicate", progress=False)
    assert run.records["deduplicate"].rows_out == 3
    assert run.manifest["stages"]["deduplicate"]["notes"]["unread"] == {"Thai": 3}
    assert "Thai (3 texts)" in caplog.text
