"""The language of a text, and its script."""

import unicodedata
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

__all__ = ["SURE", "UNCLEAR", "identify", "language_of", "language_or_script"]

SURE = 0.9
"""Lowest confidence. It leaves 12 % of STAR-1's questions (median 15 words) undecided."""

_LIKELY = 0.6
"""Lowest confidence of a language other than English. No English question of STAR-1's sources reaches it."""

_FOREIGN = 0.25
"""From this share of letters that are not Latin on, a text is not in a language with Latin letters."""

UNCLEAR = "Latin"
"""The script of a text in Latin letters whose language is unclear."""

_NAMES = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}


def language_of(text: str) -> str | None:
    """The ISO 639 code of a text's language, or `None` if it is not certain.

    Uses [py3langid](https://github.com/adbar/py3langid), a model of byte n-grams. It is often uncertain about short
    texts and close languages such as Indonesian and Malay.
    """
    if not any(character.isalpha() for character in text):
        return None
    language, confidence = identify(text)
    return language if confidence >= SURE else None


def identify(text: str) -> tuple[str, float]:
    """The likeliest language of a text, as its ISO 639 code, and the probability of it, 0 to 1."""
    language, confidence = _identifier().classify(text)
    return language, float(confidence)


def language_or_script(text: str) -> str:
    """The language of a text in Latin letters, such as `"en"`, or `"Latin"` if it is unclear; else the script.

    A script is named as Unicode does it, such as `"Thai"` and `"Cyrillic"`, but `"Chinese"`, `"Japanese"`, `"Korean"`.
    """
    if not text.isascii():
        scripts = Counter(unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha())
        others = Counter({name: count for name, count in scripts.items() if name != "LATIN"})
        if others.total() > _FOREIGN * scripts.total():
            named = {_NAMES.get(name, name.capitalize()) for name in others}
            most = others.most_common(1)[0][0]
            return "Japanese" if "Japanese" in named else _NAMES.get(most, most.capitalize())
    language, confidence = identify(text)
    if language in ("en", "pcm"):  # Nigerian Pidgin: the model's answer to some short English questions
        return "en"
    return str(language) if confidence >= _LIKELY else UNCLEAR


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # takes half a second

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
