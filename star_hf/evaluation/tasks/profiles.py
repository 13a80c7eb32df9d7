"""How answers are drawn, per benchmark: what a YAML file in `recipes/eval/` may say, checked before anything runs."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import ConfigError
from ...utils.paths import project_folder
from ..generation.models import Sampling
from .benchmarks import BENCHMARKS, Profile


__all__ = ["Evaluation", "load_evaluation"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Generation(_Strict):
    """Fields of [`~star_hf.evaluation.generation.models.Sampling`]; `None` leaves what stands above."""

    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0)
    max_tokens: int | None = Field(default=None, gt=0)
    seed: int | None = None
    samples: int | None = Field(default=None, gt=0)

    def given(self) -> dict[str, Any]:
        """What is said, without what is not."""
        return self.model_dump(exclude_none=True)


class Evaluation(_Strict):
    """An evaluation's profile.

    Args:
        profile (`str`): Whose instructions follow the questions, `"paper"` or `"recommended"`.
        name (`str`): What results call it: the file's name without its ending.
        generation: How answers are drawn; unset fields have the defaults of
            [`~star_hf.evaluation.generation.models.Sampling`].
        benchmarks (`dict`): What differs, per benchmark.
    """

    profile: Profile
    name: str = ""
    generation: _Generation = _Generation()
    benchmarks: dict[str, _Generation] = Field(default_factory=dict)

    def sampling(self, benchmark: str, **override: Any) -> Sampling:
        """How answers to a benchmark are drawn. Values of `override` that are not `None` come before the file's.

        Raises:
            ConfigError: If several samples of an item would all be the likeliest answer.
        """
        own = self.benchmarks[benchmark].given() if benchmark in self.benchmarks else {}
        given = {name: value for name, value in override.items() if value is not None}
        sampling = Sampling(**{**self.generation.given(), **own, **given})
        if sampling.samples > 1 and sampling.temperature == 0:
            raise ConfigError(
                f"{benchmark}: {sampling.samples} samples at temperature 0 are all the same answer.",
                "Ask for one sample, or use a profile with a temperature, such as `--profile recommended`.",
            )
        return sampling


def load_evaluation(profile: str) -> Evaluation:
    """Read a profile.

    Args:
        profile (`str`): A name in `recipes/eval/`, such as `"recommended"`, or the path of a YAML file like those.

    Raises:
        ConfigError: If there is none, or it says something else than it may.
    """
    ours = project_folder("recipes") / "eval"
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else ours / f"{profile}.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        evaluation = Evaluation.model_validate({"name": path.stem, **data})
    except OSError:
        known = ", ".join(sorted(file.stem for file in ours.glob("*.yaml")))
        raise ConfigError(f"There is no profile {profile!r}.", f"Use {known}, or the path of a YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise ConfigError(f"{path}: `{where}`: {problem['msg']}.", "Write it like those in recipes/eval/.") from None
    if unknown := sorted(set(evaluation.benchmarks) - set(BENCHMARKS)):
        raise ConfigError(f"{path}: there is no benchmark {unknown[0]!r}.", f"Use {', '.join(BENCHMARKS)}.")
    return evaluation
