"""Recipes: YAML files of TRL's own options and the few of ours, with `base` for one that differs in a few lines."""

import difflib
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

import yaml

from ..errors import ConfigError
from ..utils.paths import recipe_file


__all__ = ["Arguments", "RecipeArguments", "StarArguments", "parse_recipe", "read_options"]


@dataclass
class RecipeArguments:
    """What every recipe may say beside TRL's own options.

    Args:
        global_batch (`int`, *optional*): Examples per update that the recipe stands for; another number is refused.
        train_split (`str`, defaults to `"train"`): Split of the data set that is trained on.
        max_rows (`int`, *optional*): Train on this many rows only: the first, or with `sample_seed` any.
        sample_seed (`int`, *optional*): Draw the rows of `max_rows` with this seed.
    """

    global_batch: int | None = None
    train_split: str = "train"
    max_rows: int | None = None
    sample_seed: int | None = None


@dataclass
class StarArguments(RecipeArguments):
    """What a recipe of supervised fine-tuning, or of training on preferences, may say.

    Args:
        mode (`str`, defaults to `"recommended"`): `"paper"` reproduces the published script's labels and loss.
        think (`bool`, defaults to `True`): `False` trains on answers alone (paper, Section 4.2, "w/o think").
        primer (`str`, *optional*): Rows without a response teach to begin a thought so, and nothing more (SafePath,
            arXiv:2505.14667); rows with one are learnt from as ever.
        loss_average (`str`, *optional*): `"token"` (mean over label tokens, TRL's) or `"example"` (mean over examples,
            the published script's); by the mode where it is not given.
        min_score, max_score (`int`, *optional*): Train on rows whose lowest mark is at least, or at most, this; the
            data need the column `score`.
        sources (`list[str]`, *optional*): Train on rows of these sources only; the data need the column `source`.
    """

    mode: str = field(default="recommended", metadata={"choices": ["paper", "recommended"]})
    think: bool = True
    primer: str | None = None
    loss_average: str | None = field(default=None, metadata={"choices": ["token", "example"]})
    min_score: int | None = None
    max_score: int | None = None
    sources: list[str] | None = None

    @property
    def average(self) -> str:
        """What the loss is averaged over."""
        return self.loss_average or ("example" if self.mode == "paper" else "token")


@dataclass
class Arguments:
    """A recipe, parsed: ours, TRL's configuration of the trainer, `ModelConfig` and `DatasetMixtureConfig`."""

    star: Any
    training: Any
    model: Any
    data: Any


def parse_recipe(arguments: Sequence[str] | None, own: type[RecipeArguments], trainer: str) -> Arguments:
    """Read a recipe (`--config`) and the options that replace its lines.

    Args:
        arguments (`Sequence[str]` or `None`): As on the command line, which `None` stands for.
        own (`type`): Our options of this kind of training.
        trainer (`str`): TRL's, such as `"SFTConfig"`.

    Raises:
        ConfigError: If the recipe cannot be read or has an option that is not one; a renamed one is named anew.
    """
    import torch
    import trl

    kinds = (own, getattr(trl, trainer), trl.ModelConfig, trl.DatasetMixtureConfig)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "--use_cpu" not in arguments and not torch.accelerator.is_available():
        arguments += ["--use_cpu", "true"]  # else a recipe for a GPU is refused before anything can be checked
    if old := _renamed(argument[2:] for argument in arguments if argument.startswith("--")):
        raise ConfigError(f"TRL no longer knows these options: {'; '.join(old)}.")
    parser = trl.TrlParser(kinds)
    parser.error = _refuse  # else it prints all of its hundreds of options first
    with tempfile.TemporaryDirectory(prefix="star_hf-") as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`gradient_checkpointing`", FutureWarning)  # TRL's own default
        if "--config" in arguments[:-1]:
            place = arguments.index("--config") + 1
            whole = Path(folder) / "recipe.yaml"
            options = read_options(arguments[place])
            _check_names(options, {entry.name for kind in kinds for entry in fields(kind)} | {"env"})
            whole.write_text(yaml.safe_dump(options), encoding="utf-8")
            arguments[place] = str(whole)
        try:
            parts = parser.parse_args_and_config(arguments)
        except (TypeError, ValueError) as error:
            _refuse(str(error))
    if wrong := [line for part in parts for line in _wrong_choices(part)]:
        _refuse("; ".join(wrong))
    return Arguments(*parts)


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"The recipe cannot be used: {message}") from None


def _check_names(options: dict[str, Any], known: set[str]) -> None:
    """Refuse options that are none, and data sets that are not written as TRL wants them."""
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), 1)
            _refuse(
                f"`{name}` is not an option of this kind of training."
                + (f" Did you mean `{close[0]}`?" if close else "")
            )
    given = options.get("datasets", [])
    if not isinstance(given, list) or not all(isinstance(entry, dict) for entry in given):
        _refuse("`datasets` is a list of mappings, such as `[{path: UCSC-VLAA/STAR-1}]`.")


def _wrong_choices(part: Any) -> Iterator[str]:
    """What the parser checks on the command line only: values that are not among the choices of an option."""
    for entry in fields(part):
        choices, value = entry.metadata.get("choices"), getattr(part, entry.name)
        if choices and value is not None and value not in choices:
            yield f"`{entry.name}` is {value!r}, expected {' or '.join(map(str, choices))}"


def read_options(recipe: str | Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """All options of a recipe: those of its `base`, a path relative to it, replaced by its own.

    Args:
        recipe (`str` or `Path`): The file, or the name of one of ours ([`~star_hf.utils.paths.recipe_file`]).
        seen (`tuple[Path]`): The recipes that led here.

    Raises:
        ConfigError: If a file cannot be read, is not a mapping, is its own base, or has an option that TRL renamed.
    """
    recipe = recipe_file(recipe)
    try:
        options = yaml.safe_load(recipe.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{recipe} cannot be read: {error}.", "Name a recipe of recipes/.") from None
    if not isinstance(options, dict):
        raise ConfigError(f"{recipe} holds a {type(options).__name__}, expected `key: value` lines.")
    if old := _renamed(options):
        raise ConfigError(f"{recipe} has options that TRL no longer knows: {'; '.join(old)}.")
    base = options.pop("base", None)
    if base is None:
        return options
    place = (recipe.parent / str(base)).resolve()
    seen = (*seen, recipe.resolve())
    if place in seen:
        raise ConfigError(f"{recipe} is, by way of `base: {base}`, its own base.", "Name another recipe.")
    return {**read_options(place, seen), **options}


def _renamed(options: Iterable[str]) -> list[str]:
    """One line for each option that TRL no longer knows, with its new name."""
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
    "chat_template": "the tokenizer's own; star_hf never changes it",
    "use_liger": "`model_init_kwargs: {use_kernels: true}`",
}
"""Options of older recipes (open-r1, alignment-handbook) that TRL 1.16 refuses or ignores."""
