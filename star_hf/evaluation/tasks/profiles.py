"""How answers are sampled, per benchmark: the options of a YAML file in `recipes/eval/`."""

import os
from pathlib import Path
from typing import Any

from pydantic import Field

from ...errors import ConfigError
from ...utils.options import Strict, read_yaml, validated
from ...utils.paths import project_folder
from ..generation.models import Sampling
from .benchmarks import BENCHMARKS
from .loading import Profile


__all__ = ["Evaluation", "load_evaluation"]


class Evaluation(Strict):
    """An evaluation's profile.

    Args:
        profile (`str`): Which instructions follow the questions, `"paper"` or `"recommended"`.
        name (`str`): What results call it: the file's name without its ending.
        generation (`Sampling`): How answers are sampled.
        benchmarks (`dict[str, Sampling]`): What differs, per benchmark; unset fields are those of `generation`.
    """

    profile: Profile
    name: str = ""
    generation: Sampling = Sampling()
    benchmarks: dict[str, Sampling] = Field(default_factory=dict)

    def sampling(self, benchmark: str, **override: Any) -> Sampling:
        """How answers to a benchmark are sampled. Values of `override` that are not `None` replace the file's.

        Several samples of an item at temperature 0 are a [`ConfigError`].
        """
        own = self.benchmarks[benchmark].model_dump(exclude_unset=True) if benchmark in self.benchmarks else {}
        given = {name: value for name, value in override.items() if value is not None}
        sampling = self.generation.model_copy(update={**own, **given})
        if sampling.samples > 1 and sampling.temperature == 0:
            raise ConfigError(
                f"{benchmark}: {sampling.samples} samples at temperature 0 are all the same answer.",
                "Ask for one sample, or use a profile with a temperature, such as `--profile recommended`.",
            )
        return sampling


def load_evaluation(profile: str) -> Evaluation:
    """The profile of a name in `recipes/eval/`, such as `"recommended"`, or of the path of a YAML file like those."""
    ours = project_folder("recipes") / "eval"
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else ours / f"{profile}.yaml"
    if not os.path.isfile(path):
        known = ", ".join(sorted(file.stem for file in ours.glob("*.yaml")))
        raise ConfigError(f"There is no profile {profile!r}.", f"Use {known}, or the path of a YAML file.")
    data = {"name": path.stem, **read_yaml(path)}
    evaluation = validated(Evaluation, data, path, "Compare it with the files in recipes/eval/.")
    if unknown := sorted(set(evaluation.benchmarks) - set(BENCHMARKS)):
        raise ConfigError(f"{path}: there is no benchmark {unknown[0]!r}.", f"Use {', '.join(BENCHMARKS)}.")
    return evaluation
