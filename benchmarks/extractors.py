"""Extractors and the sandbox against right values that others made: MATH-500, MMLU-Pro's recorded outputs, HumanEval.

    python benchmarks/extractors.py ../shared/data/raw
    python benchmarks/extractors.py ../shared/data/raw --only math --limit 100

- math: each of MATH-500's solutions must be right, and so must its answer in each wrapping that models write; other
  problems' answers must be wrong.
- letters: agreement with the letters that MMLU-Pro's authors extracted from a model's outputs.
- code: HumanEval's canonical solutions must pass in each form that models write. Empty solutions must fail, and so
  must mutants, except those that change nothing or that the tests miss.
"""

import argparse
import ast
import copy
import gzip
import json
import random
import re
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from star_hf.evaluation.generation.responses import read_response
from star_hf.evaluation.grading.code_execution import code_verdicts
from star_hf.evaluation.grading.code_extraction import complete_program, extract_code
from star_hf.evaluation.grading.extractors import extract_choice, math_verdict
from star_hf.evaluation.types import Item


WRAPPINGS = {
    "a box": r"\boxed{X}",
    "a box in a sentence": r"So the result is $\boxed{X}$.",
    "a displayed box": r"\[\boxed{X}\]",
    "a box between dollars": r"$$\boxed{X}$$",
    "a heading and a box": "**Final Answer**\n\n\\[ \\boxed{X} \\]",
    "a heading, a box and an end": "### Final Answer\n\n$\\boxed{X}$\n\nThis completes the solution.",
    "a box, then a check": "\\boxed{X}\n\n**Checking the answer:** it satisfies all conditions.",
    "a box, then a calculation": "\\boxed{X}\n\nWe may check our answer: $17\\cdot 44=748$",
    "a box, then praise": "\\boxed{X}\n\nThe answer is 100% correct.",
    "a box, then a pointer": "\\boxed{X}\n\nAnswer: see the box above.",
    "Answer and a box": r"Answer: $\boxed{X}$",
    "is and a box": r"The final answer is $\boxed{X}$. I hope it is correct.",
    "a frame": r"\fbox{X}",
    "Answer: $X$": "Answer: $X$",
    "bold Answer: $X$": "**Answer:** $X$",
    "a bold line": "**Answer: $X$**",
    "The answer is $X$": "The answer is $X$.",
    r"is \(X\)": r"Hence the final answer is \(X\).",
    "Answer, next line": "Answer:\n\n\\[X\\]",
    "Minerva": "Final Answer: The final answer is $X$. I hope it is correct.",
    "the last formula": "We know that $1 + 1 = 2$. Therefore we get $X$.",
    "is $$X$$": "So the answer is $$X$$",
    "a heading and $X$": "## Final Answer\n$X$",
    "is: $X$": "The correct answer is: $X$",
    "Answer: $X$, a reason": "Answer: $X$, as claimed, since 2+2=4.",
    r"Final answer: \(X\)": r"Final answer: \(X\)",
    "Answer: X": "Answer: X",
    "ANSWER: X.": "ANSWER: X.",
    "bold Answer: X": "**Answer:** X",
    "The answer is X": "The answer is X",
    "The answer is X.": "The answer is X.",
    "The answer is: X": "The final answer is: X",
    "is bold X": "Therefore, the answer is **X**.",
    "bare X": "X",
    "X on the last line": "We divide both sides by two.\n\nX",
    "bold X on the last line": "We divide both sides by two.\n\n**X**",
    "GSM8K": "We divide both sides by two.\n#### X",
    "<answer>X</answer>": "<answer>X</answer>",
    "<answer>$X$</answer>": "So:\n<answer>\n$X$\n</answer>",
    "Unicode": "The answer is U.",
}

UNICODE = (
    (r"(?<=\d)\s*(?=\\frac)", lambda m: " "),
    (r"\\[dt]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))", lambda m: _fraction(m)),
    (r"\\sqrt\s*(?:\{(\w+)\}|(\d))", lambda m: f"√{m[1] or m[2]}"),
    (r"\\(?:text|mbox)\s*\{\s*([^{}]*)\}", lambda m: m[1]),
    (r"\^\\circ", lambda m: "°"),
    (r"\\pi\b", lambda m: "π"),
    (r"\\infty\b", lambda m: "∞"),
    (r"\\cup\b", lambda m: "∪"),
    (r"\\pm\b", lambda m: "±"),
    (r"\\in\b", lambda m: "∈"),
    (r"\^2", lambda m: "²"),
    (r"\^3", lambda m: "³"),
    (r"\\(?:left|right|!)", lambda m: ""),
)


