"""The configuration of a build: what a YAML recipe may say, checked before anything runs."""

import copy
import difflib
from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import ConfigError
from ..llm import Batch, Endpoint
from ..scale.executors import Scale
from ..similarity.options import EncoderOptions
from ..utils.paths import recipe_file


__all__ = ["Benign", "BuildConfig", "Collect", "Deduplicate", "Endpoints", "Profile", "Select", "load_config"]

Profile = Literal["paper", "recommended"]
GPT_4O = "gpt-4o-2024-11-20"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Collect(_Strict):
    """Where questions come from; see [`~star_hf.transforms.collect.collect`]."""

    sources: list[str] | None = None
    held_out: list[str] | None = None
    sources_dir: Path | None = None
    questions: Path | None = None
    held_out_questions: Path | None = None
    require_all: bool = False
    max_chars: int = Field(default=20_000, gt=0)


class Deduplicate(_Strict):
    """The duplicate search; see [`~star_hf.transforms.deduplicate.deduplicate`].

    Args:
        rule (`str`, defaults to `"first_wins"`): `"first_wins"` is the paper's: a row leaves if it is like an earlier
            kept one. Under `"one_per_group"` one row of each group that likeness connects stays; see
            [`~star_hf.deduplication.alike.Alike.one_per_group`].
        prefer (`list[str]`): Which row of a group stays: of the `rarest` source, the `longest` question.
    """

    rule: Literal["first_wins", "one_per_group"] = "first_wins"
    prefer: list[Literal["rarest", "longest"]] = ["rarest", "longest"]
    tfidf_threshold: float = Field(default=0.6, gt=0, le=1)
    embedding_threshold: float | None = Field(default=0.7, gt=0, le=1)
    encoder: EncoderOptions | None = None

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint that is asked for vectors, where one is."""
        return None if self.embedding_threshold is None or self.encoder is None else self.encoder.endpoint


class Endpoints(_Strict):
    """Which model does what. The rewriter and the benign teacher and scorer default to the models named here."""

    classifier: Endpoint
    teacher: Endpoint
    scorer: Endpoint
    rewriter: Endpoint


class Select(_Strict):
    """How the final rows are chosen; see [`~star_hf.transforms.select.select`]."""

    size: int = Field(default=1_000, gt=0)
    strategy: Literal["coverage", "paper", "random", "top-k", "medium-score"] | None = None
    seed: int = 0


class Benign(_Strict):
    """Whether benign twins are made, and the least mark (1-5) that each criterion needs to keep one."""

    enabled: bool = True
    minimum: int = Field(default=5, ge=1, le=5)


class BuildConfig(_Strict):
    """A whole build. Every field has the paper's value or the recommended one as default.

    Args:
        profile (`str`, defaults to `"recommended"`): `"paper"` reproduces the published choices; the differences
            stand in `docs/differences.md`.
        policies (`Path`, *optional*): A taxonomy of your own instead of the eight categories.
        prompts (`Path`, *optional*): Folder with prompts of your own (`classify.j2`, ...) that replace those of the
            same name.
        max_unusable (`float`, defaults to 0.02): Accepted share of rows per stage without a usable answer.
        accept_unavailable (`bool`, defaults to `False`): Whether rows that no try answers may be among them. Then
            this process asks, whatever `scale` says.
        scale (`Scale`, *optional*): Spread the stages that ask about every row beyond one process.
    """

    profile: Profile = "recommended"
    policies: Path | None = None
    prompts: Path | None = None
    collect: Collect = Collect()
    deduplicate: Deduplicate = Deduplicate()
    endpoints: Endpoints
    select: Select = Select()
    benign: Benign = Benign()
    max_unusable: float = Field(default=0.02, ge=0, le=1)
    accept_unavailable: bool = False
    scale: Scale | None = None

    @model_validator(mode="after")
    def _paper_has_its_rule(self) -> Self:
        if self.profile == "paper" and self.deduplicate.rule != "first_wins":
            raise ValueError("`deduplicate.rule: one_per_group` is not the paper's: leave one of them out")
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_endpoints(cls, data: Any) -> Any:
        """Fill in the paper's models; judges answer at temperature 0 unless the profile is `paper`."""
        if not isinstance(data, dict):
            return data
        judge: dict[str, Any] = {"provider": "openai", "model": GPT_4O}
        if data.get("profile", "recommended") != "paper":
            judge |= {"temperature": 0.0, "seed": 0}
        teacher = {
            "provider": "hf",
            "model": "deepseek-ai/DeepSeek-R1",
            "temperature": 0.6,
            "top_p": 0.7,
            "max_tokens": 8_000,
            "timeout_s": 1_800,
        }
        endpoints = {"classifier": judge, "teacher": teacher, "scorer": judge, "rewriter": judge}
        return {**data, "endpoints": {**endpoints, **(data.get("endpoints") or {})}}

    def batched(self) -> "BuildConfig":
        """The same build with a Batch API wherever the provider has one and the recipe says nothing of it."""
        endpoints = {
            role: endpoint.model_copy(update={"batch": endpoint.batch or Batch()})
            for role, endpoint in self.endpoints
            if endpoint.preset.batches
        }
        return self.model_copy(update={"endpoints": self.endpoints.model_copy(update=endpoints)})

    @property
    def strategy(self) -> str:
        """The selection strategy, by profile where the recipe names none."""
        return self.select.strategy or ("paper" if self.profile == "paper" else "coverage")


