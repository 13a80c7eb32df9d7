"""The configuration of a build: the options of a YAML recipe, checked before anything runs."""

import copy
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ..errors import ConfigError
from ..llm import Batch, Endpoint
from ..scale.executors import Scale
from ..similarity.options import EncoderOptions
from ..utils.options import Strict, read_yaml, validated
from ..utils.paths import recipe_file


__all__ = ["Benign", "BuildConfig", "Collect", "Deduplicate", "Endpoints", "Profile", "Select", "load_config"]

Profile = Literal["paper", "recommended"]
GPT_4O = "gpt-4o-2024-11-20"


class Collect(Strict):
    """The sources of questions; see [`~star_hf.transforms.collect.collect`]."""

    sources: list[str] | None = None
    held_out: list[str] | None = None
    sources_dir: Path | None = None
    questions: Path | None = None
    held_out_questions: Path | None = None
    require_all: bool = False
    max_chars: int = Field(default=20_000, gt=0)


class Deduplicate(Strict):
    """The duplicate search; see [`~star_hf.transforms.deduplicate.deduplicate`].

    Args:
        rule (`str`, defaults to `"first_wins"`): `"first_wins"` is the paper's: a row is removed if it is similar to
            an earlier kept row. `"one_per_group"` keeps one row of each group of connected similar rows; see
            [`~star_hf.deduplication.alike.Alike.one_per_group`].
        prefer (`list[str]`): Which row of a group is kept: of the `rarest` source, the `longest` question.
    """

    rule: Literal["first_wins", "one_per_group"] = "first_wins"
    prefer: list[Literal["rarest", "longest"]] = ["rarest", "longest"]
    tfidf_threshold: float = Field(default=0.6, gt=0, le=1)
    embedding_threshold: float | None = Field(default=0.7, gt=0, le=1)
    encoder: EncoderOptions | None = None

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint that computes embeddings, if one does."""
        return None if self.embedding_threshold is None or self.encoder is None else self.encoder.endpoint


class Endpoints(Strict):
    """The model of each role. The teacher and the scorer also answer and score the benign twins."""

    classifier: Endpoint
    teacher: Endpoint
    scorer: Endpoint
    rewriter: Endpoint


class Select(Strict):
    """How the final rows are selected; see [`~star_hf.transforms.select.select`]."""

    size: int = Field(default=1_000, gt=0)
    strategy: Literal["coverage", "paper", "random", "top-k", "medium-score"] | None = None
    seed: int = 0


class Benign(Strict):
    """Whether benign twins are made, and the minimum score (1-5) per criterion to keep one."""

    enabled: bool = True
    minimum: int = Field(default=5, ge=1, le=5)


class BuildConfig(Strict):
    """A whole build. The default of each field is the paper's value or the recommended one.

    Args:
        profile (`str`, defaults to `"recommended"`): `"paper"` reproduces the published choices; see
            `docs/differences.md`.
        policies (`Path`, *optional*): A taxonomy of your own instead of the eight categories.
        prompts (`Path`, *optional*): Folder with prompts of your own (`classify.j2`, ...) that replace those of the
            same name.
        max_unusable (`float`, defaults to 0.02): Accepted share of rows per stage without a usable response.
        accept_unavailable (`bool`, defaults to `False`): Whether rows whose requests all failed may be among them.
            This process then sends all requests and ignores `scale`.
        scale (`Scale`, *optional*): Run the stages that call a model for every row in several processes.
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
            raise ValueError("`deduplicate.rule: one_per_group` is not the paper's: remove it, or `profile: paper`")
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_endpoints(cls, data: Any) -> Any:
        """Fill in the paper's models; all but the teacher use temperature 0, unless the profile is `paper`."""
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
        given = data.get("endpoints") or {}
        return {**data, "endpoints": {**endpoints, **given} if isinstance(given, dict) else given}

    def batched(self) -> "BuildConfig":
        """The same build with a Batch API for each endpoint whose provider has one, unless the recipe sets it."""
        endpoints = {
            role: endpoint.model_copy(update={"batch": endpoint.batch or Batch()})
            for role, endpoint in self.endpoints
            if endpoint.preset.batches
        }
        return self.model_copy(update={"endpoints": self.endpoints.model_copy(update=endpoints)})

    @property
    def strategy(self) -> str:
        """The selection strategy; the profile's if the recipe names none."""
        return self.select.strategy or ("paper" if self.profile == "paper" else "coverage")


def load_config(
    path: str | Path | None = None, *, base: dict[str, Any] | None = None, **overrides: Any
) -> BuildConfig:
    """Read a recipe.

    Paths inside it are relative to the recipe's own folder.

    Args:
        path (`str` or `Path`, *optional*): The YAML file, or the name of one of ours
            ([`~star_hf.utils.paths.recipe_file`]).
        base (`dict`, *optional*): Options to use without a file, such as those of an earlier run.
        overrides: Values that replace the file's, with `__` for dots (`collect__sources_dir=...`); `None` is ignored.
    """
    where = "the options" if path is None else str(path)
    if path is None:
        data = copy.deepcopy(base or {})
    else:
        data = read_yaml(recipe_file(path), "Give the path of a YAML recipe, such as those in recipes/data/.")
        _anchor(data, recipe_file(path).parent)
    for name, value in overrides.items():
        if value is not None:
            *sections, key = name.split("__")
            section = data
            for step in sections:
                if section.get(step) is None:
                    section[step] = {}
                section = section[step]
                if not isinstance(section, dict):
                    raise ConfigError(f"{where}: `{step}` is a {type(section).__name__}, expected `key: value` lines.")
            section[key] = value
    return validated(BuildConfig, data, where)


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
