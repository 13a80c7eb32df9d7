"""How a training is to run, and what it needs: updates, memory and time."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from transformers import PretrainedConfig


__all__ = ["Plan", "count_parameters", "gpu_minutes", "memory_gib"]


@dataclass(frozen=True)
class Plan:
    """How a training is to run.

    Attributes:
        processes (`int`): Processes, one per GPU.
        per_device_batch, accumulation (`int`): Examples per process and step, and steps per update.
        epochs (`float`): Passes over the rows.
        max_updates (`int` or `None`): Updates after which it ends, whatever `epochs` says.
        global_batch (`int` or `None`): Examples per update that the recipe stands for; 128 in the paper.
        max_length (`int` or `None`): Tokens beyond which the trainer would cut.
        packing (`bool`): Whether several examples are put into one.
        shards (`int`): What is spread over the processes, as DeepSpeed's stages count it: 1 the optimiser, 2 gradients
            too, 3 weights too (as FSDP does), 0 nothing.
        offload (`bool`): Whether what is spread lies in the CPU's memory.
        lora (`bool`): Whether only adapters are trained.
        sequences (`int`): Rows of tokens that an example is made of: 2 for a pair of answers.
        reference (`bool`): Whether a frozen copy of the model stands beside it.
        device_gib (`float` or `None`): Memory of one GPU, where there is one.
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
        """Updates of a training on so many examples; the last of an epoch may be smaller."""
        return self.max_updates or math.ceil(math.ceil(examples / self.batch) * self.epochs)


def count_parameters(config: "PretrainedConfig") -> int:
    """Parameters of the model that a configuration describes, without any memory for them."""
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    # Not by `from_config`, which under ZeRO-3 would spread the parameters over the processes at once.
    with torch.device("meta"):
        return sum(weights.numel() for weights in MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config).parameters())


def memory_gib(config: "PretrainedConfig", parameters: int, plan: Plan, longest: int) -> float:
    """GiB per GPU, roughly: 16 bytes per trained parameter, and checkpointed activations of one micro-batch.

    16 bytes are weight, gradient and Adam's two moments with a master copy (arXiv:1910.02054, Section 3.1); adapters
    leave 2 bytes per frozen weight, as a reference model has (with adapters it is the model itself). What of them is
    spread over the processes is ZeRO's (Section 5 there). Activations are one hidden state per layer and token, and
    one layer's work.
    """
    trained, frozen = 0 if plan.lora else 16, 2 if plan.lora or plan.reference else 0
    whole = min(trained, (16, 4, 2, 0)[plan.shards]) + (frozen if plan.shards < 3 else 0)
    spread = 0 if plan.offload else (trained + frozen - whole) / plan.processes
    states = parameters * (whole + spread)
    tokens = plan.per_device_batch * plan.sequences * longest
    hidden, layers = config.hidden_size, config.num_hidden_layers
    return (states + tokens * hidden * (2 * layers + 34)) / 2**30


def gpu_minutes(parameters: int, tokens: float) -> float:
    """Minutes that one H100 computes, at 40 % of its 989 TFLOP/s in bfloat16.

    Each token takes two operations per parameter forward, four backward (arXiv:2001.08361, Section 2.1), and two to
    recompute activations.
    """
    return 8 * parameters * tokens / (0.4 * 989e12) / 60