def _fraction(match: re.Match) -> str:
    top, bottom = match[1] or match[2], match[3] or match[4]
    return f"{top if top.isalnum() else f'({top})'}/{bottom if bottom.isalnum() else f'({bottom})'}"


def in_unicode(formula: str) -> str:
    """A formula as models write it without LaTeX; what has no such form stays LaTeX."""
    if "matrix" in formula:
        return f"${formula}$"
    for pattern, replacement in (*UNICODE[:1], *UNICODE[:0:-1]):
        formula = re.sub(pattern, replacement, formula)
    return f"${formula}$" if re.search(r"\\(?![$%{}])", formula) else formula


def math(folder: Path, limit: int | None) -> None:
    rows = [json.loads(line) for line in (folder / "MATH" / "test.jsonl").open(encoding="utf-8")][:limit]
    items = [Item(row["unique_id"], "", target=row["answer"]) for row in rows]

    def right(texts: list[str], against: list[Item] = items) -> list[bool]:
        return [
            math_verdict(item, read_response(item.id, text)).value == 1
            for item, text in zip(against, texts, strict=True)
        ]

    report("solutions as they are", right([row["solution"] for row in rows]), items)
    for name, wrapping in WRAPPINGS.items():
        texts = [wrapping.replace("X", row["answer"]).replace("U", in_unicode(row["answer"])) for row in rows]
        report(name, right(texts), items)
    others = [(item, other.target) for item in items for other in random.Random(item.id).sample(items, 4)]
    others = [(item, answer) for item, answer in others if answer != item.target]
    for name in ("a box", "The answer is X."):
        texts = [WRAPPINGS[name].replace("X", answer) for _, answer in others]
        passed = right(texts, [item for item, _ in others])
        print(f"| other problems' answers, {name} (to be wrong) | {sum(passed)} of {len(passed)} |", flush=True)
        for (item, answer), wrongly in zip(others, passed, strict=True):
            if wrongly:
                print(f"    {item.id}: {answer} for {item.target}")


def letters(folder: Path, limit: int | None) -> None:
    (archive,) = (folder / "MMLU-Pro").glob("*.zip")
    with zipfile.ZipFile(archive) as files:
        rows = json.loads(files.read(files.namelist()[0]))[:limit]
    same, differ = 0, {"ours right": 0, "theirs right": 0, "none right": 0, "only ours": 0, "only theirs": 0}
    for row in rows:
        options = "ABCDEFGHIJ"[: len(row["options"])]
        found, recorded = extract_choice(row["generated_text"], options), row["pred"] or None
        same += found == recorded
        if found != recorded:
            differ["only ours"] += recorded is None
            differ["only theirs"] += found is None
            right = [found == row["answer"], recorded == row["answer"]]
            differ["ours right" if right[0] else "theirs right" if right[1] else "none right"] += 1
    print(f"| MMLU-Pro, the recorded letter | {same} of {len(rows)}, {same / len(rows):.1%} |")
    print(f"    where they differ: {differ}", flush=True)


PROSE = "This function solves the task. It takes the arguments that the signature names, and it's simple."
WHOLE, BODY = "whole", "body"


def _fenced(language: str, close: str = "\n```") -> Callable[[str], str]:
    return lambda code: f"```{language}\n{code.rstrip()}{close}"


