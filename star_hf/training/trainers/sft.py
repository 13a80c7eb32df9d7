"""Supervised fine-tuning with TRL: the entry that `recipes/sft.py` calls under `accelerate launch`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets import Dataset

from ...errors import ConfigError
from ..data import digest, load_rows, origins
from ..preflight import Preflight, preflight
from ..recipe import Arguments, StarArguments, parse_recipe
from ..record import TrainingRecord
from ..tokenise import Encoder, Masking, tokenise
from .running import model_place, plan, run, set_up, start


if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase, TrainerCallback


__all__ = ["Prepared", "load_parts", "main", "parse", "prepare", "train"]


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    """Read a recipe (`--config`) and the options that replace its lines; those of the command line by default.

    Raises:
        ConfigError: If the recipe cannot be read or has an option that is not one; a renamed one is named anew.
    """
    return parse_recipe(arguments, StarArguments, "SFTConfig")


@dataclass(frozen=True)
class Prepared:
    """All that a training needs but the weights."""

    tokenizer: "PreTrainedTokenizerBase"
    rows: Dataset
    encoded: Dataset
    findings: Preflight


def load_parts(arguments: Arguments) -> tuple["PreTrainedTokenizerBase", "PretrainedConfig"]:
    """The tokenizer and the configuration of a recipe's model.

    Raises:
        ConfigError: If the recipe names no model, or one that is not there or not whole.
    """
    from transformers import AutoConfig, AutoTokenizer

    name, place = arguments.model.model_name_or_path, model_place(arguments)
    if not name:
        raise ConfigError("The recipe names no model.", "Set `model_name_or_path`.")
    try:
        return AutoTokenizer.from_pretrained(name, **place), AutoConfig.from_pretrained(name, **place)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The model {name} cannot be loaded: {error}",
            "Name a model of the Hub, or a folder with a whole one: adapters are merged into their base model first.",
        ) from None


def prepare(arguments: Arguments, processes: int | None = None) -> Prepared:
    """Load tokenizer, configuration and data, tokenise, and run the pre-flight check. Loads no weights.

    Args:
        arguments (`Arguments`): The recipe.
        processes (`int`, *optional*): Processes of the training; those of this launch by default.

    Raises:
        TrainingError: If the chat template or a row cannot be trained on.
        ConfigError: If the recipe names no model or no data set, or a primer where no thought is learnt.
    """
    star = arguments.star
    tokenizer, config = load_parts(arguments)
    rows = load_rows(arguments)
    if star.primer and not star.think:
        raise ConfigError(
            "The recipe has a `primer`, which begins a thought, and `think: false`.", "Take one of them out."
        )
    encoder = Encoder(tokenizer, Masking.of(star.mode, star.think, config.model_type, star.primer))
    encoded = tokenise(rows, encoder)
    how = plan(arguments, processes, max_length=arguments.training.max_length)
    findings = preflight(encoded, rows[0]["question"] if rows else "", encoder, how, config)
    return Prepared(tokenizer, rows, encoded, findings)


def train(arguments: Arguments, progress: "TrainerCallback | None" = None) -> TrainingRecord:
    """Check, train, and save model, tokenizer, `star_training.json` and `loss.png` into `output_dir`.

    Args:
        arguments (`Arguments`): The recipe.
        progress (`TrainerCallback`, *optional*): Shows how far it is, in place of the trainer's own lines.

    Returns:
        `TrainingRecord`: What was done, as it was saved.

    Raises:
        TrainingError: If the pre-flight check refuses; nothing was trained then.
    """
    from trl import get_peft_config

    from .loss import ExampleMeanTrainer, StarTrainer

    star, model = arguments.star, arguments.model
    prepared = prepare(arguments)
    findings = prepared.findings
    findings.check()
    if arguments.training.padding_free and not arguments.training.packing:
        arguments.training.max_length = None  # no row is longer, as was checked, and TRL refuses a limit here
    set_up(arguments)
    trainer = (ExampleMeanTrainer if star.average == "example" else StarTrainer)(
        model=model.model_name_or_path,
        args=arguments.training,
        train_dataset=prepared.encoded.select_columns(["input_ids", "labels"]),
        processing_class=prepared.tokenizer,
        peft_config=get_peft_config(model),
    )
    trainer.accelerator.print(f"first label tokens: {findings.first_labels!r} ... {findings.last_labels!r}")
    return run(
        trainer,
        arguments,
        method="sft",
        mode=star.mode,
        datasets=origins(arguments.data, len(prepared.rows), digest(prepared.rows)),
        preflight=findings.to_dict(),
        progress=progress,
    )


def main() -> Arguments:
    """Entry of `recipes/sft.py`: train, and answer with what."""
    return start(parse, train)
