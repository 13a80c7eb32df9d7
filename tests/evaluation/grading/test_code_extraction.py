"""Code is found in whatever form models give it, and completed to a program that defines the function."""

import textwrap

import pytest

from star_hf.evaluation.generation.responses import read_response
from star_hf.evaluation.grading.code_extraction import complete_program, extract_code


SIGNATURE = 'import math\n\n\ndef helper(x):\n    return x\n\n\ndef area(r):\n    """Area of a circle."""\n'
RUNS = "def area(r):\n    return math.pi * helper(r) ** 2\n"
SQUARED = "```python\ndef squared(x):\n    return x * x\n```\n"
SQUARES = "def area(r):\n    return math.pi * squared(r)\n"
FOUND = {
    "one block": f"Here:\n```python\n{RUNS}```\nDone.",
    "a draft in the thought": f"<think>\n```python\ndef area(r):\n    return 0\n```\n</think>\n```python\n{RUNS}```",
    "a draft before it": f"First:\n```python\ndef area(r):\n    return 0\n```\nBetter:\n```python\n{RUNS}```",
    "a call after it": f"```python\n{RUNS}```\nUse it:\n```python\nprint(area(1))\n```",
    "no language": f"```\n{RUNS}```",
    "output after it": f"```python\n{RUNS}```\n```text\n3.14\n```",
    "no closing fence": f"```python\n{RUNS}",
    "no fence": RUNS,
    "only the body": "    return math.pi * helper(r) ** 2\n",
    "a body not indented": "```python\nreturn math.pi * helper(r) ** 2\n```",
    "a body whose first line is not": "```python\nsquare = helper(r) ** 2\n    return math.pi * square\n```",
    "a body of several lines": "```python\nnumbers = [\n    math.pi,\n    r * r,\n]\nreturn math.prod(numbers)\n```",
    "the whole prompt again": f"```python\n{SIGNATURE}    return math.pi * helper(r) ** 2\n```",
    "a version": f"```Python 3\n{RUNS}```",
    "a fence of four": f"````python\n{RUNS}````",
    "an import that must be first": f"```python\nfrom __future__ import annotations\n\n{RUNS}```",
    "an inner function": "```\ndef area(r):\n    def two(x):\n        return x * x\n    return math.pi * two(r)\n```",
    "a helper in a block before it": f"{SQUARED}Now:\n```python\n{SQUARES}```",
    "a helper in a block after it": f"```python\n{SQUARES}```\nwith\n{SQUARED}",
    "a helper that needs an import": (
        f"```python\nimport operator\n```\n```python\ndef squared(x):\n    return operator.mul(x, x)\n```\n"
        f"```python\n{SQUARES}```"
    ),
    "a constant in a block before it": f"```python\nPOWER = 2\n```\n```python\n{RUNS.replace('2', 'POWER')}```",
    "an example that defines what it needs": f"```python\nr = area(1)\n```\n```python\n{RUNS}```",
    "an example with the name of a variable": (
        "```python\ndef area(r):\n    result = math.pi * helper(r) ** 2\n    return result\n```\n"
        "```python\nresult = area(1)\nraise SystemExit(result)\n```"
    ),
    "a lambda": "```python\narea = lambda r: math.pi * helper(r) ** 2\n```",
    "a lambda with its type": "```python\narea: object = lambda r: math.pi * helper(r) ** 2\n```",
    "a method": "```python\nclass Solution:\n    def area(self, r):\n        return math.pi * helper(r) ** 2\n```",
    "a method and a function that calls it": (
        "```python\nclass Circle:\n    def __init__(self, r):\n        self.r = r\n\n    def area(self):\n"
        "        return math.pi * helper(self.r) ** 2\n\n\ndef area(r):\n    return Circle(r).area()\n```"
    ),
    "indented in a list": "1. So:\n   ```python\n   def area(r):\n       return math.pi * helper(r) ** 2\n   ```",
    "a closing fence on the code's own line": f"Here:\n```python\n{RUNS.rstrip()}```\nThat's it. It's fast.",
    "code on the opening line": f"```python {RUNS}```",
    "prose before bare code": f"Here's what it does: it's simple.\n\n{RUNS}",
    "prose after bare code": f"{RUNS}\nIt's O(1), isn't it?\n\n1. First - read.\n",
    "prose around bare code with an import": f"So:\n\nimport operator\n\n\n{RUNS}\nDone.\n",
    "prose around bare code and an example": f"So:\n\n{RUNS}\nUse it:\n\nprint(area(1), 1 / 0)\n",
    "prose before bare code with a call": f"So:\n\n{RUNS}\nprint(area(1), 1 / 0)\n",
    "an import on the opening line": "```python import cmath\ndef area(r):\n    return cmath.pi * r * r\n```",
    "prose around a bare body": "The body is:\n\n    return math.pi * helper(r) ** 2\n\nThat's all.",
    "a body not indented in prose": "The body is:\n\nsquare = helper(r) ** 2\nreturn math.pi * square\n\nThat's all.",
    "a tag": f"<answer>\n{RUNS}</answer>",
    "a tag on the line": f"<answer>{RUNS.rstrip()}</answer>",
    "PYTHON in brackets": f"[PYTHON]\n{RUNS}[/PYTHON]\nIt's done.",
    "a block quote": "It is:\n" + "".join(f"> {line}\n" for line in RUNS.splitlines()),
    "a block quote with a fence": "".join(f"> {line}\n" for line in ("```python", *RUNS.splitlines(), "```")),
    "a list without a fence": "1. So:\n\n" + textwrap.indent(RUNS, "    "),
    **{
        f"the language {language}": f"```{language}\n{RUNS}```"
        for language in ("{python}", "{.python}", "python:area.py", "python,linenos", "ipython", "python3.11", "py ")
    },
}


@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND)
def test_code_is_found_and_completed(text):
    code = extract_code(read_response("i", text).answer, "area")
    names = {}
    exec(complete_program(SIGNATURE, code, "area"), names)  # noqa: S102 - our own text
    assert names["area"](2) == pytest.approx(12.566, abs=1e-3)


PROSE = [
    "I cannot write that.",
    "Sorry",
    "",
    "The function returns pi.",
    "If you want, import it from math.",
    "x = y holds.",
]
PROSE += [
    "First, define area.\n\nThen return it.",
    "def area of a circle",
]


@pytest.mark.parametrize("text", PROSE)
def test_prose_is_no_code(text):
    assert extract_code(text, "area") is None
