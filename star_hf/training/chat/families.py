"""What training makes of each chat template that TRL ships, as a table: `python -m star_hf.training.chat.families`."""

import sys
from collections.abc import Iterator
from pathlib import Path

from ...errors import TrainingError
from .templates import recognise


__all__ = ["templates_table"]

ENDS = ("<|user|>", "<end_of_turn>", "<turn|>", "<|return|>")
"""Stop tokens of the families (`generation_config.json`), beside the end token that a template writes itself."""
COLUMNS = (
    "template",
    "a thought goes into",
    "before it, after it",
    "in the prompt",
    "with",
    "without",
    "end",
    "verdict",
)


def templates_table() -> str:
    """The table in Markdown: a line for each template, without the variants that TRL uses for its own training."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in _rows())])


def _rows() -> Iterator[list[str]]:
    import trl
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<bos>", eos_token="<eos>")
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
        if path.stem.endswith("_training"):
            continue
        tokenizer.chat_template = path.read_text(encoding="utf-8")
        try:
            found = recognise(tokenizer, stops=ENDS)
        except TrainingError as error:
            yield [path.stem, *["-"] * (len(COLUMNS) - 2), f"refused: {error.message.rpartition('training: ')[2]}"]
            continue
        switches = [_code(found.thinks), "-" if found.thinks_not is None else _code(found.thinks_not)]
        if found.problem:
            yield [path.stem, "-", "-", "-", *switches, _code(found.tail), f"answers alone: {_plain(found.problem)}"]
            continue
        marks, opens = f"{_code(found.before)}, {_code(found.between)}", "yes" if found.opens_thought else "no"
        verdict = "ready; the template drops thoughts" if found.mended else "ready"
        yield [path.stem, f"`{found.place}`", marks, opens, *switches, _code(found.tail), verdict]


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _code(value: object) -> str:
    shown = "" if value == {} else str(value).replace("\n", "\\n").replace("|", "\\|")
    return f"`{shown}`" if shown else "nothing"


if __name__ == "__main__":
    sys.stdout.write(templates_table() + "\n")
