"""How far judges of the same answers agree, and on which answers they do not."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from datasets import Dataset, Features, List, Value

from ...schema import as_dataset
from ...utils.files import write_table, write_text
from ..grading.panel import PANEL, Text, is_good, verdicts_by_text
from ..types import RESPONSES, VERDICTS, Part


__all__ = [
    "DISAGREEMENTS",
    "Agreement",
    "agreement",
    "cohen_kappa",
    "disagreements",
    "fleiss_kappa",
    "write_disagreements",
]

_VERDICT = {name: VERDICTS[name] for name in ("judge", "label", "value", "category", "detail")}
DISAGREEMENTS = Features(
    {
        **{name: VERDICTS[name] for name in ("benchmark", "item_id", "sample", "part")},
        "split": Value("string"),
        "question": RESPONSES["question"],
        "text": RESPONSES["answer"],
        "verdicts": List(_VERDICT),
    }
)
"""Texts on which judges differ: the split (`"2:1"`), what was judged, and each judge's verdict."""

TEMPLATE = Path(__file__).parent / "disagreements.html.j2"


@dataclass(frozen=True)
class Agreement:
    """How far two judges, or all, agree beyond chance, over the texts that each of them judged.

    Attributes:
        agreed (`float` or `None`): Share of the texts on which all agree; `None` without texts.
        kappa (`float` or `None`): Cohen's kappa of two judges, Fleiss' of more; `None` where all verdicts are equal,
            which leaves it undefined.
    """

    part: Part
    judges: tuple[str, ...]
    texts: int
    agreed: float | None
    kappa: float | None


def agreement(verdicts: Dataset) -> list[Agreement]:
    """Cohen's kappa of each two judges, and Fleiss' of all where there are more, for each part; a panel is ignored.

    The result is by part: the pairs in the judges' order, then all judges together.
    """
    judges = [judge for judge in dict.fromkeys(verdicts["judge"][:]) if judge != PANEL]
    votes: dict[Part, dict[Text, dict[str, bool]]] = defaultdict(dict)
    for text, given in verdicts_by_text(verdicts).items():
        votes[text[3]][text] = {judge: is_good(row) for judge, row in given.items() if row["failure"] is None}
    found = []
    for part, texts in sorted(votes.items()):
        groups = [*combinations(judges, 2), *([tuple(judges)] if len(judges) > 2 else [])]
        for group in groups:
            table = [[text[judge] for judge in group] for text in texts.values() if all(j in text for j in group)]
            agreed = sum(len(set(row)) == 1 for row in table) / len(table) if table else None
            kappa = cohen_kappa(table) if len(group) == 2 else fleiss_kappa(table)
            found.append(Agreement(part, group, len(table), agreed, kappa))
    return found


def disagreements(verdicts: Dataset, answers: Dataset | None = None) -> Dataset:
    """The texts on which judges disagree, as `DISAGREEMENTS`, the most even splits first; panels are ignored.

    The answers, as `RESPONSES`, are for the question and the judged text, which are harmful: share them with care.
    """
    texts = {(row["benchmark"], row["item_id"], row["sample"]): row for row in answers or ()}
    rows = []
    for key, given in verdicts_by_text(verdicts).items():
        votes = [row for row in given.values() if row["failure"] is None]
        counts = sorted(Counter(map(is_good, votes)).values(), reverse=True)
        if len(counts) < 2:
            continue
        text = texts.get(key[:3], {})
        rows.append(
            {
                **dict(zip(("benchmark", "item_id", "sample", "part"), key, strict=True)),
                "split": ":".join(map(str, counts)),
                "question": text.get("question") or text.get("prompt"),
                "text": text.get(key[3]),
                "verdicts": [{name: row[name] for name in _VERDICT} for row in votes],
            }
        )
    rows.sort(key=lambda row: (-_evenness(row["split"]), row["benchmark"], row["item_id"], row["sample"], row["part"]))
    return as_dataset(rows, DISAGREEMENTS)


def write_disagreements(rows: Dataset, path: str | Path) -> None:
    """Write disagreements as a page for `.html`, where all text is escaped and folded, else as Parquet."""
    path = Path(path)
    if path.suffix != ".html":
        write_table(rows, path)
        return
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    write_text(path, template.render(rows=rows))


def cohen_kappa(table: Sequence[Sequence[bool]]) -> float | None:
    """Cohen's kappa of two judges: agreement beyond what chance gives with their own shares.

    `table` has the votes on each text. Without texts, or if all votes are equal, kappa is undefined, which is `None`.
    """
    if len({vote for row in table for vote in row}) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(*zip(*table, strict=True)))


def fleiss_kappa(table: Sequence[Sequence[bool]]) -> float | None:
    """Fleiss' kappa of any number of judges, from their votes on each text; `None` as for [`cohen_kappa`]."""
    if len({vote for row in table for vote in row}) < 2:
        return None
    judges = len(table[0])
    good = [sum(row) for row in table]
    seen = sum(n * (n - 1) + (judges - n) * (judges - n - 1) for n in good) / (len(table) * judges * (judges - 1))
    share = sum(good) / (len(table) * judges)
    chance = share**2 + (1 - share) ** 2
    return (seen - chance) / (1 - chance)


def _evenness(split: str) -> float:
    """1 for an even split, less for an uneven one."""
    more, less = map(int, split.split(":"))
    return less / more
