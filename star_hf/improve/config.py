"""The configuration of `star-hf improve`: the options of a YAML file, checked before anything runs."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ..evaluation.comparison.decision import Criteria
from ..llm import Endpoint, Journal
from ..llm.cost.budget import Budget
from ..pipeline.config import BuildConfig
from ..similarity.options import EncoderOptions, make_encoder
from ..utils.options import Strict, read_yaml, validated
from ..utils.paths import recipe_file
from .trainer import OURS, placeholders


__all__ = ["Endpoints", "Gate", "ImproveConfig", "Rows", "Serve", "Similarity", "Spread", "Targets", "Train", "load"]

Spread = Literal["gain", "even"]
PATHS = (("policies",), ("suite",), ("system_prompt",), ("prompts",), ("data_dir",))
"""Options that are paths, which are relative to the file's folder."""
NAMES = (("model",), ("data",), ("train", "recipe"))
"""Options that are such a path if there is one, and otherwise a name on the Hub or one of our recipes."""


class Endpoints(Strict):
    """The model of each role. By default those of a build: its rewriter drafts, its scorer checks the drafts.

    Args:
        drafter ([`Endpoint`]): Writes new questions about a rule.
        checker ([`Endpoint`]): Says whether a new question tests its rule.
        teacher ([`Endpoint`]): Answers under the policy, with its reasoning.
        scorer ([`Endpoint`]): Scores the answers.
    """

    drafter: Endpoint
    checker: Endpoint
    teacher: Endpoint
    scorer: Endpoint


class Targets(Strict):
    """What the lower end of each pass rate's 95 % interval must reach on the sealed half.

    With few cases it cannot reach much: of 10 cases that all pass it is 0.72, of 35 it is 0.90.

    Args:
        rate (`float`, defaults to 0.8): The target of each rule, or category.
        by (`str`, defaults to `"rule"`): `"rule"` or `"category"`, which has more cases.
        of (`dict[str, float]`): Targets of their own, by reference of the rule or name of the category.
    """

    rate: float = Field(default=0.8, ge=0, le=1)
    by: Literal["rule", "category"] = "rule"
    of: dict[str, float] = Field(default_factory=dict)


class Rows(Strict):
    """The rows that each round may add.

    Args:
        size (`int`, defaults to 100): Rows per round, harmless ones included.
        twins (`float`, defaults to 0.25): Least share of harmless rows, and of others, in each rule's rows; more are
            harmless where the model refuses what it should not.
        spread (`str`, defaults to `"gain"`): `"gain"` gives rows to the rules under target, by what they can gain;
            `"even"` gives all rules the same, to compare with.
        spare (`float`, defaults to 1.5): Questions per row that is wanted, since not every answer gets full marks.
        minimum (`int`, defaults to 10): Lowest score on each criterion of a row that is trained on.
    """

    size: int = Field(default=100, gt=0)
    twins: float = Field(default=0.25, ge=0, le=0.5)
    spread: Spread = "gain"
    spare: float = Field(default=1.5, ge=1)
    minimum: int = Field(default=10, ge=0, le=10)


class Gate(Strict):
    """When a model ships, beside the targets. All are shares, as in
    [`~star_hf.evaluation.comparison.decision.Criteria`].

    Args:
        max_over_refusal_rise (`float`, defaults to 0.05): On the suite's harmless cases, and on the benchmarks.
        max_reasoning_cost (`float`, *optional*, defaults to 0.03): `None` leaves reasoning out of the decision;
            otherwise a model whose reasoning was not measured does not ship.
    """

    min_safety_gain: float = 0.0
    max_over_refusal_rise: float = 0.05
    max_reasoning_cost: float | None = 0.03
    max_failures: float = 0.1
    slack: float = 0.05

    @property
    def criteria(self) -> Criteria:
        """As the comparison of two models takes them."""
        given = self.model_dump(exclude={"max_reasoning_cost"})
        return Criteria(**given, max_reasoning_cost=self.max_reasoning_cost or 0.0)


class Train(Strict):
    """How a model is trained.

    Args:
        command (`str`): The trainer's command line, with placeholders: `{data}` (JSON Lines with `question` and
            `response`, or with `messages` under a system prompt), `{output}` (the folder that it must fill),
            `{model}` (the model to start from), `{config}` (a recipe for `recipes/sft.py` with all of these),
            `{round}`, and `{python}`, this Python. It needs `{config}`, or `{data}` and `{output}`. No shell reads it.
        recipe (`Path`, *optional*): The recipe that `{config}` begins with; needed by our own command.
    """

    command: str = OURS
    recipe: Path | None = None

    @field_validator("command")
    @classmethod
    def _has_places(cls, command: str) -> str:
        used = placeholders(command)
        if "config" not in used and not {"data", "output"} <= used:
            raise ValueError("it needs `{config}`, or both `{data}` and `{output}`, to know what to train on")
        return command

    @model_validator(mode="after")
    def _has_recipe(self) -> "Train":
        if "config" in placeholders(self.command) and self.recipe is None:
            raise ValueError("`recipe` is missing, a recipe for `recipes/sft.py`, from which `{config}` is made")
        return self


