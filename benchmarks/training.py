"""Speed of a training step in five ways over the same rows: the published script's loop beside TRL's batches.

    python benchmarks/training.py                                                    # a small shape, on a CPU
    python benchmarks/training.py --shape r1-distill-qwen-1.5b --device cuda         # for numbers that count
    python benchmarks/training.py --rows 64 --batch 8 --only published --only packed

The model is randomly initialised: its shape is what counts. The rows have about the lengths of STAR-1's, at most
1,145 tokens, and random ids. `published` is one row at a time with logits and argmax over all positions, as the
original script computes loss and accuracy; the others are TRL's trainer: one row at a time, padded, padding-free and
packed. Each runs in a process of its own: one update to warm up, then the rest is timed, forward, backward and AdamW.
On a CPU seconds are the processor's, and padding and logits cost otherwise than on a GPU: the ratios there say
nothing of a GPU.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any


SHAPES: dict[str, dict[str, Any]] = {
    "small": {
        "vocab_size": 4_096,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
    },
    "r1-distill-qwen-1.5b": {
        "vocab_size": 151_936,
        "hidden_size": 1_536,
        "intermediate_size": 8_960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
    },
}
"""Configurations of Qwen2; the second is that of DeepSeek-R1-Distill-Qwen-1.5B."""

WAYS = ("published", "one by one", "padded", "padding-free", "packed")
PACKED_LENGTH = 2_048
PROMPT = 25
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 operations per second, as NVIDIA's data sheets give them."""


def lengths(count: int) -> list[int]:
    """Lengths of rows as STAR-1 has them: 346 in the middle, 383 on average, at most 1,145."""
    draw = random.Random(0)
    return [min(1_145, max(60, round(draw.lognormvariate(5.85, 0.45)))) for _ in range(count)]


def dataset(count: int, vocabulary: int) -> Any:
    """Rows of random ids, whose first tokens are the prompt."""
    from datasets import Dataset

    draw = random.Random(1)
    ids = [[draw.randrange(10, vocabulary) for _ in range(length)] for length in lengths(count)]
    return Dataset.from_list([{"input_ids": row, "labels": [-100] * PROMPT + row[PROMPT:]} for row in ids])


def make_model(shape: str, device: str) -> Any:
    """A randomly initialised Qwen2: float32 on a CPU; on a GPU float32 weights that bfloat16 is computed with."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    with torch.device(device):
        return Qwen2ForCausalLM(Qwen2Config(**SHAPES[shape], max_position_embeddings=32_768))


class Clock:
    """Seconds after the first update: of the processor on a CPU, so that other work there does not count."""

    def __init__(self, device: str):
        self.device, self.updates, self.start, self.seconds = device, 0, 0.0, 0.0

    def now(self) -> float:
        import torch

        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def update(self) -> None:
        self.updates += 1
        if self.updates == 1:
            self.start = self.now()
        else:
            self.seconds = self.now() - self.start


def published(rows: Any, model: Any, batch: int, device: str) -> tuple[Clock, int]:
    """The original loop: one row per step, logits over all positions, argmax for the accuracy, AdamW."""
    import torch

    optimiser, clock, timed = torch.optim.AdamW(model.parameters(), lr=1e-5), Clock(device), 0
    model.train()
    model.gradient_checkpointing_enable()
    for place, row in enumerate(rows):
        ids, labels = (torch.tensor([row[name]], device=device) for name in ("input_ids", "labels"))
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            result = model(input_ids=ids, labels=labels, use_cache=False)
        wanted = labels[:, 1:] != -100
        ((result.logits[:, :-1].argmax(-1) == labels[:, 1:]) & wanted).sum().item()
        (result.loss / batch).backward()
        timed += len(row["input_ids"]) if place >= batch else 0
        if (place + 1) % batch == 0:
            optimiser.step()
            optimiser.zero_grad()
            clock.update()
    return clock, timed


def by_trl(rows: Any, model: Any, way: str, batch: int, device: str) -> tuple[Clock, int]:
    """TRL's trainer, with the batch of the way."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    clock = Clock(device)
    words = Tokenizer(models.WordLevel({"<end>": 0}, unk_token="<end>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>")
    each, steps = {"one by one": (1, batch), "packed": (1, 1)}.get(way, (batch, 1))
    if way == "packed":  # as many tokens per update as the others have
        steps = max(1, round(sum(lengths(len(rows))) / len(rows) * batch / PACKED_LENGTH))

    class Timed(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            clock.update()

    with tempfile.TemporaryDirectory() as folder:
        options = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=each,
            gradient_accumulation_steps=steps,
            num_train_epochs=1,
            learning_rate=1e-5,
            padding_free=way == "padding-free",
            packing=way == "packed",
            max_length=PACKED_LENGTH if way == "packed" else None,
            bf16=device == "cuda",
            use_cpu=device == "cpu",
            save_strategy="no",
            report_to="none",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_drop_last=True,
        )
        trainer = SFTTrainer(
            model=model, args=options, train_dataset=rows, processing_class=tokenizer, callbacks=[Timed()]
        )
        counted = Counted(trainer.data_collator, each * steps)
        trainer.data_collator = counted
        trainer.train()
    return clock, counted.timed(clock.updates)


class Counted:
    """A collator that counts real tokens per update."""

    def __init__(self, collator: Any, per_update: int):
        self.collator, self.per_update, self.rows = collator, per_update, []

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        self.rows += [len(example["input_ids"]) for example in examples]
        return self.collator(examples)

    def timed(self, updates: int) -> int:
        """Tokens of all updates but the first."""
        return sum(self.rows[self.per_update : updates * self.per_update])


def measure(arguments: argparse.Namespace, way: str) -> dict[str, float]:
    """Tokens per second and peak memory of one way, in this process."""
    import torch

    torch.set_num_threads(arguments.threads)
    rows = dataset(arguments.rows, SHAPES[arguments.shape]["vocab_size"])
    model = make_model(arguments.shape, arguments.device)
    if way == "published":
        clock, tokens = published(rows, model, arguments.batch, arguments.device)
    else:
        clock, tokens = by_trl(rows, model, way, arguments.batch, arguments.device)
    gpu = arguments.device == "cuda"
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "rate": tokens / clock.seconds,
        "updates": clock.updates,
        "gib": peak / 2**30,
        "parameters": sum(weights.numel() for weights in model.parameters()),
    }


def share_of_peak(rate: float, parameters: int) -> float | None:
    """Of the card's bfloat16 operations, by 6 per parameter and token, recomputation not counted; `None` elsewhere."""
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peak = next((operations for card, operations in PEAKS.items() if card in name), None)
    return None if peak is None else 6 * parameters * rate / peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16, help="rows per update")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", action="append", choices=WAYS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows < 2 * arguments.batch:
        parser.error("at least two updates are needed: rows >= 2 x batch")
    if arguments.way:
        print(json.dumps(measure(arguments, arguments.way)))
        return
    first = None
    print(f"{arguments.shape} on {arguments.device}: {arguments.rows} rows, {arguments.batch} per update", flush=True)
    for way in arguments.only or WAYS:
        command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{way} failed:\n{done.stderr[-2000:]}")
        result = json.loads(done.stdout.splitlines()[-1])
        first = first or result["rate"]
        share = share_of_peak(result["rate"], result["parameters"])
        rate, memory = result["rate"], result["gib"]
        print(
            f"{way:13} {rate:10,.0f} tokens/s  x {rate / first:5.2f}  peak {memory:6.2f} GiB"
            + ("" if share is None else f"  {100 * share:.1f} % of the card's peak"),
            flush=True,
        )


if __name__ == "__main__":
    main()
