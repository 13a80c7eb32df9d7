"""Recipes: YAML files of TRL's options and a few of our own. `base` names a recipe to start from."""

import difflib
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import yaml

from ..errors import ConfigError
from ..utils.options import read_yaml
from ..utils.paths import recipe_file


__all__ = ["Recipe", "RecipeArguments", "parse_recipe", "read_options"]


@dataclass
class RecipeArguments:
    """Our options of every kind of training, beside TRL's own.

    Args:
        global_batch (`int`, *optional*): Examples per update that the recipe needs; any other number is refused.
        train_split (`str`, defaults to `"train"`): Split of the data set to train on.
        max_rows (`int`, *optional*): Train on this many rows only: the first ones, or random ones with `sample_seed`.
        sample_seed (`int`, *optional*): Seed that draws the rows of `max_rows`.
    """

    global_batch: int | None = None
    train_split: str = "train"
    max_rows: int | None = None
    sample_seed: int | None = None


@dataclass
class Recipe:
    """A parsed recipe: our options (`star`), and TRL's of the trainer, the model and the data sets."""

    star: Any
    training: Any
    model: Any
    data: Any


def parse_recipe(arguments: Sequence[str] | None, own: type[RecipeArguments], trainer: str) -> Recipe:
    """Read a recipe (`--config`) and the options that replace its lines, by default from this process's command line.

    `own` are our options of this kind of training, and `trainer` is the name of TRL's, such as `"SFTConfig"`.

    Raises:
        [`ConfigError`]: If the recipe cannot be read or has an invalid option. For a renamed option the error gives
            the new name.
    """
    import torch
    import trl

    kinds = (own, getattr(trl, trainer), trl.ModelConfig, trl.DatasetMixtureConfig)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "--use_cpu" not in arguments and not torch.accelerator.is_available():
        arguments += ["--use_cpu", "true"]  # otherwise TRL refuses a GPU's recipe before we can check it
    if old := _renamed(argument[2:] for argument in arguments if argument.startswith("--")):
        raise ConfigError(f"TRL no longer has these options: {'; '.join(old)}.")
    parser = trl.TrlParser(kinds)
    parser.error = _refuse  # argparse would print all of TRL's options first
    with tempfile.TemporaryDirectory(prefix="star_hf-") as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`gradient_checkpointing`", FutureWarning)  # TRL's own default
        if "--config" in arguments[:-1]:
            place = arguments.index("--config") + 1
            options = read_options(arguments[place])
            _check_names(options, {entry.name for kind in kinds for entry in fields(kind)} | {"env"})
            merged = Path(folder) / "recipe.yaml"
            merged.write_text(yaml.safe_dump(options), encoding="utf-8")
            arguments[place] = str(merged)
        try:
            parts = parser.parse_args_and_config(arguments)
        except (TypeError, ValueError) as error:
            _refuse(str(error))
    if wrong := [line for part in parts for line in _wrong_choices(part)]:
        _refuse("; ".join(wrong))
    return Recipe(*parts)


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"Invalid recipe: {message}") from None


def _check_names(options: dict[str, Any], known: set[str]) -> None:
    """Refuse unknown options, and data sets in another form than TRL's."""
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), 1)
            hint = f" Did you mean `{close[0]}`?" if close else ""
            _refuse(f"`{name}` is not an option of this kind of training.{hint}")
    datasets = options.get("datasets", [])
    if not isinstance(datasets, list) or not all(isinstance(entry, dict) for entry in datasets):
        _refuse("`datasets` must be a list of mappings, such as `[{path: UCSC-VLAA/STAR-1}]`.")


def _wrong_choices(part: Any) -> Iterator[str]:
    """Values that are not among an option's choices: the parser checks them on the command line only."""
    for entry in fields(part):
        choices, value = entry.metadata.get("choices"), getattr(part, entry.name)
        if choices and value is not None and value not in choices:
            yield f"`{entry.name}` is {value!r}, expected {' or '.join(map(str, choices))}"


def read_options(recipe: str | Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """All options of a recipe, a file or the name of one of ours: those of its `base` (a path relative to it),
    replaced by its own. `seen` are the recipes that have this one as their base.

    Raises:
        [`ConfigError`]: If a file cannot be read, is its own base, or has an option that TRL renamed.
    """
    recipe = recipe_file(recipe)
    options = read_yaml(recipe, "Name a recipe of recipes/.")
    if old := _renamed(options):
        raise ConfigError(f"{recipe} has options that TRL no longer has: {'; '.join(old)}.")
    base = options.pop("base", None)
    if base is None:
        return options
    place = (recipe.parent / str(base)).resolve()
    seen = (*seen, recipe.resolve())
    if place in seen:
        raise ConfigError(f"{recipe} is its own base, through `base: {base}`.", "Name another recipe.")
    return {**read_options(place, seen), **options}


def _renamed(options: Iterable[str]) -> list[str]:
    given = set(options)
    return [f"`{name}` is now {new}" for name, new in RENAMED.items() if name in given]


RENAMED = {
    "torch_dtype": "`dtype`",
    "max_seq_length": "`max_length`",
    "max_prompt_length": "gone: prompts are never cut; leave long ones out of the data",
    "warmup_ratio": "`warmup_steps`, which takes a share below 1",
    "dataset_mixture": "`datasets`",
    "group_by_length": "`train_sampling_strategy: group_by_length`",
    "overwrite_output_dir": "gone: name a new `output_dir`, or `resume_from_checkpoint`",
    "logging_dir": "gone: name a tracker in `report_to`",
    "chat_template": "`chat_template_path`, a file with the template",
    "use_liger": "`model_init_kwargs: {use_kernels: true}`",
}
"""Options of older recipes (open-r1, alignment-handbook) that TRL 1.16 refuses or ignores."""
