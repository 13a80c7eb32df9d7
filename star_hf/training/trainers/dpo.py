"""Direct preference optimisation with TRL (arXiv:2305.18290), on answers with high marks beside ones with low marks.

After supervised fine-tuning it teaches what an answer must not be, which a data set of good answers alone does not say
(for reasoning models: arXiv:2509.24393).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets
from trl import DPOTrainer, get_peft_config

from ...errors import TrainingError
from ..data import digest, few, load_columns, origins
from ..pairs import PAIRS, preference_pairs
from ..preflight import preflight
from ..recipe import Arguments, RecipeArguments, parse_recipe
from ..record import TrainingRecord
from ..tokenise import Encoder, Masking, Mode, tokenise
from .running import Unpublished, plan, run, set_up, start
from .sft import Prepared, load_parts


__all__ = ["PairTrainer", "PreferenceArguments", "main", "parse", "prepare", "tokenise_pairs", "train"]


@dataclass
class PreferenceArguments(RecipeArguments):
    """What a recipe of training on preferences may say beside TRL's own options.

    Args:
        mode (`str`, defaults to `"recommended"`): How the model was fine-tuned before; `"paper"` keeps its labels.
        think (`bool`, defaults to `True`): `False` compares answers alone.
        chosen_score (`int`, defaults to 10), rejected_score (`int`, defaults to 7): Which scored answers make a pair,
            see [`~star_hf.training.pairs.make_pairs`].
    """

    mode: Mode = field(default="recommended", metadata={"choices": ["paper", "recommended"]})
    think: bool = True
    chosen_score: int = 10
    rejected_score: int = 7


class PairTrainer(Unpublished, DPOTrainer):
    """[`~trl.DPOTrainer`] that takes token ids as they are and pushes nothing."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        """The data set itself: TRL would render it with the shipped template, which drops the reasoning."""
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        """TRL's, beside a file of the rows that all processes can read; each has made its own in memory."""
        folder = Path(self.args.output_dir) / "pairs"
        if self.accelerator.is_main_process:
            dataset.save_to_disk(folder)
        self.accelerator.wait_for_everyone()
        return super()._precompute_ref_logps(Dataset.load_from_disk(folder), *args, **kwargs)


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    """Read a recipe (`--config`) and the options that replace its lines; those of the command line by default.

    Raises:
        ConfigError: If the recipe cannot be read or has an option that is not one.
    """
    return parse_recipe(arguments, PreferenceArguments, "DPOConfig")


def tokenise_pairs(pairs: Dataset, encoder: Encoder) -> tuple[Dataset, Dataset]:
    """The token ids of pairs, in the two forms that are needed.

    Args:
        pairs ([`~datasets.Dataset`]): As [`~star_hf.training.pairs.PAIRS`].
        encoder (`Encoder`): What makes ids; prompt and answer are those of supervised fine-tuning.

    Returns:
        The rows for the trainer with `prompt_ids`, `chosen_ids` and `rejected_ids`, and the same as rows of
        supervised fine-tuning for the check: those that are chosen first, then the others.

    Raises:
        TrainingError: If an answer cannot be learnt from.
    """
    sides = []
    for side in ("chosen", "rejected"):
        rows = pairs.select_columns(["question", side]).rename_column(side, "response")
        try:
            sides.append(tokenise(rows, encoder))
        except TrainingError as error:
            raise TrainingError(f"Of the column {side}: {error.message}", error.remedy) from None

    def joined(_: Any, place: int) -> dict[str, list[int]]:
        chosen, rejected = sides[0][place], sides[1][place]
        start = len(encoder.prompt_ids(pairs[place]["question"]))
        return {
            "prompt_ids": chosen["input_ids"][:start],
            "chosen_ids": chosen["input_ids"][start:],
            "rejected_ids": rejected["input_ids"][start:],
        }

    rows = pairs.map(
        joined, with_indices=True, remove_columns=pairs.column_names, load_from_cache_file=False, desc="Pairing"
    )
    return rows, concatenate_datasets(sides)


def prepare(arguments: Arguments, processes: int | None = None) -> Prepared:
    """Load tokenizer, configuration and data, make pairs, tokenise, and run the pre-flight check. Loads no weights.

    Args:
        arguments (`Arguments`): The recipe.
        processes (`int`, *optional*): Processes of the training; those of this launch by default.

    Raises:
        TrainingError: If the chat template or a row cannot be trained on, or there are no pairs.
        ConfigError: If the recipe names no model or no data set.
    """
    star, options = arguments.star, arguments.training
    tokenizer, config = load_parts(arguments)
    rows = load_columns(arguments.data, star.train_split, ("question",))
    pairs = few(preference_pairs(rows, star.chosen_score, star.rejected_score), star)
    encoder = Encoder(tokenizer, Masking.of(star.mode, star.think, config.model_type))
    encoded, checked = tokenise_pairs(pairs, encoder)
    question = pairs[0]["question"] if len(pairs) else ""
    copy = not (arguments.model.use_peft or options.precompute_ref_log_probs)
    how = plan(arguments, processes, max_length=options.max_length, sequences=2, reference=copy)
    return Prepared(tokenizer, pairs, encoded, preflight(checked, question, encoder, how, config))


def train(arguments: Arguments) -> TrainingRecord:
    """Check, train, and save model, tokenizer, `star_training.json` and `loss.png` into `output_dir`.

    Raises:
        TrainingError: If the pre-flight check refuses; nothing was trained then.
    """
    model = arguments.model
    prepared = prepare(arguments)
    findings = prepared.findings
    findings.check()
    set_up(arguments)
    trainer = PairTrainer(
        model=model.model_name_or_path,
        args=arguments.training,
        train_dataset=prepared.encoded,
        processing_class=prepared.tokenizer,
        peft_config=get_peft_config(model),
    )
    trainer.accelerator.print(f"{findings.rows} pairs; first label tokens: {findings.first_labels!r}")
    return run(
        trainer,
        arguments,
        method="dpo",
        mode=arguments.star.mode,
        datasets=origins(arguments.data, len(prepared.rows), digest(prepared.rows, list(PAIRS))),
        preflight=findings.to_dict(),
    )


def main() -> Arguments:
    """Entry of `recipes/dpo.py`: train, and answer with what."""
    return start(parse, train)
