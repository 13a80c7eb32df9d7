"""TRL's SFT trainer with a loss averaged over all label tokens, or over examples as in the published script."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from trl import SFTTrainer

from .session import StarMixin


__all__ = ["ExampleMeanTrainer", "StarTrainer", "example_lengths"]


def example_lengths(inputs: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Which example each predicted token belongs to, and how many label tokens each example has.

    Args:
        inputs (`dict`): A batch of TRL's collator: padded (`labels` of shape `(examples, tokens)`), or padding-free
            (`labels` of shape `(1, tokens)`, with `seq_idx` of the same shape).

    Returns:
        `tuple[Tensor, Tensor]`: Indices of shape `(rows, tokens - 1)`, and counts of shape `(examples,)`.
    """
    labels = inputs["labels"][:, 1:]
    if "seq_idx" in inputs:
        index = inputs["seq_idx"][:, 1:].long()
        examples = int(inputs["seq_idx"].max()) + 1
    else:
        examples = labels.size(0)
        index = torch.arange(examples, device=labels.device)[:, None].expand_as(labels)
    counts = torch.zeros(examples, device=labels.device)
    return index, counts.index_add(0, index.flatten(), labels.ne(-100).flatten().float())


class StarTrainer(StarMixin, SFTTrainer):
    """[`~trl.SFTTrainer`] that pushes nothing.

    The loss is TRL's: the mean over all label tokens of the global batch.
    """


class ExampleMeanTrainer(StarTrainer):
    """The published script's loss: the mean over examples of the mean over an example's label tokens.

    There, each process sees one example at a time and averages its tokens. This gives the same value for any batch
    size, padded or not, and any number of accumulation steps and processes: each token is weighted by one over the
    label tokens of its example, and the sum is divided by the examples of the whole update. Naively:

    ```python
    loss = mean(mean(nll[token] for token in labels(example)) for example in global_batch)
    ```
    """

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor | int | None]:
        """The batches of one update, and the number of *examples* in them over all processes."""
        batches, tokens = super().get_batch_samples(epoch_iterator, num_batches, device)
        if tokens is None:
            return batches, None
        examples = sum((example_lengths(batch)[1] > 0).sum() for batch in batches).to(device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            examples = self.accelerator.gather(examples).sum()
        return batches, examples

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of one batch, divided by `num_items_in_batch` examples (by its own if that is `None`)."""
        index, counts = example_lengths(inputs)
        weights = (1 / counts.clamp(min=1))[index]

        def weighted(**arguments: Any) -> Any:
            outputs = model(**arguments)
            if outputs.get("log_probs") is not None:
                outputs.log_probs = outputs.log_probs * weights
            return outputs

        result = super().compute_loss(weighted, inputs, return_outputs, num_items_in_batch)
        if num_items_in_batch is not None:
            return result
        scale = counts.sum() / (counts > 0).sum().clamp(min=1)  # the caller divided by label tokens
        return (result[0] * scale, result[1]) if return_outputs else result * scale
