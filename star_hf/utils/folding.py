"""One form for texts that a reader takes for the same. Only for comparison: no text is kept or sent in this form."""

import unicodedata
from collections import Counter, defaultdict
from functools import cache
from typing import TYPE_CHECKING

import regex

from .text import INVISIBLE


if TYPE_CHECKING:
    from opencc import OpenCC

__all__ = ["fold"]

_WORD = regex.compile(r"\p{L}[\p{L}\p{M}]*")
_HAN = regex.compile(r"\p{Script=Han}")
_OTHER_ALPHABET = regex.compile(r"[\p{Script=Cyrillic}\p{Script=Greek}\p{Script=Armenian}]")
_WRITTEN = "ıɣɩƖʋƽ"
"""Latin letters that look like others, but that languages write: Turkish, Ewe, Zhuang."""


def fold(text: str) -> str:
    """Fold what a reader does not see: compatible, invisible and look-alike characters, and both forms of Chinese.

    The compatible characters are those of Unicode's NFKC form, such as `ﬁ` and `fi`. Letters of other alphabets are
    folded only in words that mix alphabets (`pаypal` with a Cyrillic `а`) or that consist of such letters in a text of
    another alphabet, so words in their own alphabet stay as they are. Traditional Chinese becomes simplified.
    """
    if text.isascii():
        return text
    text = INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    if text.isascii():
        return text
    if _OTHER_ALPHABET.search(text) or not _like_ascii().keys().isdisjoint(text):
        usual = _usual_alphabet(text)
        text = _WORD.sub(lambda word: _in_one_alphabet(word[0], usual), text)
    return _simplifier().convert(text) if _HAN.search(text) else text


def _usual_alphabet(text: str) -> str:
    """The alphabet of most letters that look like no letter of another alphabet, or else of most letters."""
    letters = [letter for letter in text if letter.isalpha()]
    clear = [letter for letter in letters if letter not in _like_ascii() and letter not in _ambiguous()]
    return Counter(map(_alphabet, clear or letters)).most_common(1)[0][0]


def _in_one_alphabet(word: str, usual: str) -> str:
    """The word in the text's usual alphabet, else in its own most frequent one, as far as look-alikes allow."""
    if word.isascii():
        return word if usual == "LATIN" else _written_in(word, usual) or word
    own = Counter(map(_alphabet, filter(str.isalpha, word)))
    if len(own) == 1 and (usual in own or len(word) == 1) and usual != "LATIN":
        return word
    wanted = [usual, *(alphabet for alphabet, _ in own.most_common())]
    return next((same for same in (_written_in(word, alphabet) for alphabet in wanted) if same), word)


def _written_in(word: str, alphabet: str) -> str | None:
    """The same-looking word in an alphabet, or `None` if it has a letter that no letter of the alphabet looks like."""
    if len(word) == 1:
        return None
    letters = []
    for letter in word:
        latin = letter if letter.isascii() else _like_ascii().get(letter, "")
        if alphabet == "LATIN" and latin:
            letters.append(latin)
        elif not letter.isalpha() or _alphabet(letter) == alphabet:
            letters.append(letter)
        elif twin := _twins().get((alphabet, latin)):
            letters.append(twin)
        else:
            return None
    return "".join(letters)


@cache
def _alphabet(letter: str) -> str:
    """The first word of a letter's name, such as `LATIN`."""
    return unicodedata.name(letter, "?").split()[0]


@cache
def _like_ascii() -> dict[str, str]:
    """The ASCII letter that a letter looks like, by Unicode's table of confusable characters."""
    from confusable_homoglyphs.confusables import confusables_data  # takes an eighth of a second

    found: dict[str, str] = {}
    for letter, others in confusables_data.items():
        if len(letter) != 1 or letter.isascii() or not letter.isalpha() or letter in _WRITTEN:
            continue
        twin = next((item["c"] for item in others if item["c"].isascii() and item["c"].isalpha()), None)
        if twin is not None and len(twin) == 1:
            found[letter] = "I" if twin == "l" and letter.isupper() else twin  # the table has I as a form of l
    return found


@cache
def _twins() -> dict[tuple[str, str], str]:
    """The letter of an alphabet that looks like an ASCII letter, of the same case."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for letter, latin in _like_ascii().items():
        if letter.isupper() == latin.isupper():
            found[_alphabet(letter), latin].append(letter)
    return {key: min(letters) for key, letters in found.items()}


@cache
def _ambiguous() -> set[str]:
    """The ASCII letters that a Cyrillic or Greek one looks like."""
    return {latin for alphabet, latin in _twins() if alphabet in ("CYRILLIC", "GREEK")}


@cache
def _simplifier() -> "OpenCC":
    from opencc import OpenCC

    return OpenCC("t2s")
