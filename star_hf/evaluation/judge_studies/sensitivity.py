"""How much a rate depends on the judge: the same texts, rated by each judge."""

from dataclasses import dataclass

from datasets import Dataset

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
    columns = ["benchmark", "item_id", "sample", "judge", "part", "value"]
    found = []
    for (benchmark, part), rows in verdicts.select_columns(columns).to_pandas().groupby(["benchmark", "part"]):
        values = rows.pivot(index=["item_id", "sample"], columns="judge", values="value")[rows["judge"].unique()]
        if values.shape[1] > 1:
            common = values.dropna()
            rates = common.mean().to_dict() if len(common) else {}
            found.append(Swap(benchmark, part, len(common), len(values), rates))
    return sorted(found, key=lambda swap: (-(swap.spread or 0), swap.benchmark, swap.part))
