"""How much a rate depends on the judge: the same texts, rated by each judge."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from datasets import Dataset

from ..grading.panel import verdicts_by_text
from ..types import Part


__all__ = ["Swap", "swaps"]


@dataclass(frozen=True)
class Swap:
    """The mean value of one benchmark under each judge, over the `texts` (`of` all) that every judge judged."""

    benchmark: str
    part: Part
    texts: int
    of: int
    rates: dict[str, float]

    @property
    def spread(self) -> float | None:
        """Highest minus lowest rate, 0 to 1; `None` without texts that all judged."""
        return max(self.rates.values()) - min(self.rates.values()) if self.rates else None


def swaps(verdicts: Dataset) -> list[Swap]:
    """The rate under each judge, for each benchmark and part with several judges; the widest spread first.

    All rates of a benchmark are over the same texts, so that they differ only by the judge. They can differ from the
    published rate, which is over all texts with a verdict of its one judge. A panel counts as one more judge.
    """
    groups: dict[tuple[str, Part], list[dict[str, Any]]] = defaultdict(list)
    for (benchmark, _, _, part), given in verdicts_by_text(verdicts, with_panel=True).items():
        groups[benchmark, part].append({judge: row["value"] for judge, row in given.items()})
    found = []
    for (benchmark, part), texts in groups.items():
        judges = list(dict.fromkeys(judge for text in texts for judge in text))
        if len(judges) < 2:
            continue
        common = [text for text in texts if all(text.get(judge) is not None for judge in judges)]
        rates = {judge: fmean(text[judge] for text in common) for judge in judges} if common else {}
        found.append(Swap(benchmark, part, len(common), len(texts), rates))
    return sorted(found, key=lambda swap: (-(swap.spread or 0), swap.benchmark, swap.part))
