"""Makes YAML files that no one should have written, from a good one, reproducibly."""

import random
from collections.abc import Iterator
from typing import Any

import yaml


MARK = "PLACEHOLDER{}PLACEHOLDER"

RAW = (
    "9" * 5000, "-" + "9" * 5000, "1e999", ".nan", "-.inf", "0x" + "f" * 300, "1:30", "2024-99-99", "2024-01-01",
    "[" * 500 + "]" * 500, "{a: " * 500 + "1" + "}" * 500, "&a [*a]", "&b {c: *b}", "*nowhere", "!!int ''",
    "!!float x", "!!timestamp x", "!!bool x", "!!binary '*'", "!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]",
    "!!pairs [a: 1]", "!!python/object/apply:os.getcwd []", "!!python/name:os.system ''", "!nonsense 5", "? [a]\n: b",
    "{[a]: b}", "{? {a: 1} : b}", "{1: 2}", "{null: 2}", "{1.5: 2, true: 3}", "{<<: 5}", "{<<: [1]}", "{<<: {a: 1}}",
    "'\\0'", '"\\0"', '"\\ud800"', '"\\x1b[31m"', "\t", "%", "@", "`", "---", "...", "!!null x", "~", "''", "' '",
    '"' + "x" * 100_000 + '"', "- 1", "[]", "{}", "[{}]", "[[[[]]]]", "[1, a, null, [], {}]", "-1", "0", "-0.0", "1.5",
    "yes", "no", "on", "[1, 2, 3]", "{a: 1}", "{model: 5}", "../../../..", "~/x", "/dev/null", "'*'", "<<",
)  # fmt: skip
"""What is put in the place of a value, as it is written."""

WHOLE = (
    b"\0", b"\xff\xfe", b"- a", b"5", b"a: b: c", b"a:\n\t- b", b"{", b"[", b"'", b"&a [*a]",
    b"a: 1\na: 2", b"? {}", b"%YAML 9.9\n---\na: 1", b"--- a\n--- b", b"\xe9", "ä: ö".encode("utf-16"), b"x" * 10_000,
    b"a: *b", b"!!python/object:os.path {}", b"a: " + b"[" * 5000, b"a: " + b"- " * 3000, b"{a: " * 3000,
    b"".join(b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1) if c > 97 else b"x"] * 9))
             for c in range(97, 105)),
    b"".join(b"%c: &%c {%s}\n" % (c, c, b"<<: [" + b", ".join([b"*%c" % (c - 1)] * 9) + b"]" if c > 97 else b"x: 1")
             for c in range(97, 110)),
    b"".join(b"%c: &%c %s\n" % (c, c, b"[" * 30 + (b"*%c" % (c - 1) if c > 97 else b"x") + b"]" * 30)
             for c in range(97, 120)),
    b"".join(b"k%d: v\n" % n for n in range(11_000)),
)  # fmt: skip
"""Whole files."""


def hostile(good: str, seed: int, count: int) -> Iterator[bytes]:
    """`count` files: the good one with one to three of its values, keys or bytes changed."""
    chance = random.Random(seed)
    for _ in range(count):
        if chance.random() < 0.2:
            yield _scratched(good.encode(), chance)
            continue
        data, raw = yaml.load(good, yaml.BaseLoader), {}
        for number in range(chance.randint(1, 3)):
            _change(data, chance, MARK.format(number))
            raw[MARK.format(number)] = chance.choice(RAW)
        text = yaml.safe_dump(data, sort_keys=False, width=10**6, allow_unicode=True)
        for mark, value in raw.items():
            text = text.replace(mark, value)
        yield text.encode("utf-8", "surrogatepass")


def _change(data: Any, chance: random.Random, mark: str) -> None:
    """Replace, rename, repeat or remove one value at a random depth."""
    while True:
        keys = list(data) if isinstance(data, dict) else list(range(len(data)))
        if not keys:
            return
        key = chance.choice(keys)
        if not isinstance(data[key], dict | list) or chance.random() < 0.3:
            break
        data = data[key]
    match chance.randrange(5):
        case 0 if isinstance(data, dict):
            data[mark] = data.pop(key)
        case 1 if isinstance(data, dict):
            data[mark] = mark
        case 2:
            del data[key]
        case 3 if isinstance(data, list):
            data.append(mark)
        case _:
            data[key] = mark


def _scratched(content: bytes, chance: random.Random) -> bytes:
    """The file cut, or with some bytes replaced, doubled or moved."""
    start, end = sorted(chance.sample(range(len(content) + 1), 2))
    match chance.randrange(4):
        case 0:
            return content[:start]
        case 1:
            return (
                content[:start]
                + bytes(chance.choice(b"{}[]:,&*!|>'\"%@`#- \n\t\0\xff") for _ in range(3))
                + content[start:]
            )
        case 2:
            return content[:start] + content[end:]
        case _:
            return content[:end] + content[start:]
