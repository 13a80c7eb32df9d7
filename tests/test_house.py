"""The house itself: a light import, honest requirements, and a wheel that carries everything and leaks nothing."""

import ast
import configparser
import json
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from email.parser import HeaderParser
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import star_hf


ROOT = Path(__file__).resolve().parents[1]
DATA_ROOMS = ("datasets_scripts", "recipes", "lighteval_tasks")
MOST_LINES, MOST_FILES = 320, 13


def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def lines(block: str) -> list[str]:
    return [line for line in block.strip().splitlines() if line and not line.startswith("#")]


def requirements() -> dict[str, list[Requirement]]:
    """Requirements of the core (`""`) and of each extra."""
    config = setup_cfg()
    blocks = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    return {extra: [Requirement(line) for line in lines(block)] for extra, block in blocks.items()}


def pins() -> dict[str, str]:
    """Version of each pinned distribution, by normalised name."""
    pinned = (line.split("==") for line in lines((ROOT / "constraints.txt").read_text(encoding="utf-8")))
    return {canonicalize_name(name): version for name, version in pinned}


def files_below(folder: Path) -> set[Path]:
    """Files that a package holds: Python's byte code is none of them."""
    return {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after `statement`."""
    code = f"import json, sys; {statement}; json.dump(list(sys.modules), sys.stdout)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_is_light():
    heavy = {"datasets", "numpy", "openai", "openvino_genai", "pandas", "pyarrow", "sklearn", "torch", "transformers"}
    assert modules_after("import star_hf").isdisjoint(heavy)


@pytest.mark.parametrize("statement", ["import star_hf.cli", "from star_hf import Taxonomy, collect"])
def test_torch_is_loaded_only_by_what_computes_with_it(statement):
    assert modules_after(statement).isdisjoint({"openvino_genai", "sentence_transformers", "torch", "transformers"})


def test_lightevals_start_does_not_wait_for_clients():
    """`lighteval_tasks/star1.py` imports this; the clients alone took longer than all the rest."""
    assert "openai" not in modules_after("import star_hf.evaluation.integrations.harness")


def test_every_export_exists_and_is_imported_on_first_use():
    for name in star_hf.__all__:
        assert getattr(star_hf, name) is not None
    assert set(star_hf.__all__) <= set(dir(star_hf))
    assert set(star_hf.__all__).isdisjoint(path.stem for path in (ROOT / "star_hf").iterdir())
    with pytest.raises(AttributeError, match="no_such_name"):
        star_hf.no_such_name  # noqa: B018


def test_every_requirement_has_a_pin_within_its_bounds():
    pinned = pins()
    wrong = [
        str(requirement)
        for listed in requirements().values()
        for requirement in listed
        if not requirement.specifier.contains(pinned.get(canonicalize_name(requirement.name), "0"))
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("name", "version"),
    [("litellm", "1.82.7"), ("litellm", "1.82.8"), ("huggingface_hub", "2.0.0"), ("xxhash", "4.0.0")],
)
def test_eval_keeps_out_what_breaks_or_harms(name, version):
    (bound,) = [requirement.specifier for requirement in requirements()["eval"] if requirement.name == name]
    assert not bound.contains(version)


def test_every_folder_of_code_or_data_is_a_listed_package():
    folders = {path.parent for path in (ROOT / "star_hf").rglob("*.py") if "__pycache__" not in path.parts}
    found = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    found |= {f"star_hf.{room}" for room in DATA_ROOMS if files_below(ROOT / room)}
    assert found == set(lines(setup_cfg()["options"]["packages"]))


LAYERS = (
    {"cli"},
    {"improve"},
    {"report", "hub", "demo", "suites"},
    {"training"},
    {"evaluation"},
    {"pipeline"},
    {"cards"},
    {"scale"},
    {"audit"},
    {"transforms"},
    {"deduplication"},
    {"policies"},
    {"sources"},
    {"similarity"},
    {"llm"},
    {"utils"},
    {"schema", "errors"},
)
"""The rooms of `star_hf/`, from the top to the bottom: each imports from rooms below it only."""

NO_TRANSFORMS = {"training", "evaluation", "hub"}
"""Rooms above `transforms` that have no use for it: they work on finished rows."""


def imports_of(file: Path) -> set[str]:
    """What a module of the library imports from the library, as paths: `{"llm.types", "schema"}`."""
    package = file.relative_to(ROOT).parts[:-1]
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("star_hf.") for name in names if name.startswith("star_hf.")}


def layer_of(path: str) -> int | None:
    """Number of the layer that a path such as `llm.types` is in; `None` for the names of `star_hf` itself."""
    return next((number for number, rooms in enumerate(LAYERS) if path.split(".")[0] in rooms), None)


CODE = sorted(path for path in files_below(ROOT / "star_hf") if path.suffix == ".py")


def test_imports_point_downwards():
    upwards = set()
    for file in CODE:
        own = ".".join(file.relative_to(ROOT / "star_hf").with_suffix("").parts)
        if (layer := layer_of(own)) is None:
            continue
        for target in imports_of(file):
            below = layer_of(target)
            if own.split(".")[0] != target.split(".")[0] and below is not None and below <= layer:
                upwards.add((own, target))
    assert not upwards


def test_every_room_has_a_place_among_the_layers():
    rooms = {path.relative_to(ROOT / "star_hf").parts[0].removesuffix(".py") for path in CODE}
    assert rooms - {"__init__"} == set().union(*LAYERS)


def test_rooms_that_work_on_finished_rows_import_no_transform():
    files = [path for path in CODE if path.relative_to(ROOT / "star_hf").parts[0] in NO_TRANSFORMS]
    assert files
    assert not {path.name for path in files if any(name.startswith("transforms") for name in imports_of(path))}


def test_no_two_files_import_each_other():
    modules = {".".join(path.relative_to(ROOT / "star_hf").with_suffix("").parts): path for path in CODE}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    graph = {}
    for name, path in modules.items():
        targets = imports_of(path)
        graph[name] = {t if t in modules else t.rpartition(".")[0] for t in targets} & set(modules) - {name}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_files_and_folders_stay_small():
    long = {path.name: count for path in CODE if (count := len(path.read_text("utf-8").splitlines())) > MOST_LINES}
    folders = Counter(path.parent.relative_to(ROOT).as_posix() for path in CODE)
    assert not long
    assert not {name: count for name, count in folders.items() if count > MOST_FILES}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel of a copy of the working tree, so that the tree itself stays as it is."""
    tree, built = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("star_hf", "datasets_scripts", "recipes", "lighteval_tasks", "tests", "benchmarks", "docs"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", built, tree], capture_output=True, text=True, check=True)
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_library_and_of_the_data_rooms(wheel):
    expected = {path.relative_to(ROOT).as_posix() for path in files_below(ROOT / "star_hf")}
    for room in DATA_ROOMS:
        expected |= {f"star_hf/{path.relative_to(ROOT).as_posix()}" for path in files_below(ROOT / room)}
    assert expected == {name for name in wheel.namelist() if name.startswith("star_hf/")}


@pytest.mark.slow
def test_wheel_installs_one_top_level_package_and_states_its_version(wheel):
    folders = {name.split("/")[0] for name in wheel.namelist()}
    info = f"star_hf-{star_hf.__version__}.dist-info"
    assert folders == {"star_hf", info}
    metadata = HeaderParser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert metadata["Version"] == star_hf.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
