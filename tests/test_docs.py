"""What the documents say can be done: every command parses, every path and name exists, and marked blocks are run.

A fenced block below a line `<!-- test: run -->` is run, in the order of its document and in one directory per document
that has the project's data folders; `<!-- test: run, slow -->` where it takes more than a few seconds. Everything that
is not run is still read: command lines with the real parser, Python for its imports, YAML and JSON for their form.
"""

import ast
import importlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import typer
import yaml

import star_hf
from star_hf import cli


ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("benchmarks", "datasets_scripts", "docs", "lighteval_tasks", "recipes", "star_hf", "tests")
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "recipes/README.md", "datasets_scripts/README.md")),
    *sorted((ROOT / "docs").glob("**/*.md")),
]
SHELL = ("bash", "sh", "shell")
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>```+|~~~+)(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^ *(?P=fence) *$", re.M | re.S
)
INLINE = re.compile(r"(?<!`)`((?:star-hf|hf star|hf-star) [^`\n]+)`(?!`)")
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\n]+)\]\((?!https?:|mailto:)(?P<target>[^)\s]+)\)")
DOTTED = re.compile(r"(?<![\w/.-])star_hf(?:\.\w+)+")
FILE_NAMES = ("star_hf.json", "star_hf.yaml")
"""Files on the Hub, which look like modules."""
MODULES = tuple(path.name for path in (ROOT / "star_hf").iterdir() if (path / "__init__.py").exists())
MARK = re.compile(r"<!-- test: ([\w, ]+) -->\s*\Z")
PATH = re.compile(rf"^(?:\./)?(?:{'|'.join(ROOMS)})/[\w./-]+$")
ENDS = ("&&", "||", "|", ";", "&", ">", ">>", "<")


@dataclass(frozen=True)
class Block:
    """A fenced block of a document: its language, text, first line, and the marks above it."""

    document: Path
    line: int
    language: str
    text: str
    marks: frozenset[str]

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> Iterator[Block]:
    text = document.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        mark = MARK.search(text[: found.start()])
        marks = frozenset(re.split(r",\s*", mark.group(1))) if mark else frozenset()
        line = text.count("\n", 0, found.start()) + 2
        yield Block(document, line, found["language"], found["text"], marks)


BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]


def command_lines(text: str) -> list[list[str]]:
    """The simple commands of a shell text, as words, without variables set before them and without here-documents."""
    text = re.sub(r"<<-?\s*['\"]?(\w+)['\"]?([^\n]*)\n.*?^\1$", r"\2", text.replace("\\\n", " "), flags=re.S | re.M)
    found = []
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.commenters, lexer.whitespace_split = "", True
        words: list[str] = []
        for token in [*lexer, ";"]:
            if token.startswith("#") and not token.startswith("#!"):
                found.append(words)
                break
            if token in ENDS:
                found.append(words)
                words = []
            elif words or not re.fullmatch(r"[A-Za-z_]\w*=.*", token):
                words.append(token)
    return [words for words in found if words]


def of_star_hf(words: list[str]) -> list[str] | None:
    """The arguments where the command is ours, by any of its names."""
    for name in (["star-hf"], ["hf-star"], ["hf", "star"]):
        if words[: len(name)] == name:
            return words[len(name) :]
    return None


