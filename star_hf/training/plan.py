"""How a training will run, and what it needs: updates, memory and time."""

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from transformers import PretrainedConfig


__all__ = ["TrainingPlan", "count_parameters", "gpu_minutes", "memory_gib", "window"]


@dataclass(frozen=True)
class TrainingPlan:
    """How a training will run.

    Attributes:
        per_device_batch, accumulation (`int`): Examples per process and step, and steps per update.
        max_updates (`int` or `None`): Updates after which the training ends; overrides `epochs`.
        global_batch (`int` or `None`): Examples per update that the recipe needs; 128 in the paper.
        shards (`int`): What the processes share, as in DeepSpeed's stages: 1 the optimizer's states, 2 gradients too,
            3 weights too (like FSDP), 0 nothing. With `offload` that part is kept in the CPU's memory.
        sequences (`int`): Token rows per example: 2 for a pair of responses.
        reference (`bool`): Whether a frozen copy of the model is loaded too.
        device_gib (`float` or `None`): Memory of one GPU; `None` without a GPU.
    """

    processes: int = 1
    per_device_batch: int = 1
    accumulation: int = 1
    epochs: float = 1.0
    max_updates: int | None = None
    global_batch: int | None = None
    max_length: int | None = None
    packing: bool = False
    shards: int = 0
    offload: bool = False
    lora: bool = False
    sequences: int = 1
    reference: bool = False
    device_gib: float | None = None

    @property
    def batch(self) -> int:
        """Examples per update."""
        return self.processes * self.per_device_batch * self.accumulation

    def updates(self, examples: int) -> int:
        """Updates of a training on this many examples; the last one of an epoch may be smaller."""
        return self.max_updates or math.ceil(math.ceil(examples / self.batch) * self.epochs)

    def batch_problems(self) -> list[str]:
        """Why the batch is not the recipe's, with the number to set."""
        if self.global_batch is None:
            return []
        if self.packing:
            return ["packing puts many examples into one, so global_batch has no meaning: set padding_free: true"]
        if self.batch == self.global_batch:
            return []
        per_step = self.processes * self.per_device_batch
        words = (
            f"{self.processes} processes x {self.per_device_batch} x {self.accumulation} are {self.batch} examples "
            f"per update, but the recipe needs {self.global_batch}"
        )
        if self.global_batch % per_step:
            return [f"{words}; {self.global_batch} does not divide by {per_step}: change per_device_train_batch_size"]
        return [f"{words}: set gradient_accumulation_steps: {self.global_batch // per_step}"]

    def memory_problems(self, needed_gib: float | None) -> list[str]:
        """Why the training does not fit into a GPU, with what to change."""
        if self.device_gib is None or needed_gib is None or needed_gib <= self.device_gib:
            return []
        return [
            f"about {needed_gib:.0f} GiB per GPU are needed, but it has {self.device_gib:.0f}: shard over more GPUs "
            "(zero3.yaml, fsdp2.yaml), offload (zero3_offload.yaml) or train adapters (config_lora.yaml)"
        ]


def count_parameters(config: "PretrainedConfig") -> int | None:
    """Parameters of the model that a configuration describes, or `None` where transformers cannot tell.

    Allocates no memory for them. Of a configuration that no class here takes as it is, the text model's are counted.
    """
    import torch
    import transformers

    classes = [getattr(transformers, name, None) for name in config.architectures or ()]
    mappings = (transformers.MODEL_FOR_CAUSAL_LM_MAPPING, transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING)
    for described in (config, config.get_text_config()):
        for kind in (*classes, *(mapping.get(type(described), None) for mapping in mappings)):
            # Not `from_config`: under ZeRO-3 it would shard the parameters at once.
            with contextlib.suppress(Exception), torch.device("meta"):  # an estimate must not stop a training
                return sum(weights.numel() for weights in kind(described).parameters())
    return None


def memory_gib(config: "PretrainedConfig", parameters: int | None, plan: TrainingPlan, longest: int) -> float | None:
    """GiB per GPU, roughly: 16 bytes per trained parameter, and checkpointed activations of one micro-batch; `None`
    where the model's sizes are unknown.

    The 16 bytes are weight, gradient, and Adam's two moments with a master copy (arXiv:1910.02054, Section 3.1).
    Frozen weights, of a model with adapters or of a reference model, take 2 bytes. The processes share them as in
    ZeRO (Section 5 there). Activations are one hidden state per layer and token, and the work of one layer.
    """
    text = config.get_text_config()
    hidden, layers = getattr(text, "hidden_size", None), getattr(text, "num_hidden_layers", None)
    if parameters is None or hidden is None or layers is None:
        return None
    trained, frozen = 0 if plan.lora else 16, 2 if plan.lora or plan.reference else 0
    whole = min(trained, (16, 4, 2, 0)[plan.shards]) + (frozen if plan.shards < 3 else 0)
    spread = 0 if plan.offload else (trained + frozen - whole) / plan.processes
    states = parameters * (whole + spread)
    tokens = plan.per_device_batch * plan.sequences * longest
    return (states + tokens * hidden * (2 * layers + 34)) / 2**30


def window(config: "PretrainedConfig") -> int | None:
    """Tokens that the model takes at most, or `None` where the configuration does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def gpu_minutes(parameters: int, tokens: float) -> float:
    """Minutes of computing on one H100, at 40 % of its 989 TFLOP/s in bfloat16.

    Each token takes two operations per parameter forward, four backward (arXiv:2001.08361, Section 2.1), and two to
    recompute activations.
    """
    return 8 * parameters * tokens / (0.4 * 989e12) / 60