FORMS: dict[str, tuple[str, Callable[[str], str]]] = {
    "whole, bare": (WHOLE, str),
    "body, bare": (BODY, str),
    "body, no indent": (BODY, textwrap.dedent),
    "body in a fence": (BODY, _fenced("python")),
    "body in a fence, no indent": (BODY, lambda code: _fenced("python")(textwrap.dedent(code))),
    **{
        f"fence {language or 'without language'}": (WHOLE, _fenced(language))
        for language in (
            *("", "python", "Python", "py", "python3", "Python 3", "{python}", "{.python}", "python:file.py"),
            *("python,linenos", "ipython", "ipython3", "python title=solution.py", "python {linenos=true}", "pycon3"),
            *("python file.py", "python3.11", " python"),
        )
        if language != "pycon3"
    },
    "fence of tildes": (WHOLE, lambda code: f"~~~python\n{code}\n~~~"),
    "fence of four": (WHOLE, lambda code: f"````python\n{code}\n````"),
    "no closing fence": (WHOLE, lambda code: f"```python\n{code}"),
    "closing fence on the code's line": (WHOLE, _fenced("python", "```")),
    "closing fence on the line, then prose": (WHOLE, lambda code: f"{_fenced('python', '```')(code)}\n\n{PROSE}"),
    "code on the opening line": (WHOLE, lambda code: f"```python {code.strip()}\n```"),
    "prose before a fence": (WHOLE, lambda code: f"{PROSE}\n\n{_fenced('python')(code)}"),
    "prose after a fence": (WHOLE, lambda code: f"{_fenced('python')(code)}\n\n{PROSE}"),
    "prose around a fence": (WHOLE, lambda code: f"{PROSE}\n{_fenced('python')(code)}\n{PROSE}"),
    "prose before bare code": (WHOLE, lambda code: f"{PROSE}\n\n{code}"),
    "prose after bare code": (WHOLE, lambda code: f"{code}\n\n{PROSE}"),
    "prose around bare code": (WHOLE, lambda code: f"Here is the solution:\n\n{code}\n\n{PROSE}\n\nIt's O(n)."),
    "prose before a bare body": (BODY, lambda code: f"Here is the body:\n\n{code}"),
    "a list after bare code": (WHOLE, lambda code: f"{code}\n\n1. First, it reads.\n2. Then - it writes.\n"),
    "<answer> bare": (WHOLE, lambda code: f"<answer>\n{code}\n</answer>"),
    "<answer> on the line": (WHOLE, lambda code: f"<answer>{code.strip()}</answer>"),
    "<answer> with a fence": (WHOLE, lambda code: f"<answer>\n{_fenced('python')(code)}\n</answer>"),
    "<code>": (WHOLE, lambda code: f"<code>\n{code}\n</code>"),
    "<python>": (WHOLE, lambda code: f"<python>\n{code}\n</python>"),
    "[PYTHON]": (WHOLE, lambda code: f"[PYTHON]\n{code}\n[/PYTHON]"),
    "[CODE]": (WHOLE, lambda code: f"{PROSE}\n[CODE]\n{code}\n[/CODE]\n{PROSE}"),
    "[BEGIN] [DONE]": (WHOLE, lambda code: f"[BEGIN]\n{code}\n[DONE]"),
    "block quote": (WHOLE, lambda code: textwrap.indent(code, "> ", lambda line: True)),
    "block quote with a fence": (WHOLE, lambda code: textwrap.indent(_fenced("python")(code), "> ", lambda _: True)),
    "fence in a list": (WHOLE, lambda code: "1. So:\n" + textwrap.indent(_fenced("python")(code), "   ")),
    "bare code in a list": (WHOLE, lambda code: "1. So:\n\n" + textwrap.indent(code, "    ")),
    "a draft before it": (
        WHOLE,
        lambda code: f"{_fenced('python')(_empty(code))}\nBetter:\n{_fenced('python')(code)}",
    ),
    "a usage after it": (WHOLE, lambda code: f"{_fenced('python')(code)}\nUse it:\n```python\nprint(1 / 0)\n```"),
    "an output after it": (WHOLE, lambda code: f"{_fenced('python')(code)}\nIt prints:\n```\n3.14 and so on\n```"),
    "a shell before it": (WHOLE, lambda code: f"```bash\npip install numpy\n```\n{_fenced('python')(code)}"),
    "in a thought and after it": (WHOLE, lambda code: f"<think>\n{_fenced('python')(_empty(code))}\n</think>\n{code}"),
    "a doctest prompt": (WHOLE, lambda code: _fenced("python")(code) + "\n>>> print(1)\n1"),
    "a main block": (WHOLE, lambda code: _fenced("python")(f"{code}\n\nif __name__ == '__main__':\n    print(1 / 0)")),
    "a method": (WHOLE, lambda code: _fenced("python")(_method(code))),
    "Windows line ends": (WHOLE, lambda code: _fenced("python")(code).replace("\n", "\r\n")),
    "an HTML block": (WHOLE, lambda code: f"<pre><code>\n{code}\n</code></pre>"),
}


