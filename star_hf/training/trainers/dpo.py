"""Direct preference optimisation with TRL (arXiv:2305.18290), on responses with high marks and with low marks.

After supervised fine-tuning it teaches what a response must not be, which a data set of good responses does not say
(for reasoning models: arXiv:2509.24393).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets
from trl import DPOTrainer

from ...errors import TrainingError
from ..chat.tokenise import ChatEncoder, Masking, Mode, tokenise
from ..data import digest, limit_rows, load_columns, origins
from ..pairs import PAIRS, preference_pairs
from ..preflight import preflight
from ..recipe import Recipe, RecipeArguments, parse_recipe
from ..record import TrainingRecord
from .parts import chat_encoder, load_parts
from .session import Prepared, StarMixin, run, set_up, training_plan


__all__ = ["DPOArguments", "PairTrainer", "parse", "prepare", "tokenise_pairs", "train"]


@dataclass
class DPOArguments(RecipeArguments):
    """Our options of training on preferences, beside TRL's own.

    Args:
        mode (`str`, defaults to `"recommended"`): How the model was fine-tuned before; `"paper"` keeps its labels.
        think (`bool`, defaults to `True`): `False` compares answers without their thoughts.
        chosen_score (`int`, defaults to 10), rejected_score (`int`, defaults to 7): Which scored responses make a
            pair; see [`~star_hf.training.pairs.preference_pairs`].
        chat_template_kwargs (`dict`, *optional*): The chat template's arguments, such as `{enable_thinking: true}`.
        chat_template_path (`str`, *optional*): A `.jinja` file that replaces the model's chat template.
    """

    mode: Mode = field(default="recommended", metadata={"choices": ["paper", "recommended"]})
    think: bool = True
    chosen_score: int = 10
    rejected_score: int = 7
    chat_template_kwargs: dict | None = None
    chat_template_path: str | None = None


class PairTrainer(StarMixin, DPOTrainer):
    """[`~trl.DPOTrainer`] that uses the given token ids and pushes nothing."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        """The data set unchanged: TRL would render it with the model's template, which drops the reasoning."""
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        """TRL's, on a copy of the rows on disk that all processes can read."""
        folder = Path(self.args.output_dir) / "pairs"
        if self.accelerator.is_main_process:
            dataset.save_to_disk(folder)
        self.accelerator.wait_for_everyone()
        return super()._precompute_ref_logps(Dataset.load_from_disk(folder), *args, **kwargs)


def parse(arguments: Sequence[str] | None = None) -> Recipe:
    """Read a recipe for DPO; see [`~star_hf.training.recipe.parse_recipe`]."""
    return parse_recipe(arguments, DPOArguments, "DPOConfig")


def tokenise_pairs(pairs: Dataset, encoder: ChatEncoder) -> tuple[Dataset, Dataset]:
    """The token ids of pairs for the trainer, as `prompt_ids`, `chosen_ids` and `rejected_ids`, and the rows for the
    check: all chosen ones, then all rejected ones, in the form of supervised fine-tuning."""
    sides = []
    for side in ("chosen", "rejected"):
        rows = pairs.select_columns(["question", side]).rename_column(side, "response")
        try:
            sides.append(tokenise(rows, encoder))
        except TrainingError as error:
            raise TrainingError(f"Column {side}: {error.message}", error.remedy) from None

    def joined(_: Any, place: int) -> dict[str, list[int]]:
        chosen, rejected = sides[0][place]["input_ids"], sides[1][place]["input_ids"]
        start = len(encoder.prompt_ids(pairs[place]["question"]))
        return {"prompt_ids": chosen[:start], "chosen_ids": chosen[start:], "rejected_ids": rejected[start:]}

    rows = pairs.map(
        joined, with_indices=True, remove_columns=pairs.column_names, load_from_cache_file=False, desc="Pairing"
    )
    return rows, concatenate_datasets(sides)


def prepare(recipe: Recipe, processes: int | None = None) -> Prepared:
    """Load tokenizer, configuration and data, make pairs, tokenise, and run the pre-flight check; see
    [`~star_hf.training.trainers.sft.prepare`]."""
    star, options = recipe.star, recipe.training
    tokenizer, config = load_parts(recipe)
    rows = load_columns(recipe.data, star.train_split, ("question",))
    pairs = limit_rows(preference_pairs(rows, star.chosen_score, star.rejected_score), star)
    encoder = chat_encoder(recipe, tokenizer, config, Masking.of(star.mode, star.think, config.model_type))
    encoded, checked = tokenise_pairs(pairs, encoder)
    reference = not (recipe.model.use_peft or options.precompute_ref_log_probs)
    plan = training_plan(recipe, processes, max_length=options.max_length, sequences=2, reference=reference)
    findings = preflight(checked, pairs[0]["question"] if len(pairs) else "", encoder, plan, config)
    return Prepared(tokenizer, pairs, encoded, findings, getattr(config, "_commit_hash", None))


def train(recipe: Recipe) -> TrainingRecord:
    """Check, train, and save; see [`~star_hf.training.trainers.sft.train`]."""
    prepared = prepare(recipe)
    prepared.findings.check()
    set_up(recipe)
    datasets = origins(recipe.data, len(prepared.rows), digest(prepared.rows, list(PAIRS)))
    return run(PairTrainer, recipe, prepared, method="dpo", datasets=datasets)
