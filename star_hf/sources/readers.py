"""One small function per source: its row becomes a question, several questions, or is dropped with a reason.

Where a source is and which columns are read says its card (`star_hf.sources.catalogue`). `PAPER` reads every source as
STAR-1 did (paper, Section 2.1), defects included; `RECOMMENDED` differs only where that was wrong. Where the
Hub and the local copy name a column differently, both names are understood. A function raises `KeyError` for a column
that is not there.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


__all__ = ["EVALUATION", "PAPER", "RECOMMENDED", "Drop", "Reader", "Row", "Take"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Drop:
    """A row that is not collected.

    Attributes:
        reason (`str`): Why, in one word or `snake_case`.
        question (`str`): What would have been the question.
    """

    reason: str
    question: str


Take = str | list[str] | Drop
Reader = Callable[[Row], Take]


def gptfuzz(row: Row) -> Take:
    """Every row."""
    return row["text"]


def simple_safety_tests(row: Row) -> Take:
    """Every row."""
    return _first(row, "prompt", "prompts_final")


def malicious_instruct(row: Row) -> Take:
    """Every line."""
    return row["text"]


def q_harm(row: Row) -> Take:
    """The file is one row that holds the list of questions."""
    return row["instructions"]


def tdc_red_teaming(row: Row) -> Take:
    """Every behaviour of both phases."""
    return row["text"]


def malicious_instructions(row: Row) -> Take:
    """The file is one row that holds the list of instructions."""
    return row["instructions"]


def harmful_q(row: Row) -> Take:
    """Every row."""
    return row["text"]


def hex_phi(row: Row) -> Take:
    """Every row."""
    return row["question"]


def harm_bench(row: Row) -> Take:
    """Contextual behaviours go, since they mean nothing without their context."""
    return _unless(row["FunctionalCategory"] == "contextual", "contextual", row["Behavior"])


def attaq(row: Row) -> Take:
    """Every row."""
    return row["input"]


def harmful_qa(row: Row) -> Take:
    """A row per question on the Hub; one row of topic, subtopic and list of questions in the authors' file."""
    if row and all(isinstance(topic, Mapping) for topic in row.values()):
        return [question for topic in row.values() for questions in topic.values() for question in questions]
    return row["question"]


def safety_instructions(row: Row) -> Take:
    """Every instruction."""
    return row["instruction"]


def ultra_safety(row: Row) -> Take:
    """Every instruction."""
    return row["instruction"]


def alert(row: Row) -> Take:
    """The prompt without the instruction and response headers around it."""
    return re.sub(r"### (Instruction|Response):", "", _first(row, "prompt", "query")).strip()


def salad_bench(row: Row) -> Take:
    """Every row of the base set."""
    return row["question"]


def pku_safe_rlhf(row: Row) -> Take:
    """Prompts whose two responses are both unsafe."""
    return _unless(row["is_response_0_safe"] or row["is_response_1_safe"], "safe_response", row["prompt"])


def beaver_tails(row: Row) -> Take:
    """Prompts whose response is unsafe."""
    return _unless(row["is_safe"], "safe_response", row["prompt"])


def wildjailbreak(row: Row) -> Take:
    """The vanilla prompt of every row: STAR-1 did not filter by type, so that benign prompts leak in."""
    return row["vanilla"]


def wildjailbreak_harmful(row: Row) -> Take:
    """The vanilla prompt of harmful rows; the benign ones leave as `benign`, for the benign mix to read."""
    return _unless(row["data_type"].endswith("_benign"), "benign", row["vanilla"])


def strong_reject(row: Row) -> Take:
    """Every row."""
    return row["forbidden_prompt"]


def jbb_behaviours(row: Row) -> Take:
    """Every row."""
    return row["Goal"]


def sg_bench(row: Row) -> Take:
    """Every row."""
    return row["query"]


def wildjailbreak_eval(row: Row) -> str | Drop:
    """The adversarial text of harmful rows, as STAR-1 holds it out."""
    return _unless(row["data_type"] != "adversarial_harmful", "not_adversarial_harmful", row["adversarial"])


def wildjailbreak_eval_with_seed(row: Row) -> Take:
    """The adversarial text of harmful rows and, where the file has it, the vanilla seed that it hides."""
    take = wildjailbreak_eval(row)
    return take if isinstance(take, Drop) or not row.get("vanilla") else [take, row["vanilla"]]


def xs_test(row: Row) -> Take:
    """The safe prompts."""
    return _unless(row["label"] != "safe", "unsafe", row["prompt"])


def wild_chat(row: Row) -> Take:
    """Toxic, one-turn, English conversations that the moderation flagged.

    STAR-1 evaluates on the top 100 of these per moderation category, from a private edition: holding all of them out
    protects a superset, without the ranking.
    """
    wanted = row["toxic"] and row["turn"] == 1 and row["language"] == "English"
    flagged = any(verdict["flagged"] for verdict in row["openai_moderation"])
    return _unless(not (wanted and flagged), "not_evaluated", row["conversation"][0]["content"])


def aime(row: Row) -> Take:
    """Every problem."""
    return row["problem"]


def math_500(row: Row) -> Take:
    """Every problem."""
    return row["problem"]


def gpqa_diamond(row: Row) -> Take:
    """Every question, without its options."""
    return row["Question"]


def mmlu_pro(row: Row) -> Take:
    """Every question, without its options."""
    return row["question"]


def human_eval(row: Row) -> Take:
    """Every signature with its docstring."""
    return row["prompt"]


def _first(row: Row, *names: str) -> str:
    """The value under the first of these names that the row has."""
    return row[next((name for name in names if name in row), names[0])]


def _unless(dropped: bool, reason: str, question: str) -> str | Drop:
    return Drop(reason, question) if dropped else question


PAPER: dict[str, Reader] = {
    "GPTFuzz": gptfuzz,
    "SimpleSafetyTests": simple_safety_tests,
    "MaliciousInstruct": malicious_instruct,
    "QHarm": q_harm,
    "TDCRedTeaming": tdc_red_teaming,
    "MaliciousInstructions": malicious_instructions,
    "HarmfulQ": harmful_q,
    "HExPHI": hex_phi,
    "HarmBench": harm_bench,
    "AttaQ": attaq,
    "HarmfulQA": harmful_qa,
    "SafetyInstructions": safety_instructions,
    "UltraSafety": ultra_safety,
    "ALERT": alert,
    "SaladBench": salad_bench,
    "PKUSafeRLHF": pku_safe_rlhf,
    "BeaverTails": beaver_tails,
    "wildjailbreak": wildjailbreak,
    "StrongREJECT": strong_reject,
    "JBBBehaviours": jbb_behaviours,
    "SGBench": sg_bench,
    "wildjailbreak-eval": wildjailbreak_eval,
    "XSTest": xs_test,
}
"""Sources as STAR-1 read them. It did not hold WildChat out."""

RECOMMENDED: dict[str, Reader] = {
    **PAPER,
    "wildjailbreak": wildjailbreak_harmful,
    "wildjailbreak-eval": wildjailbreak_eval_with_seed,
    "WildChat": wild_chat,
}
"""`PAPER` without its defects: no benign leak, and nothing that is evaluated on is left in."""

EVALUATION: dict[str, Reader] = {
    "AIME24": aime,
    "MATH-500": math_500,
    "GPQA-Diamond": gpqa_diamond,
    "MMLU-Pro": mmlu_pro,
    "HumanEval": human_eval,
}
"""The reasoning benchmarks. The paper's builds do not hold them out; an audit looks for them."""
