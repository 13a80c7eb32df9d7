"""Judges of answers: one file per family. `load_judge` makes one from its name."""

from .base import Family, Judge, Kind
from .kinds import Kinds, RefusalKind
from .llama_guard import LlamaGuard
from .loading import KNOWN, load_judge
from .policy import PolicyJudge
from .qwen3guard import Qwen3Guard
from .refusal import Refusal
from .refusal_phrases import RefusalPhrases
from .strongreject import StrongReject
from .wildguard import WildGuard
from .xstest import XSTest


__all__ = [
    "KNOWN",
    "Family",
    "Judge",
    "Kind",
    "Kinds",
    "LlamaGuard",
    "PolicyJudge",
    "Qwen3Guard",
    "Refusal",
    "RefusalKind",
    "RefusalPhrases",
    "StrongReject",
    "WildGuard",
    "XSTest",
    "load_judge",
]