def find_command(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the first words name, and what is left for it."""
    command: click.Command = typer.main.get_command(cli.app)
    while hasattr(command, "commands") and arguments:
        if arguments[0].startswith("-"):
            break
        known = command.commands
        assert arguments[0] in known, f"there is no command {arguments[0]!r}; there are {', '.join(known)}"
        command, arguments = known[arguments[0]], arguments[1:]
    return command, arguments


def check_words(words: list[str]) -> None:
    """A command line: the parser takes it, and what it names of the project is there."""
    program = Path(words[0]).name
    if (arguments := of_star_hf(words)) is not None:
        command, rest = find_command(arguments)
        if not hasattr(command, "commands"):
            try:
                command.make_context(command.name, list(rest), help_option_names=["--help"])
            except Exception as error:
                pytest.fail(f"`{shlex.join(words)}`: {getattr(error, 'message', error)}")
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        unknown = [word for word in words[1:] if "=" not in word and not word.startswith("-") and word not in targets]
        assert not unknown, f"the Makefile has no target {unknown}; it has {targets}"
    elif "install" in words and re.match(r"pip|python|uv", program):
        extras = {
            name
            for word in words
            for part in re.findall(r"(?:star_hf|\.)\[([\w,-]+)\]", word)
            for name in part.split(",")
        }
        assert extras <= known_extras(), f"setup.cfg has no extra {sorted(extras - known_extras())}"
    lost = [word for word in words for part in re.split("[=:]", word) if PATH.match(part) and not exists(part)]
    assert not lost, f"`{shlex.join(words)}` names what is not there: {lost}"


def known_extras() -> set[str]:
    import configparser

    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return set(config["options.extras_require"])


def exists(path: str) -> bool:
    return any(ROOT.glob(path.removeprefix("./"))) if "*" in path else (ROOT / path).exists()


def identify(block: Block) -> str:
    return str(block)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in SHELL], ids=identify)
def test_command_lines_parse_and_name_what_is_there(block):
    for words in command_lines(block.text):
        check_words(words)


@pytest.mark.parametrize("block", [block for block in BLOCKS if "hf jobs uv run" in block.text], ids=identify)
def test_jobs_are_taken_by_the_hub_client(block):
    for words in command_lines(block.text):
        command = [str(Path(sys.executable).parent / "hf"), *words[1:4], "--dry-run", *words[4:]]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "Job not submitted" in done.stdout, done.stderr


@pytest.mark.parametrize("block", [block for block in BLOCKS if "star-hf evaluate" in block.text], ids=identify)
def test_evaluations_have_a_judge_for_each_benchmark(block):
    from star_hf.evaluation.grading.grade import check_graders
    from star_hf.evaluation.grading.judges import load_judge
    from star_hf.evaluation.tasks.benchmarks import select_benchmarks

    for words in command_lines(block.text):
        if words[:2] == ["star-hf", "evaluate"]:
            options = find_command(words[1:])[0].make_context("evaluate", words[2:]).params
            judges = [load_judge(spec) for spec in options["judge"] or ()]
            check_graders(select_benchmarks(options["tasks"].split(",")), judges, options["allow_code_execution"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_within_sentences_have_their_options(document):
    for text in INLINE.findall(FENCE.sub("", document.read_text(encoding="utf-8"))):
        words = re.sub(r"…|\.\.\.", "", text).split()
        command, rest = find_command(of_star_hf(words))
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        unknown = [word for word in rest if word.startswith("-") and word.split("=")[0] not in known | {"--help"}]
        assert not unknown, f"`{text}`: no such option {unknown}; there are {sorted(known)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for text, link in LINK.findall(FENCE.sub("", document.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{document.relative_to(ROOT)} links to {link}, which is not there"
        named = re.fullmatch(r"(?:[\w.-]+/)*([\w-]+\.\w+)", text)
        assert not named or named[1] == target.name, f"{document.relative_to(ROOT)} calls {link} by the name {text}"
        if anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ +(.*)$", target.read_text(encoding="utf-8"), re.M)
            slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in slugs, f"{document.relative_to(ROOT)} links to {link}; the headings are {slugs}"


def is_defined(dotted: str) -> bool:
    """Whether a module has this name at its top level, without an import of what is slow to import."""
    parts = dotted.split(".")
    if len(parts) == 2 and hasattr(star_hf, parts[1]):
        return True
    path, rest = ROOT / parts[0], parts[1:]
    while rest and ((path / rest[0]).is_dir() or (path / rest[0]).with_suffix(".py").exists()):
        path, rest = path / rest[0], rest[1:]
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not rest:
        return file.exists()
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names.update(each.id for each in ast.walk(node) if isinstance(each, ast.Name))
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
    return rest[0] in names


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "Makefile"], ids=lambda path: str(path.relative_to(ROOT)))
def test_dotted_names_exist(document):
    names = set(DOTTED.findall(document.read_text(encoding="utf-8"))) - set(FILE_NAMES)
    assert not (lost := sorted(name for name in names if not is_defined(name))), f"these do not exist: {lost}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_within_sentences_exist(document):
    """Of the project, such as `recipes/eval/`, and of the package without its name, such as `sources/readers.py`."""
    from star_hf.evaluation.tasks.benchmarks import BENCHMARKS

    tasks = {f"star_hf/{name}" for name in BENCHMARKS}
    for text in re.findall(r"(?<!`)`([\w.*/-]+/[\w.*/-]*)`(?!`)", FENCE.sub("", document.read_text(encoding="utf-8"))):
        room = text.split("/")[0]
        if room in (*ROOMS, *MODULES) and text not in tasks:
            assert exists(text) or exists(f"star_hf/{text}"), f"{document.relative_to(ROOT)}: there is no {text}"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=identify)
def test_python_compiles_and_imports_what_exists(block):
    text = re.sub(r"^(>>>|\.\.\.) ?", "", block.text, flags=re.M)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert importlib.util.find_spec(node.module.split(".")[0]), f"{block}: {node.module} is not installed"
            if node.module.split(".")[0] in ("star_hf", "datasets"):
                module = importlib.import_module(node.module)
                lost = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not lost, f"{block}: {node.module} has no {lost}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                assert importlib.util.find_spec(alias.name.split(".")[0]), f"{block}: {alias.name} is not installed"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and PATH.match(node.value):
            assert exists(node.value), f"{block} names {node.value}, which is not there"


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language in ("yaml", "json", "jsonl")], ids=identify
)
def test_data_can_be_read(block):
    if block.language == "jsonl":
        assert all(isinstance(json.loads(line), dict) for line in block.text.splitlines())
    else:
        (yaml.safe_load if block.language == "yaml" else json.loads)(block.text)


@pytest.mark.parametrize("block", BLOCKS, ids=identify)
def test_blocks_say_what_they_are(block):
    assert block.language, f"{block}: name the language of the block, `text` if there is none"
    assert block.marks <= {"run", "slow"}, f"{block}: the marks are `run` and `slow`"
    assert not block.marks or block.language in (*SHELL, "python"), f"{block}: only shell and Python can be run"
    assert not re.search(r"^\$ ", block.text, re.M), f"{block}: no prompt, so that the block can be copied"


def to_run() -> list:
    """One parameter per document with marked blocks; slow if one of them is."""
    found = []
    for document in DOCUMENTS:
        marked = [block for block in blocks(document) if "run" in block.marks]
        if marked:
            marks = [pytest.mark.slow] if any("slow" in block.marks for block in marked) else []
            found.append(pytest.param(marked, id=str(document.relative_to(ROOT)), marks=marks))
    return found


@pytest.mark.parametrize("marked", to_run())
def test_marked_blocks_run_as_written(marked, tmp_path):
    """In the order of the document, from a directory that looks like a clone, without a Hub and without a key."""
    for room in (*ROOMS, "README.md"):
        if (ROOT / room).exists():
            (tmp_path / room).symlink_to(ROOT / room)
    keyless = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_TOKEN"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**keyless, "PATH": path, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}
    for block in marked:
        program = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
        done = subprocess.run(
            [*program, block.text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, (
            f"{block} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("star-hf build --budget 50  # stops", [["star-hf", "build", "--budget", "50"]]),
        ("A=1 make demo ARGS=\"--x 'y z'\" && ls", [["make", "demo", "ARGS=--x 'y z'"], ["ls"]]),
        ("cat > a.jsonl <<'E'\n{\"x\": 1}\nE\nls a.jsonl", [["cat"], ["a.jsonl"], ["ls", "a.jsonl"]]),
        ("star-hf \\\n  report runs/x | head", [["star-hf", "report", "runs/x"], ["head"]]),
    ],
)
def test_shell_text_is_taken_apart(text, expected):
    assert command_lines(text) == expected


@pytest.mark.parametrize(
    "line",
    ["star-hf bild", "star-hf build --dry", "star-hf explain --run-dir x", "make demoo", "pip install -e '.[trian]'"],
)
def test_commands_that_do_not_exist_are_found(line):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_words(shlex.split(line))
    with pytest.raises(AssertionError, match="not there"):
        check_words(["python", "recipes/no_such_file.py"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("star_hf.load", True),
        ("star_hf.pipeline.config.BuildConfig", True),
        ("star_hf.transforms.deduplicate.deduplicate", True),
        ("star_hf.transforms.select", True),
        ("star_hf.pipeline.config.NoSuchClass", False),
        ("star_hf.evaluation.lighteval_compat", False),
    ],
)
def test_names_that_do_not_exist_are_found(name, expected):
    assert is_defined(name) == expected
