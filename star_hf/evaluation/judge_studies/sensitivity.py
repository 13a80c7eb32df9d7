"""How much of a rate is the judge: the same answers, the same texts, one judge after the other."""

from collections import defaultdict
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from datasets import Dataset

from ..types import Part
from .panel import by_case


__all__ = ["Swap", "swaps"]


@dataclass(frozen=True)
class Swap:
    """What each judge makes of one benchmark's answers, over the texts on which all of them gave a verdict.

    Attributes:
        benchmark, part (`str`): What was judged.
        texts (`int`): On how many texts all of them gave a verdict; `of` (`int`): how many there are.
        rates (`dict[str, float]`): Mean value by judge; empty where there is no such text.
    """

    benchmark: str
    part: Part
    texts: int
    of: int
    rates: dict[str, float]

    @property
    def spread(self) -> float | None:
        """How far the rate moves with the judge, 0 to 1; `None` where there is no text that all judged."""
        return max(self.rates.values()) - min(self.rates.values()) if self.rates else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {**asdict(self), "spread": self.spread}


def swaps(verdicts: Dataset) -> list[Swap]:
    """The rate under each judge, for each benchmark and part that several have judged; the widest spread first.

    All rates of a benchmark are over the same texts, so that what they differ by is the judges alone. They can
    therefore differ from the published rate, which is over all texts that its one judge gave a verdict on.

    Args:
        verdicts ([`~datasets.Dataset`]): As `VERDICTS`; a panel's count as one more judge's.
    """
    groups: dict[tuple[str, Part], list[dict[str, Any]]] = defaultdict(list)
    for (benchmark, _, _, part), words in by_case(verdicts, set(verdicts["judge"][:])).items():
        groups[benchmark, part].append({judge: row["value"] for judge, row in words.items()})
    found = []
    for (benchmark, part), cases in groups.items():
        judges = list(dict.fromkeys(judge for case in cases for judge in case))
        if len(judges) < 2:
            continue
        common = [case for case in cases if all(case.get(judge) is not None for judge in judges)]
        rates = {judge: fmean(case[judge] for case in common) for judge in judges} if common else {}
        found.append(Swap(benchmark, part, len(common), len(cases), rates))
    return sorted(found, key=lambda swap: (-(swap.spread or 0), swap.benchmark, swap.part))
