"""Words by script: what to count in texts whose words have no spaces between them, or many forms."""

import unicodedata
from collections.abc import Iterator
from functools import cache

import regex


__all__ = ["SINGLE", "split_by_script", "unspaced"]

_IDEOGRAPHS = (
    r"\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}\p{Script=Yi}ー々〆"
)
_SYLLABLES = "".join(
    rf"\p{{Script={name}}}"
    for name in "Thai Lao Khmer Myanmar Tibetan Javanese Balinese Tai_Le New_Tai_Lue Tai_Tham Tai_Viet".split()
)
_PARTS = regex.compile(
    rf"(?P<ideographs>[{_IDEOGRAPHS}]+)|(?P<syllables>[{_SYLLABLES}]+)"
    rf"|(?P<latin>(?:[\p{{Script=Latin}}\p{{N}}_][\p{{M}}]*)+)"
    rf"|(?P<letters>(?:(?![{_IDEOGRAPHS}{_SYLLABLES}\p{{Script=Latin}}])[\w\p{{M}}])+)"
)
_POINTED = regex.compile(r"[\p{Script=Arabic}\p{Script=Hebrew}]")
_NOT_ASCII_WORD = regex.compile(r"[^a-z0-9]+")

SINGLE = regex.compile(rf"[{_IDEOGRAPHS}]")
"""A character that is a term by itself."""

_UNSPACED = (
    (regex.compile(r"\p{Script=Han}|[\p{Script=Hiragana}ー]+|[\p{Script=Katakana}ー]+"), 2),
    (regex.compile(rf"[{_SYLLABLES}--\p{{M}}]\p{{M}}*", regex.V1), 4),
)
"""The units of scripts without spaces, and how many of them are about as long as a word."""

_WHOLE, _PART = 3, 4
"""How often a romanised word counts beside its parts, and their length: so both weigh about the same."""


@cache
def split_by_script(word: str) -> tuple[str, ...]:
    """The terms of a lower-cased word that is not ASCII.

    - Chinese, Japanese and Korean: each character, and each two characters in a row.
    - Scripts of South-East Asia without spaces, such as Thai and Khmer: each two and three characters in a row.
    - Latin: runs of letters and digits, without accents.
    - Others: the word in Latin letters ([anyascii](https://github.com/anyascii/anyascii)), so that a transliteration
      is similar, and its parts of four letters, so that its forms are.
    """
    terms: list[str] = []
    for part in _PARTS.finditer(word):
        text, kind = part.group(), part.lastgroup
        if kind == "ideographs":
            terms += [*text, *_runs(text, 2)]
        elif kind == "syllables":
            terms += [*_runs(text, 2), *_runs(text, 3)] if len(text) > 1 else [text]
        else:
            plain = _romanised(text)
            terms += [plain] * (_WHOLE if kind == "letters" else 1)
            if kind == "letters":
                terms += _runs(f"·{plain}·", _PART)
    return tuple(terms)


def unspaced(text: str) -> Iterator[tuple[list[str], int]]:
    """The units of a text in each kind of script without spaces, and how many of them are about as long as a word.

    A Chinese word has about two characters. In Japanese each run of kana is one unit, since endings such as
    `どうすればいいですか` say little. A word in Thai, Lao, Khmer or Burmese has about four.
    """
    for units, per_word in _UNSPACED:
        yield units.findall(text), per_word


def _romanised(text: str) -> str:
    from anyascii import anyascii

    if _POINTED.search(text):  # mostly not written
        text = "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))
    return _NOT_ASCII_WORD.sub("", anyascii(text).lower())


def _runs(text: str, length: int) -> list[str]:
    return [text[start : start + length] for start in range(len(text) - length + 1)]
