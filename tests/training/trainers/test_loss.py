"""The published script's loss against its definition, on one batch: padded, and with all examples in one row."""

import pytest
import torch
from datasets import Dataset

import standins
from star_hf.training.chat.tokenise import IGNORED, ChatEncoder, tokenise
from star_hf.training.trainers.loss import ExampleMeanTrainer


ROWS = 6


@pytest.fixture(params=[True, False], ids=["padding-free", "padded"])
def trainer(request, model_folder, tmp_path):
    from transformers import AutoTokenizer
    from trl import SFTConfig

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    encoded = tokenise(Dataset.from_list(standins.rows(ROWS)), ChatEncoder(tokenizer))
    options = {"use_cpu": True, "bf16": False, "report_to": "none", "max_length": None, "output_dir": str(tmp_path)}
    return ExampleMeanTrainer(
        model=str(model_folder),
        args=SFTConfig(padding_free=request.param, per_device_train_batch_size=2, **options),
        train_dataset=encoded.select_columns(["input_ids", "labels"]),
        processing_class=tokenizer,
    )


def losses_of(model, row):
    """The loss of each label token of a row."""
    logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1]
    labels = torch.tensor(row["labels"])[1:]
    return torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")[labels != IGNORED]


def test_it_is_the_mean_over_examples_of_the_mean_over_their_label_tokens(trainer):
    rows, model = [*trainer.train_dataset], trainer.model
    with torch.no_grad():
        each = [losses_of(model, row) for row in rows]
        expected = torch.stack([losses.mean() for losses in each]).mean().item()
        own = trainer.compute_loss(model, trainer.data_collator(rows)).item()
        given = trainer.compute_loss(model, trainer.data_collator(rows), num_items_in_batch=2 * ROWS).item()
    assert own == pytest.approx(expected, abs=1e-5) and given == pytest.approx(expected / 2, abs=1e-5)
    assert torch.cat(each).mean().item() != pytest.approx(expected, abs=1e-5), "tokens do not weigh alike"


def test_an_update_counts_the_examples_of_all_its_batches(trainer):
    batches = iter(trainer.get_train_dataloader())
    taken, examples = trainer.get_batch_samples(batches, 3, torch.device("cpu"))
    assert len(taken) == 3 and int(examples) == ROWS
