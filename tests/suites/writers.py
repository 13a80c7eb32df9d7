"""A server that plays the two models of a draft: it writes distinct cases for any rule, and says what they test."""

import hashlib
import json
import random
import re
from collections.abc import Callable
from typing import Any

from star_hf.policies import Taxonomy
from star_hf.suites.plan import rules_of


__all__ = ["Writers"]

SLOT = re.compile(
    r"^\d+\. (plain|borderline|adversarial|allowed)(?: \(([a-z ]+)\))?, (one turn|two to four turns)", re.M
)
SYLLABLES = (
    "ba be bi bo du da de di do fa fe fi fo ga ge gi go ka ke ki ko la le li lo ma me mi mo na ne ni no".split()
)


class Writers:
    """The rule of a `ModelServer`.

    Args:
        twist (`Callable`, *optional*): Changes the cases of a reply before they are sent; gets the reference of the
            rule, the styles, and the cases.
        check (`Callable`, *optional*): The checker's opinion on the turns of a case: whether it tests the rule, and
            the kind; `None` for the right one.
    """

    def __init__(self, taxonomy: Taxonomy, twist: Callable[..., Any] | None = None, check: Any = None):
        self.by_text = {rule.text: rule for rule in rules_of(taxonomy).values()}
        self.twist, self.check = twist, check
        self.expected: dict[str, str] = {}
        self.asked: list[str] = []

    def __call__(self, body: dict[str, Any], times: int) -> str:
        user = next(message["content"] for message in body["messages"] if message["role"] == "user")
        writes = "# Questions to write" in user
        text = re.search(r"# (?:What to test|The rule under test)\n(.*?)\n\n", user, re.S)[1]
        rule = self.by_text[text.strip()]
        self.asked.append(f"{'write' if writes else 'check'} {rule.ref}")
        if not writes:
            blocks = re.findall(r"<question-\w+>\n(.*?)\n</question-\w+>", user, re.S)
            return json.dumps(
                {"cases": [self._opinion(number, block) for number, block in enumerate(blocks, start=1)]}
            )
        slots = SLOT.findall(user)
        cases = []
        for number, (style, _, turns) in enumerate(slots, start=1):
            seed = hashlib.sha256(f"{number} {style} {user}".encode()).hexdigest()
            draw = random.Random(seed)
            texts = [" ".join("".join(draw.choices(SYLLABLES, k=3)) for _ in range(7)) + "?" for _ in range(3)]
            kinds = rule.kinds(style)
            case = {"number": number, "turns": texts if turns != "one turn" else texts[:1], "expect": kinds[0]}
            cases.append(case)
        if self.twist:
            cases = self.twist(rule.ref, [slot[0] for slot in slots], cases) or cases
        if isinstance(cases, str):
            return cases
        self.expected |= {
            "\n".join(case["turns"]): case["expect"] for case in cases if isinstance(case["turns"], list)
        }
        return json.dumps({"cases": cases})

    def _opinion(self, number: int, text: str) -> dict[str, Any]:
        tests, kind = (self.check and self.check(text)) or (True, self.expected[text])
        return {"number": number, "why": "So.", "tests": tests, "expect": kind}
