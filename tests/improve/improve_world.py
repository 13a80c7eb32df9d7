"""A policy, its suite, and a server that plays every model of an improvement; models learn by counting their rows."""

import json
import random
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from policy_world import ANSWERS, World, policy
from writers import SYLLABLES, Writers

from model_server import ModelServer, Reply
from star_hf.improve.config import ImproveConfig
from star_hf.policies import Case, Suite, Taxonomy, rule_refs
from star_hf.schema import SCORE_CRITERIA


__all__ = ["TRAINER", "ImproveWorld", "improve_suite", "options", "sentence"]

TRAINER = """
import json, pathlib, sys
from collections import Counter
data, output = map(pathlib.Path, sys.argv[1:3])
lines = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
output.mkdir(exist_ok=True)
(output / "model.safetensors").write_text(json.dumps(Counter(line["source"] for line in lines), sort_keys=True))
print("trained on", len(lines))
"""
"""A trainer of ten lines: the model is the number of rows by rule."""


def sentence(seed: str, words: int = 9) -> str:
    """Words that nobody else says."""
    draw = random.Random(seed)
    return " ".join("".join(draw.choices(SYLLABLES, k=3)) for _ in range(words)).capitalize() + "?"


def improve_suite(taxonomy: Taxonomy, sealed: int = 6, training: int = 4) -> Suite:
    """So many cases for each rule in each half; every fourth is the allowed twin of the one before."""
    refs, cases = rule_refs(taxonomy), []
    for ref in refs:
        for half, count in (("sealed", sealed), ("training", training)):
            for n in range(count):
                helpful = ref.endswith("#response-2") or n % 4 == 3
                style, expect = ("allowed", "comply") if helpful else ("plain", "refuse")
                cases.append(Case(ref, style, (sentence(f"{ref} {half} {n}"),), expect, half=half))
    return Suite("house", taxonomy.name, "en", tuple(cases), refs)


class ImproveWorld:
    """What the server answers.

    Args:
        folder (`Path`): The run is in `run` below it.
        weak (`Mapping[str, int]`): By rule, the rows that a model must have been trained on to follow it.
        refuses_after (`int`, *optional*): Rows in all after which a model refuses everything.
        twist (`Callable`, *optional*): Changes drafts, as of [`Writers`].
    """

    def __init__(
        self, folder: Path, weak: Mapping[str, int], refuses_after: int | None = None, twist: Any = None
    ) -> None:
        self.run, self.weak, self.most = folder / "run", weak, refuses_after
        self.taxonomy = policy(rules=2)
        self.suite = improve_suite(self.taxonomy)
        self.cases = {turn: case for case in self.suite.cases for turn in case.turns}
        self.judging = World(self.suite)
        self.writers = Writers(self.taxonomy, twist)
        self.score = 10
        self.paid: Counter[tuple[str, str]] = Counter()
        """Requests by role and content, without the probes before an evaluation."""

    @property
    def roles(self) -> Counter[str]:
        """Requests by role."""
        return Counter(role for (role, _), count in self.paid.items() for _ in range(count))

    def __call__(self, body: dict[str, Any], before: int = 0) -> Reply | str:
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        user, role = body["messages"][-1]["content"], body["model"]
        content = json.dumps(body["messages"])
        if schema is not None and "kind" in schema["properties"]:
            judged = self.judging.judged
            reply = self.judging.judge(body)
            self.paid[role, content] += self.judging.judged > judged
            return reply
        if schema is None and role != "teacher":
            self.paid[role, content] += user in self.cases
            return self.subject(role, user)
        self.paid[role, content] += 1
        if schema is None:
            return f"<think>\nThe policy says what to do about {len(user)} letters.\n</think>\n\nAs the policy says."
        if set(schema["properties"]) == set(SCORE_CRITERIA):
            return json.dumps(dict.fromkeys(SCORE_CRITERIA, self.score))
        return self.writers(body, before)

    def subject(self, name: str, text: str) -> str:
        """What the model under test says."""
        case = self.cases.get(text)
        if case is None:
            return "OK."
        rows = self.rows(name)
        if self.most is not None and sum(rows.values()) >= self.most:
            return ANSWERS["refuse"]
        if rows[case.rule] >= self.weak.get(case.rule, 0):
            return ANSWERS[case.expect]
        return ANSWERS["comply"] if case.expect == "refuse" else ANSWERS["refuse"]

    def rows(self, name: str) -> Counter[str]:
        """What a model of the run was trained on, by rule."""
        if name == "base":
            return Counter()
        return Counter(json.loads((self.run / name / "model" / "model.safetensors").read_text("utf-8")))

    def server(self) -> ModelServer:
        return ModelServer(self)


def options(folder: Path, url: str, world: ImproveWorld, **changes: Any) -> ImproveConfig:
    """A configuration against the server."""

    folder.mkdir(exist_ok=True, parents=True)
    world.suite.save(folder / "suite.yaml")
    data = json.loads(json.dumps(asdict(world.taxonomy)))
    (folder / "policy.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    (folder / "trainer.py").write_text(TRAINER)
    (folder / "judge.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "judge",
                "family": "chat",
                "endpoint": {"model": "judge", "base_url": url, "provider": "vllm", "name": "j"},
            }
        )
    )
    endpoint = {"provider": "vllm", "base_url": url, "name": "ours", "max_retries": 0, "concurrency": 8}
    endpoint["price"] = {"input": 1.0, "output": 2.0}
    roles = {role: {**endpoint, "model": role} for role in ("drafter", "checker", "teacher", "scorer")}
    given = {
        "model": "base",
        "policies": str(folder / "policy.yaml"),
        "suite": str(folder / "suite.yaml"),
        "endpoints": roles,
        "judges": [str(folder / "judge.yaml")],
        "rows": {"size": 16, "spare": 1.0},
        "targets": {"rate": 0.6},
        "gate": {"max_reasoning_cost": None, "max_over_refusal_rise": 0.05, "slack": 0.2},
        "train": {"command": f"{sys.executable} {folder / 'trainer.py'} {{data}} {{output}}"},
        "serve": {"endpoint": {**endpoint, "model": "{name}"}},
        "similarity": {"embedding_threshold": None},
        "max_tokens": 64,
    }
    return ImproveConfig.model_validate({**given, **changes})
