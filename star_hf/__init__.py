"""STAR-1's safety-reasoning data in the Hugging Face ecosystem: the paper's steps as `Dataset.map` and `.filter`.

The names below are imported on first use, so that `import star_hf` itself stays light. A whole build is
[`star_hf.pipeline.build.build`].
"""

from importlib import import_module
from typing import Any


__version__ = "0.1.0.dev0"

_HOMES = {
    "BenignRewriter": "transforms.rewrite",
    "BenignScorer": "transforms.rewrite",
    "BenignTeacher": "transforms.rewrite",
    "BuildConfig": "pipeline.config",
    "Budget": "llm",
    "Classifier": "transforms.classify",
    "Endpoint": "llm",
    "FullMarks": "transforms.filters",
    "Journal": "llm",
    "NotLike": "transforms.decontaminate",
    "Outcome": "schema",
    "Questions": "transforms.collect",
    "Run": "pipeline.run",
    "Scorer": "transforms.score",
    "StarError": "errors",
    "Step": "llm.step",
    "Taxonomy": "policies",
    "Teacher": "transforms.reason",
    "Usable": "transforms.filters",
    "annotate": "llm",
    "benign_twins": "transforms.rewrite",
    "classify": "transforms.classify",
    "collect": "transforms.collect",
    "deduplicate": "transforms.deduplicate",
    "join_reasoning": "utils.text",
    "load": "sources.loading",
    "load_config": "pipeline.config",
    "reason": "transforms.reason",
    "score": "transforms.score",
    "select": "transforms.select",
    "split_reasoning": "utils.text",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