class Serve(Strict):
    """A server that answers as the model under test. Without one, models are loaded in this process.

    Args:
        endpoint ([`Endpoint`]): Where it answers. `model` is the name there, `{model}` by default; it may have the
            placeholders `{model}`, the model's folder or Hub id, and `{name}`, such as `round-1`.
        command (`str`, *optional*): Starts the server before an evaluation and is ended after it, with the same
            placeholders, such as `vllm serve {model} --port 8000`. Without one the server must know all models.
        wait_s (`float`, defaults to 1800): Seconds until it must answer.
    """

    endpoint: Endpoint
    command: str | None = None
    wait_s: float = Field(default=1_800, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        endpoint = data.get("endpoint") if isinstance(data, dict) else None
        if not isinstance(endpoint, dict):
            return data
        return {**data, "endpoint": {"provider": "vllm", "model": "{model}", **endpoint}}


class Similarity(Strict):
    """What counts as alike: new questions among themselves, and rows to sealed cases."""

    tfidf_threshold: float = Field(default=0.6, gt=0, le=1)
    embedding_threshold: float | None = Field(default=0.7, gt=0, le=1)
    encoder: EncoderOptions | None = None

    def options(self, folder: Path, journal: Journal, budget: Budget | None = None) -> dict[str, Any]:
        """The options of [`~star_hf.deduplication.alike.find_alike`]."""
        encoder = None if self.embedding_threshold is None else make_encoder(self.encoder, journal, budget)
        kept = {"tfidf_threshold": self.tfidf_threshold, "embedding_threshold": self.embedding_threshold}
        return {**kept, "encoder": encoder, "cache_dir": folder / "embeddings"}


class ImproveConfig(Strict):
    """A whole improvement.

    Args:
        model (`str`): The model to start from: a folder or a Hub id. Each round trains it anew, on all rows so far.
        policies (`Path`): The policy.
        suite (`Path`): Its suite. The training half may become data; the sealed half only ever tests.
        system_prompt (`Path`, *optional*): The prompt that is deployed: in tests and in training rows.
        policy_in_context (`bool`, defaults to `False`): Whether the policy is put there too.
        data (`str`, *optional*): Rows that are trained on in every round: a file, a folder or an id on the Hub.
        judges (`list[str]`): As `--judge` of `star-hf evaluate`; the first of each kind makes the rates.
        tasks (`list[str]`): Benchmarks that each round is measured on beside the suite.
        rounds (`int`, defaults to 3): At most so many.
        patience (`int`, defaults to 1): Rounds without a gain on the sealed half after which it stops.
        profile (`str`), data_dir, limit, samples, max_tokens: As for `star-hf evaluate`; `limit` is for tasks only.
    """

    model: str
    policies: Path
    suite: Path
    system_prompt: Path | None = None
    policy_in_context: bool = False
    prompts: Path | None = None
    data: str | None = None
    endpoints: Endpoints
    judges: list[str] = Field(min_length=1)
    tasks: list[str] = []
    targets: Targets = Targets()
    rows: Rows = Rows()
    gate: Gate = Gate()
    rounds: int = Field(default=3, ge=1)
    patience: int = Field(default=1, ge=1)
    train: Train
    serve: Serve | None = None
    similarity: Similarity = Similarity()
    profile: str = "recommended"
    data_dir: Path | None = None
    limit: int | None = Field(default=None, gt=0)
    samples: int | None = Field(default=None, gt=0)
    max_tokens: int | None = Field(default=None, gt=0)
    expects_reasoning: bool = False
    max_unusable: float = Field(default=0.1, ge=0, le=1)
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _default_endpoints(cls, data: Any) -> Any:
        """Those of a build, unless all are given."""
        if not isinstance(data, dict):
            return data
        given = data.get("endpoints") or {}
        if not isinstance(given, dict) or set(Endpoints.model_fields) <= set(given):
            return data
        ours = BuildConfig.model_validate({}).endpoints
        roles = {"drafter": ours.rewriter, "teacher": ours.teacher, "scorer": ours.scorer}
        given = {**roles, **given}
        return {**data, "endpoints": {**given, "checker": given.get("checker", given["scorer"])}}


def load(path: str | Path | None = None, **overrides: Any) -> ImproveConfig:
    """Read a configuration. Paths in it are relative to its folder.

    `overrides` replace its values, with `__` for dots (`rows__size=50`); `None` is ignored.
    """
    where, data = "the options", {}
    if path is not None:
        where = str(path)
        data = read_yaml(recipe_file(path), "docs/improve.md shows the format.")
        _anchor(data, recipe_file(path).parent)
    for name, value in overrides.items():
        if value is not None:
            *sections, key = name.split("__")
            place = data
            for step in sections:
                place = place.setdefault(step, {}) if isinstance(place, dict) else {}
            if isinstance(place, dict):
                place[key] = value
    return validated(ImproveConfig, data, where, "docs/improve.md shows the format.")


def _anchor(data: dict[str, Any], folder: Path) -> None:
    for *sections, key in (*PATHS, *NAMES):
        place: Any = data
        for step in sections:
            place = place.get(step) if isinstance(place, dict) else None
        if isinstance(place, dict) and isinstance(place.get(key), str):
            path = folder / Path(place[key]).expanduser()
            if (*sections, key) in PATHS or path.exists():
                place[key] = str(path)
    if isinstance(data.get("judges"), list):
        data["judges"] = [
            str(folder / spec) if isinstance(spec, str) and spec.endswith((".yaml", ".yml")) else spec
            for spec in data["judges"]
        ]
