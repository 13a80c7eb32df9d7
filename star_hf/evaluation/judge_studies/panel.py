"""Several judges of the same answers: their majority, how far they agree, and where they do not."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, List, Value

from ...schema import as_dataset, each_row
from ..grading.judging import JUDGE_FAILURES
from ..types import ANSWERS, VERDICTS, Part, Verdict


__all__ = [
    "DISAGREEMENTS",
    "Agreement",
    "agreement",
    "by_case",
    "cohen_kappa",
    "disagreements",
    "fleiss_kappa",
    "panel",
    "write_disagreements",
]

PANEL = "panel"

_WORD = {name: VERDICTS[name] for name in ("judge", "label", "value", "category", "detail")}
DISAGREEMENTS = Features(
    {
        **{name: VERDICTS[name] for name in ("benchmark", "item_id", "sample", "part")},
        "split": Value("string"),
        "question": ANSWERS["question"],
        "text": ANSWERS["answer"],
        "verdicts": List(_WORD),
    }
)
"""Texts on which judges differ: how they split (`"2:1"`), what was judged, and each judge's words."""

TEMPLATE = Path(__file__).parent / "disagreements.html.j2"

Case = tuple[str, str, int, Part]
"""Benchmark, item, sample and part."""


@dataclass(frozen=True)
class Agreement:
    """How far judges agree beyond chance, over the texts that all of them judged.

    Attributes:
        part (`str`): What they judged.
        judges (`tuple[str, ...]`): Two of them, or all.
        texts (`int`): How many texts all of them gave a verdict on.
        agreed (`float` or `None`): Share on which all say the same; `None` without texts.
        kappa (`float` or `None`): Cohen's kappa of two, Fleiss' of more; `None` where it is undefined because all
            verdicts are alike.
    """

    part: Part
    judges: tuple[str, ...]
    texts: int
    agreed: float | None
    kappa: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {**asdict(self), "judges": list(self.judges)}


def panel(verdicts: Dataset, judges: Sequence[str] | None = None, name: str = PANEL) -> Dataset:
    """The judges' majority as verdicts of one more judge.

    A verdict votes for what its value is nearer to. More than half of the judges must vote alike, those without a
    verdict included, or the panel has none: `no_majority`. Nothing is drawn by lot. A text that only one of them was
    given has no panel.

    Args:
        verdicts ([`~datasets.Dataset`]): As `VERDICTS`.
        judges (list of `str`, *optional*): Who sits on the panel; all by default, except the panel itself.
        name (`str`, defaults to `"panel"`): What its verdicts are called.

    Returns:
        [`~datasets.Dataset`]: As `VERDICTS`, one for each text that at least two of them were given.
    """
    seated = {who for who in verdicts["judge"][:] if who != name} if judges is None else set(judges)
    rows = []
    for (benchmark, item_id, sample, part), words in by_case(verdicts, seated).items():
        if len(words) < 2:
            continue
        verdict = Verdict(item_id, sample, name, part, **_majority(words))
        rows.append({"benchmark": benchmark, **asdict(verdict)})
    return as_dataset(rows, VERDICTS)


def agreement(verdicts: Dataset, judges: Sequence[str] | None = None) -> list[Agreement]:
    """Cohen's kappa of each two judges, and Fleiss' of all where there are more, for each part.

    Args:
        verdicts ([`~datasets.Dataset`]): As `VERDICTS`.
        judges (list of `str`, *optional*): Whose; all by default, except a panel.

    Returns:
        `list[Agreement]`: By part; the pairs in the judges' order, and all of them together last.
    """
    seated = list(dict.fromkeys(verdicts["judge"][:])) if judges is None else list(judges)
    seated = [judge for judge in seated if judge != PANEL or judges is not None]
    votes: dict[Part, dict[Case, dict[str, bool]]] = defaultdict(dict)
    for case, words in by_case(verdicts, set(seated)).items():
        votes[case[3]][case] = {judge: _vote(row) for judge, row in words.items() if row["failure"] is None}
    found = []
    for part, cases in sorted(votes.items()):
        groups = [*combinations(seated, 2), *([tuple(seated)] if len(seated) > 2 else [])]
        for group in groups:
            table = [[case[judge] for judge in group] for case in cases.values() if all(j in case for j in group)]
            agreed = sum(len(set(row)) == 1 for row in table) / len(table) if table else None
            kappa = cohen_kappa(table) if len(group) == 2 else fleiss_kappa(table)
            found.append(Agreement(part, group, len(table), agreed, kappa))
    return found


