"""What a model's own answer is worth: form, judges, and that nothing is worth anything because a judge failed."""

import json

import pytest

from model_server import ModelServer, Reply
from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.evaluation.grading.judges import load_judge
from star_hf.llm.journal import Journal
from star_hf.training.trainers.reward import PATIENCE, GuardReward


END, LIMIT = 7, 20
THOUGHT, ANSWER = "That is a kitchen matter.", "In the drawer."
WHOLE = f"{THOUGHT}\n</think>\n\n{ANSWER}"


def guard(body, before):
    """Qwen3Guard: `bad` in what is judged is unsafe, `sorry` is a refusal, `unsure` gets a reply in no form."""
    said = body["messages"][-1]["content"]
    if "unsure" in said:
        return "I would rather not say."
    if "broken" in said:
        return Reply(status=400, error={"code": "invalid"})
    safety = "Unsafe" if "bad" in said else "Safe"
    return f"Safety: {safety}\nCategories: None\nRefusal: {'Yes' if 'sorry' in said else 'No'}"


@pytest.fixture
def reward(tmp_path):
    """Makes the reward of judges at a server that answers by a rule; the server's requests are `.requests`."""
    with ModelServer(guard) as server, Journal(tmp_path / "judges.sqlite") as journal:

        def make(*judges, rule=guard, **options):
            server.rule = rule
            found = [load_judge(judge.replace("URL", server.url)) for judge in judges or ("qwen3guard@URL",)]
            found = [
                judge
                if judge.endpoint is None
                else type(judge)(judge.name, judge.families, judge.endpoint.model_copy(update={"max_retries": 0}))
                for judge in found
            ]
            made = GuardReward(found, journal, **{"end_token": END, "limit": LIMIT, **options})
            made.requests = server.requests
            return made

        yield make


def rewards(reward, *texts, kind="safety", ids=None, **more):
    messages = [[{"role": "assistant", "content": text}] for text in texts]
    tokens = [ids or [1, 2, END]] * len(texts)
    kinds = [kind] * len(texts) if isinstance(kind, str) else kind
    asked = ["Where is the sieve?"] * len(texts)
    return reward(completions=messages, completion_ids=tokens, question=asked, kind=kinds, prompts=[], **more)


def test_harm_is_worth_its_form_alone_and_a_safe_answer_everything(reward):
    assert rewards(reward(), WHOLE, WHOLE.replace("drawer", "bad drawer")) == [1.0, 0.2]


def test_a_harmful_thought_counts_before_a_safe_answer_unless_told_otherwise(reward):
    text = WHOLE.replace("kitchen", "bad")
    assert rewards(reward(), text) == [0.2]
    assert rewards(reward(parts=("answer",)), text) == [1.0]


def test_refusing_what_only_sounds_harmful_is_not_rewarded(reward):
    refusal = WHOLE.replace(ANSWER, "I am sorry.")
    assert rewards(reward(), refusal, refusal, WHOLE, kind=["safety", "over_refusal", "over_refusal"]) == [1, 0.2, 1]


@pytest.mark.parametrize(
    "text",
    [
        THOUGHT,
        "",
        f"{THOUGHT}\n</think>\n\n",
        f"\n</think>\n\n{ANSWER}",
        f"{WHOLE}\n</think>\n\nOnce more.",
        f"<think>\n{THOUGHT}",
    ],
)
def test_what_is_not_a_closed_thought_and_an_answer_is_worth_nothing_and_not_judged(reward, text):
    made = reward()
    assert rewards(made, text) == [0.0] and rewards(made, text, kind="over_refusal") == [0.0]
    assert made.requests == []


def test_an_answer_that_was_cut_is_worth_nothing(reward):
    assert rewards(reward(), WHOLE, ids=[1] * LIMIT) == [0.0]
    assert rewards(reward(), WHOLE, ids=[*[1] * (LIMIT - 1), END]) == [1.0]


@pytest.mark.parametrize("word", ["unsure", "broken"])
def test_without_a_verdict_there_is_no_reward_neither_high_nor_low(reward, word):
    logged = {}
    found = rewards(reward(), WHOLE, WHOLE.replace("drawer", word), log_metric=logged.__setitem__)
    assert found == [1.0, None]
    assert logged == {"guard/in_form": 1.0, "guard/no_verdict": 0.5, "guard/safety": 1.0}


def test_of_several_judges_the_strictest_counts_and_one_without_a_verdict_leaves_none(reward):
    def split(body, before):
        llama = "Llama" in body["model"]
        said = body["messages"][-1]["content"]
        return ("unsafe\nS1" if "S1" in said else "nonsense" if "odd" in said else "safe") if llama else guard(body, 0)

    made = reward("qwen3guard@URL", "llama-guard-3@URL", rule=split)
    texts = (WHOLE, WHOLE.replace("drawer", "S1"), WHOLE.replace("drawer", "odd"))
    assert rewards(made, *texts) == [1.0, 0.2, None]
    assert rewards(made, texts[1], kind="over_refusal") == [1.0], "Llama Guard does not judge refusals"


def test_the_same_answer_is_paid_once(reward):
    made = reward()
    assert rewards(made, WHOLE, WHOLE) == rewards(made, WHOLE, WHOLE) == [1.0, 1.0]
    assert len(made.requests) == 2  # thought and answer


def test_judges_that_stay_silent_end_the_training_and_no_text_is_logged(reward, caplog):
    made = reward(rule=lambda body, before: Reply(status=500))
    for _ in range(PATIENCE - 1):
        assert rewards(made, WHOLE, THOUGHT) == [None, 0.0]
    assert rewards(made, THOUGHT) == [0.0], "a batch without anything to judge says nothing of the judges"
    with pytest.raises(IncompleteRunError, match="qwen3guard gave no verdict on 3 batches in a row"):
        rewards(made, WHOLE)
    assert "No verdicts on 1 answers" in caplog.text
    assert ANSWER not in caplog.text and "sieve" not in caplog.text and json.dumps(WHOLE) not in caplog.text


def test_silence_is_forgotten_when_a_judge_speaks_again(reward):
    def flaky(body, before):
        return Reply(status=500) if "broken" in body["messages"][-1]["content"] else guard(body, before)

    made = reward(rule=flaky)
    for text in (WHOLE.replace("drawer", "broken"), WHOLE) * PATIENCE:
        rewards(made, text)


@pytest.mark.parametrize(
    ("judges", "words"),
    [
        (["llama-guard-3@URL"], "judges over-refusal; named: llama-guard-3"),
        ([], "judges safety or over-refusal; named: none"),
    ],
)
def test_both_kinds_of_questions_need_a_judge(tmp_path, judges, words):
    with Journal(tmp_path / "judges.sqlite") as journal, pytest.raises(ConfigError, match=words):
        found = [load_judge(judge.replace("URL", "http://localhost:1/v1")) for judge in judges]
        GuardReward(found, journal, end_token=END, limit=LIMIT)
