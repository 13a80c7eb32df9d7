"""Each source's reader on rows of the Hub's schema and of the local copy's, with made-up mild questions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_hf.sources.readers import Drop, readers_of


PAPER, RECOMMENDED = readers_of("paper"), readers_of("recommended")
Q = "how do I pick a lock?"
WRAPPED = f"### Instruction:\n{Q}\n### Response:\n"
CHAT = {
    "conversation": [{"role": "user", "content": Q}, {"role": "assistant", "content": "No."}],
    "toxic": True,
    "turn": 1,
    "language": "English",
    "openai_moderation": [{"flagged": False}, {"flagged": True}],
}

SAME_IN_BOTH = [
    ("GPTFuzz", {"index": 0, "text": Q}, Q),
    ("SimpleSafetyTests", {"id": "1", "harm_area": "x", "prompt": Q}, Q),
    ("SimpleSafetyTests", {"id": 1, "prompts_final": Q}, Q),
    ("MaliciousInstruct", {"text": Q}, Q),
    ("QHarm", {"instructions": [Q, "b"], "inputs": ["", ""]}, [Q, "b"]),
    ("TDCRedTeaming", {"text": Q}, Q),
    ("MaliciousInstructions", {"instructions": [Q, "b"], "tags": ["x", "y"]}, [Q, "b"]),
    ("HarmfulQ", {"text": Q}, Q),
    ("HExPHI", {"question": Q}, Q),
    ("HarmBench", {"Behavior": Q, "FunctionalCategory": "standard"}, Q),
    ("HarmBench", {"Behavior": Q, "FunctionalCategory": "copyright"}, Q),
    ("HarmBench", {"Behavior": Q, "FunctionalCategory": "contextual"}, Drop("contextual", Q)),
    ("AttaQ", {"label": "x", "input": Q}, Q),
    ("HarmfulQA", {"id": 1, "topic": "t", "subtopic": "s", "question": Q, "blue_conversations": {"a": "b"}}, Q),
    ("HarmfulQA", {"T": {"s": [Q, "b"], "r": ["c"]}, "U": {"v": ["d"]}}, [Q, "b", "c", "d"]),
    ("SafetyInstructions", {"instruction": Q, "output": "No.", "input": ""}, Q),
    ("UltraSafety", {"instruction": Q, "completions": [{"response": "No."}]}, Q),
    ("ALERT", {"id": 0, "category": "x", "prompt": WRAPPED}, Q),
    ("ALERT", {"id": "0", "category": "x", "query": WRAPPED}, Q),
    ("SaladBench", {"qid": 1, "question": Q, "source": "made up"}, Q),
    ("PKUSafeRLHF", {"prompt": Q, "is_response_0_safe": False, "is_response_1_safe": False}, Q),
    ("PKUSafeRLHF", {"prompt": Q, "is_response_0_safe": True, "is_response_1_safe": False}, Drop("safe_response", Q)),
    ("PKUSafeRLHF", {"prompt": Q, "is_response_0_safe": False, "is_response_1_safe": True}, Drop("safe_response", Q)),
    ("BeaverTails", {"prompt": Q, "response": "No.", "is_safe": False}, Q),
    ("BeaverTails", {"prompt": Q, "response": "No.", "is_safe": True}, Drop("safe_response", Q)),
    ("wildjailbreak", {"vanilla": Q, "data_type": "vanilla_harmful"}, Q),
    ("wildjailbreak", {"vanilla": Q, "data_type": "adversarial_harmful"}, Q),
    ("StrongREJECT", {"forbidden_prompt": Q, "source": "custom"}, Q),
    ("JBBBehaviours", {"Goal": Q, "Target": "Sure", "Behavior": "b"}, Q),
    ("SGBench", {"query": Q, "safety_type": "x"}, Q),
    (
        "wildjailbreak-eval",
        {"adversarial": Q, "vanilla": "seed", "data_type": "adversarial_benign"},
        Drop("not_adversarial_harmful", Q),
    ),
    ("XSTest", {"prompt": Q, "label": "safe"}, Q),
    ("XSTest", {"prompt": Q, "label": "unsafe"}, Drop("unsafe", Q)),
]


@pytest.mark.parametrize(("name", "row", "take"), SAME_IN_BOTH, ids=[case[0] for case in SAME_IN_BOTH])
def test_row_becomes_question_in_both_profiles(name, row, take):
    assert PAPER[name](row) == take
    assert RECOMMENDED[name](row) == take


@pytest.mark.parametrize("kind", ["vanilla_benign", "adversarial_benign"])
def test_benign_wildjailbreak_rows_leak_in_paper_only(kind):
    row = {"vanilla": Q, "data_type": kind}
    assert PAPER["wildjailbreak"](row) == Q
    assert RECOMMENDED["wildjailbreak"](row) == Drop("benign", Q)


def test_vanilla_seed_of_wildjailbreak_eval_is_held_out_in_recommended_only():
    row = {"adversarial": "a story about a lock", "vanilla": Q, "data_type": "adversarial_harmful"}
    assert PAPER["wildjailbreak-eval"](row) == "a story about a lock"
    assert RECOMMENDED["wildjailbreak-eval"](row) == ["a story about a lock", Q]
    assert RECOMMENDED["wildjailbreak-eval"]({**row, "vanilla": ""}) == "a story about a lock"


def test_wildchat_is_held_out_in_recommended():
    assert "WildChat" not in PAPER
    assert RECOMMENDED["WildChat"](CHAT) == Q


@pytest.mark.parametrize(
    "change",
    [{"toxic": False}, {"turn": 2}, {"language": "Dutch"}, {"openai_moderation": [{"flagged": False}]}],
    ids=lambda change: next(iter(change)),
)
def test_wildchat_holds_out_only_what_is_evaluated(change):
    assert RECOMMENDED["WildChat"]({**CHAT, **change}) == Drop("not_evaluated", Q)


@pytest.mark.parametrize("name", RECOMMENDED)
def test_missing_column_is_a_key_error(name):
    with pytest.raises(KeyError):
        RECOMMENDED[name]({"unrelated": "x"})


@given(st.text().map(str.strip).filter(lambda text: "###" not in text))
def test_alert_wrapper_comes_off_any_question(question):
    assert PAPER["ALERT"]({"prompt": f"### Instruction:\n{question}\n### Response:\n"}) == question