def disagreements(verdicts: Dataset, answers: Dataset | None = None) -> Dataset:
    """The texts on which judges that gave a verdict differ, the most even splits first.

    Args:
        verdicts ([`~datasets.Dataset`]): As `VERDICTS`; a panel's are passed over.
        answers ([`~datasets.Dataset`], *optional*): As `ANSWERS`, for the question and what was judged.

    Returns:
        [`~datasets.Dataset`]: As `DISAGREEMENTS`. It holds what models answered to harmful questions: share it as you
        would share those.
    """
    texts = {(row["benchmark"], row["item_id"], row["sample"]): row for row in answers or ()}
    rows = []
    for case, words in by_case(verdicts, {who for who in verdicts["judge"][:] if who != PANEL}).items():
        spoken = [row for row in words.values() if row["failure"] is None]
        tally = sorted(Counter(map(_vote, spoken)).values(), reverse=True)
        if len(tally) < 2:
            continue
        text = texts.get(case[:3], {})
        rows.append(
            {
                **dict(zip(("benchmark", "item_id", "sample", "part"), case, strict=True)),
                "split": ":".join(map(str, tally)),
                "question": text.get("question") or text.get("prompt"),
                "text": text.get(case[3]),
                "verdicts": [{name: row[name] for name in _WORD} for row in spoken],
            }
        )
    rows.sort(key=lambda row: (-_evenness(row["split"]), row["benchmark"], row["item_id"], row["sample"], row["part"]))
    return as_dataset(rows, DISAGREEMENTS)


def write_disagreements(rows: Dataset, path: str | Path) -> None:
    """Write disagreements to look at: a page for `.html`, where all text is escaped and folded, else Parquet.

    Args:
        rows ([`~datasets.Dataset`]): As `DISAGREEMENTS`.
        path (`str` or `Path`): The file; one that is there is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".html":
        rows.to_parquet(path)
        return
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    path.write_text(template.render(rows=rows), encoding="utf-8")


def cohen_kappa(table: Sequence[Sequence[bool]]) -> float | None:
    """Cohen's kappa of two raters: agreement beyond what their own shares would give by chance.

    Args:
        table: For each text, the two raters' votes.

    Returns:
        `float` from -1 to 1, or `None` without texts or where both always say the same one thing.
    """
    count = len(table)
    if not count:
        return None
    seen = sum(first == second for first, second in table) / count
    ones = [sum(row[rater] for row in table) / count for rater in (0, 1)]
    return _beyond_chance(seen, ones[0] * ones[1] + (1 - ones[0]) * (1 - ones[1]))


def fleiss_kappa(table: Sequence[Sequence[bool]]) -> float | None:
    """Fleiss' kappa of any number of raters over two classes.

    Args:
        table: For each text, the raters' votes.

    Returns:
        `float`, or `None` without texts or where all votes are alike.
    """
    if not table:
        return None
    raters = len(table[0])
    ones = [sum(row) for row in table]
    seen = sum(one * (one - 1) + (raters - one) * (raters - one - 1) for one in ones)
    share = sum(ones) / (len(table) * raters)
    return _beyond_chance(seen / (len(table) * raters * (raters - 1)), share**2 + (1 - share) ** 2)


def _beyond_chance(seen: float, chance: float) -> float | None:
    return None if chance >= 1 else (seen - chance) / (1 - chance)


def by_case(verdicts: Dataset, judges: set[str]) -> dict[Case, dict[str, Mapping[str, Any]]]:
    """For each text what each of the judges said of it, in the order of the verdicts."""
    cases: dict[Case, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for row in each_row(verdicts):
        if row["judge"] in judges:
            cases[row["benchmark"], row["item_id"], row["sample"], row["part"]][row["judge"]] = row
    return cases


def _vote(row: Mapping[str, Any]) -> bool:
    return row["value"] >= 0.5


def _majority(words: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The columns of a panel's verdict on one text."""
    spoken = [row for row in words.values() if row["failure"] is None]
    if not spoken:
        failures = Counter(row["failure"] for row in words.values())
        return {"failure": max(failures, key=lambda name: (failures[name], name not in JUDGE_FAILURES))}
    good = sum(map(_vote, spoken))
    detail = f"{good} for, {len(spoken) - good} against, {len(words) - len(spoken)} without a verdict"
    winner = True if 2 * good > len(words) else False if 2 * (len(spoken) - good) > len(words) else None
    if winner is None:
        return {"failure": "no_majority", "detail": detail}
    labels = Counter(row["label"] for row in spoken if _vote(row) is winner)
    names = (name for row in spoken if _vote(row) is winner for name in (row["category"] or "").split(",") if name)
    return {
        "label": min(labels, key=lambda label: (-labels[label], label)),
        "value": float(winner),
        "category": ",".join(dict.fromkeys(names)) or None,
        "detail": detail,
    }


def _evenness(split: str) -> float:
    """1 for an even split, less the more one side outweighs."""
    more, less = map(int, split.split(":"))
    return less / more
