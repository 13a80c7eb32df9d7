"""Keys in every spelling are removed, and nothing else is."""

import json
import random
from urllib.parse import quote

import pytest

from star_hf.utils import secrets
from star_hf.utils.secrets import redacted, remember, without_secrets


KEY = "sk-Not+a/real=key.42"


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(secrets, "_SECRETS", {})
    remember(KEY)


def spelt():
    odd = "".join(f"\\u{ord(c):04x}" for c in KEY)
    return {
        "plain": KEY,
        "in a header": f"Bearer {KEY}",
        "url": quote(KEY, safe=""),
        "url twice": quote(quote(KEY, safe=""), safe=""),
        "url, lower case": quote(KEY, safe="").lower().replace("sk-not", "sk-Not"),
        "every character quoted": "".join(f"%{ord(c):02X}" for c in KEY),
        "json": odd,
        "json in json": json.dumps(odd)[1:-1],
        "a slash as in PHP": KEY.replace("/", "\\/"),
        "html": "".join(f"&#{ord(c)};" for c in KEY),
        "html, hexadecimal": "".join(f"&#x{ord(c):x};" for c in KEY),
        "two lines": KEY[:7] + "\n" + KEY[7:],
        "two lines in json": KEY[:7] + "\\n" + KEY[7:],
        "indented": KEY[:7] + "\r\n    " + KEY[7:],
        "a letter a line": "\n".join(KEY),
        "zero width": "\u200b".join(KEY),
        "soft hyphen": KEY[:5] + "\u00ad" + KEY[5:],
        "twice": f"{KEY} {KEY}",
    }


@pytest.mark.parametrize("name", spelt())
def test_a_key_is_removed_in_every_spelling(name):
    text = f"caf\u00e9 {spelt()[name]} 50% \\alpha"
    found = redacted(text)
    assert found.startswith("caf\u00e9 ") and found.endswith(" 50% \\alpha") and "[the key]" in found
    assert KEY[-5:] not in found and secrets._plain(KEY) not in secrets._plain(found)


@pytest.mark.parametrize("text", ["", "a b", "sk-Not", KEY[:-1], KEY.upper(), "\\u00e9 \\n %41 &#65;", "\ud800" * 20])
def test_a_text_without_it_stays_as_it_is(text):
    assert redacted(text) == text


def test_random_texts_stay_as_they_are_and_a_key_in_them_is_found():
    luck = random.Random(7)
    letters = "sk-Nota/re l=.42\\u00%&#;n\n\u200b\u00e9"
    for _ in range(300):
        text = "".join(luck.choice(letters) for _ in range(200))
        assert redacted(text) == text
        assert redacted(text + " " + KEY).startswith(text)


def test_short_keys_are_words_and_stay():
    remember("EMPTY")
    assert redacted("The list is EMPTY.") == "The list is EMPTY."


def test_every_string_of_a_value_is_cleaned():
    value = {"a": [KEY, {"b": f"x{KEY}"}], KEY: 7, "c": None}
    assert without_secrets(value) == {"a": ["[the key]", {"b": "x[the key]"}], "[the key]": 7, "c": None}