def _empty(code: str) -> str:
    function = ast.parse(code).body[-1]
    function.body = [ast.Pass()]
    return ast.unparse(function)


def _method(code: str) -> str:
    """The last function of a program as a method of `Solution`; what is above it stays."""
    module = ast.parse(code)
    function = module.body[-1]
    function.args.args.insert(0, ast.arg("self"))
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function.name:
            node.func = ast.Attribute(ast.Name("self"), node.func.id)
    module.body[-1] = ast.ClassDef("Solution", [], [], [function], [])
    return ast.unparse(ast.fix_missing_locations(module))


SWAPS = {ast.Lt: ast.GtE, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
SWAPS |= {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.And: ast.Or, ast.Or: ast.And, ast.Mod: ast.Mult}


def mutants(program: str, name: str) -> Iterator[str]:
    """Programs with one operator or number of the function changed."""
    tree = ast.parse(program)

    def places(module: ast.Module) -> list[ast.AST]:
        (function,) = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name]
        return [node for statement in function.body[1:] for node in ast.walk(statement)]

    for number, node in enumerate(places(tree)):
        changed = copy.deepcopy(tree)
        there = places(changed)[number]
        if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            there.ops[0] = SWAPS[type(node.ops[0])]()
        elif isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS:
            there.op = SWAPS[type(node.op)]()
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            there.value += 1
        else:
            continue
        yield ast.unparse(changed)


def code(folder: Path, limit: int | None) -> None:
    with gzip.open(folder / "HumanEval" / "HumanEval.jsonl.gz") as file:
        rows = [json.loads(line) for line in file][:limit]
    facts = [{"signature": row["prompt"], "entry_point": row["entry_point"]} for row in rows]
    items = [Item(row["task_id"], "", target=row["test"], facts=fact) for row, fact in zip(rows, facts, strict=True)]
    ran: dict[tuple[str, str], bool] = {}

    def right(texts: list[tuple[Item, str]]) -> list[bool]:
        """Whether each passes; the same program is run once."""
        keys, fresh = [], {}
        for item, text in texts:
            answer = read_response(item.id, text)
            name = item.facts["entry_point"]
            found = extract_code(answer.answer or "", name)
            program = complete_program(item.facts["signature"], found, name) if found else ""
            keys.append((item.id, program))
            if program and keys[-1] not in ran:
                fresh[keys[-1]] = answer
        verdicts = code_verdicts(
            {item.id: item for item in items}, list(fresh.values()), allow_code_execution=True, progress=False
        )
        ran.update({key: verdict.value == 1 for key, verdict in zip(fresh, verdicts, strict=True)})
        return [ran.get(key, False) for key in keys]

    for name, (kind, form) in FORMS.items():
        texts = []
        for item, row in zip(items, rows, strict=True):
            solution = row["canonical_solution"]
            texts.append((item, form(row["prompt"] + solution if kind == WHOLE else solution)))
        report(name, right(texts), items)
    empty = right(
        [(item, _fenced("python")(row["prompt"] + "    pass\n")) for item, row in zip(items, rows, strict=True)]
    )
    print(f"| empty functions (to fail) | {sum(empty)} of {len(empty)} |")
    changed = []
    for item, row in zip(items, rows, strict=True):
        found = list(mutants(row["prompt"] + row["canonical_solution"], row["entry_point"]))
        found = random.Random(item.id).sample(found, min(3, len(found)))
        changed += [(item, _fenced("python")(program)) for program in found]
    passed = right(changed)
    print(f"| mutants (to fail, most of them) | {sum(passed)} of {len(passed)} pass |", flush=True)


def report(name: str, right: list[bool], items: list[Item]) -> None:
    print(f"| {name} | {sum(right)} of {len(right)} |", flush=True)
    wrong = [f"{item.id} ({item.target})" if len(item.target or "") < 40 else item.id for item in items]
    wrong = [each for each, passed in zip(wrong, right, strict=True) if not passed]
    if 0 < len(wrong) <= 12:
        print(f"    not right: {', '.join(wrong)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with MATH/, MMLU-Pro/ and HumanEval/")
    parser.add_argument("--only", choices=("math", "letters", "code"))
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    print("| what | right |\n|---|---|")
    for name, measure in {"math": math, "letters": letters, "code": code}.items():
        if arguments.only in (None, name):
            started = time.perf_counter()
            measure(arguments.data, arguments.limit)
            print(f"    {name}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