def load_config(
    path: str | Path | None = None, *, base: dict[str, Any] | None = None, **overrides: Any
) -> BuildConfig:
    """Read a recipe.

    Paths inside it are relative to the recipe's own folder.

    Args:
        path (`str` or `Path`, *optional*): The YAML file, or the name of one of ours
            ([`~star_hf.utils.paths.recipe_file`]); without it `base` counts.
        base (`dict`, *optional*): Options where there is no file, such as those of an earlier run; the defaults
            otherwise.
        overrides: Values that replace the file's, dotted names with `__` (`collect__sources_dir=...`); `None` is
            passed over.

    Raises:
        ConfigError: If the file cannot be read, has a key that is not an option, or a value that does not fit.
    """
    where = "the options" if path is None else str(path)
    data = copy.deepcopy(base or {}) if path is None else _read(recipe_file(path))
    for name, value in overrides.items():
        if value is not None:
            *sections, key = name.split("__")
            section = data
            for step in sections:
                section = section.setdefault(step, {})
            section[key] = value
    try:
        return BuildConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{where}: {_explain(problem)}" for problem in error.errors())) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}.", "Give the path of a YAML recipe, such as those in recipes/data/."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__}, expected `key: value` lines.")
    _anchor(data, path.parent)
    return data


def _anchor(data: dict[str, Any], folder: Path) -> None:
    """Make the recipe's own paths independent of the working directory."""
    collect = data.get("collect") if isinstance(data.get("collect"), dict) else {}
    for section, key in (
        (data, "policies"),
        (data, "prompts"),
        (collect, "sources_dir"),
        (collect, "questions"),
        (collect, "held_out_questions"),
    ):
        if isinstance(section.get(key), str):
            section[key] = str(folder / Path(section[key]).expanduser())


def _explain(problem: Any) -> str:
    where = ".".join(str(step) for step in problem["loc"]) or "the file"
    if problem["type"] == "value_error":  # our own words; the value itself may hold a secret
        return f"`{where}`: {problem['msg']}."
    if problem["type"] != "extra_forbidden":
        return f"`{where}`: {problem['msg']} (got {problem['input']!r:.80})."
    known = _options(problem["loc"][:-1])
    close = difflib.get_close_matches(str(problem["loc"][-1]), known, 1)
    return f"`{where}` is not an option." + (
        f" Did you mean `{close[0]}`?" if close else f" Options: {', '.join(known)}."
    )


def _options(sections: tuple[str | int, ...]) -> list[str]:
    """Names of the options in a section of the recipe."""
    model: Any = BuildConfig
    for section in sections:
        if isinstance(section, int):  # a place in a list
            continue
        inside = model.model_fields[section].annotation  # a section, `Section | None`, or a tuple of them
        model = next(kind for kind in (inside, *get_args(inside)) if hasattr(kind, "model_fields"))
    return list(model.model_fields)
