"""How `make demo` goes on: the embedded model, fine-tuned on the data set that was just built."""

import contextlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..training.data import digest, load_rows
from ..training.record import RECORD, TrainingRecord, load_record
from ..training.trainers.sft import parse, train
from ..utils.paths import project_folder
from ..utils.progress import Bar, track


if TYPE_CHECKING:
    from transformers import TrainerCallback


__all__ = ["train_demo", "unpack"]


def train_demo(data: str | Path, folder: str | Path, recipe: Path | None = None) -> TrainingRecord:
    """Fine-tune SmolLM2-135M-Instruct on a finished data set; some minutes on two cores.

    A folder that holds the outcome of the same data stays as it is.

    Args:
        data (`str` or `Path`): A data set's folder, such as `runs/demo/dataset`.
        folder (`str` or `Path`): Where to: the base model goes to `base`, the trained one to `tuned`.
        recipe (`Path`, *optional*): The training recipe; the demo's own by default.

    Raises:
        ConfigError: If a package is missing.
        TrainingError: If the pre-flight check refuses the data.
    """
    import torch
    from transformers.utils.logging import disable_progress_bar

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed warns where it must guess
    from trl.scripts.utils import DatasetConfig

    disable_progress_bar()
    folder = Path(folder)
    base, tuned = unpack(folder / "base"), folder / "tuned"
    recipe = recipe or project_folder("recipes") / "SmolLM2-135M-Instruct" / "sft" / "config_demo.yaml"
    places = ["--model_name_or_path", str(base), "--output_dir", str(tuned)]
    arguments = parse(["--config", str(recipe), *places])
    arguments.data.datasets = [DatasetConfig(path=str(data), name="default", columns=["question", "response"])]
    if (tuned / RECORD).exists():
        done = load_record(tuned)
        if done.datasets[0]["sha256"] == digest(load_rows(arguments)):
            return done
    with track("train: SmolLM2-135M-Instruct", None) as bar:
        return train(arguments, _shown(bar))


def _shown(bar: Bar) -> "TrainerCallback":
    """One step of a bar per update."""
    from transformers import TrainerCallback

    class Shown(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            bar.expect(state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            bar.advance()

    return Shown()


def unpack(folder: str | Path) -> Path:
    """Save the embedded model as an ordinary folder in float32, to be trained or served by anything (540 MB).

    A folder that holds it already stays as it is.

    Args:
        folder (`str` or `Path`): Where to; made when it is not there.

    Raises:
        ConfigError: If a package is missing.
    """
    from ..llm.embedded.weights import packaged_weights

    folder, packed = Path(folder), packaged_weights()
    if (folder / "model.safetensors").exists():
        return folder
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where: dict[str, Any] = {"pretrained_model_name_or_path": packed.parent, "gguf_file": packed.name}
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars that know no other switch
        tokenizer = AutoTokenizer.from_pretrained(**where)
        source = AutoModelForCausalLM.from_pretrained(
            **where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
        settings = source.config.to_dict()
        settings.pop("quantization_config", None)  # with it transformers refuses to save
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings), dtype=torch.float32)
        model.load_state_dict(source.state_dict())
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    return folder
