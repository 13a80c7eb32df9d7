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


def improve_suite(taxonomy: Taxonomy, sealed: int = 12, training: int = 4) -> Suite:
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
        weak (`Mapping[str, int]`): By rule, the rows that a model must have been trained on to follow it.
        over_refuses_after (`int`, *optional*): Rows in all after which a model refuses everything.
    """

    def __init__(self, folder: Path, weak: Mapping[str, int], over_refuses_after: int | None = None):
        self.run, self.weak, self.most = folder / "run", weak, over_refuses_after
        self.taxonomy = policy()
        self.suite = improve_suite(self.taxonomy)
        self.cases = {turn: case for case in self.suite.cases for turn in case.turns}
        self.judge = World(self.suite).judge
        self.writers = Writers(self.taxonomy)
        self.paid: Counter[str] = Counter()

    def __call__(self, body: dict[str, Any], before: int = 0) -> Reply | str:
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        user = body["messages"][-1]["content"]
        if schema is None and body["model"] == "teacher":
            self.paid["reason"] += 1
            return f"<think>\nThe policy says what to do about {len(user)} letters.\n</think>\n\nAs the policy says."
        if schema is None:
            self.paid[f"ask {body['model']}"] += 1
            return self.subject(body["model"], user)
        names = set(schema["properties"])
        if "kind" in names:
            self.paid["judge"] += 1
            return self.judge(body)
        if names == set(SCORE_CRITERIA):
            self.paid["score"] += 1
            return json.dumps(dict.fromkeys(SCORE_CRITERIA, 10))
        self.paid["draft"] += 1
        return self.writers(body, before)

    def subject(self, name: str, text: str) -> str:
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
        "rows": {"size": 24, "spare": 1.0},
        "targets": {"rate": 0.7},
        "gate": {"max_reasoning_cost": None, "max_over_refusal_rise": 0.05, "slack": 0.2},
        "train": {"command": f"{sys.executable} {folder / 'trainer.py'} {{data}} {{output}}"},
        "serve": {"endpoint": {**endpoint, "model": "{name}"}},
        "similarity": {"embedding_threshold": None},
        "max_tokens": 64,
    }
    return ImproveConfig.model_validate({**given, **changes})
