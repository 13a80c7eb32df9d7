import sys
from dataclasses import dataclass, field

import pytest
from pydantic import ConfigDict

from star_hf.errors import ConfigError, SourceError
from star_hf.utils import extras
from star_hf.utils.extras import require
from star_hf.utils.options import Strict, read_yaml, validated


class Part(Strict):
    size: int = 1


class Whole(Strict):
    part: Part = Part()
    parts: dict[str, Part] = {}
    name: str = ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a", "holds a list, expected `key: value` lines"),
        ("a: [", "is not valid YAML"),
        ("just words", "holds a str"),
        ("a: 1\nb: 2\na: 3", "duplicate key 'a'"),
        ("part:\n  size: 1\n  size: 2", "duplicate key 'size'"),
        ("a: &a [" + "x, " * 150 + "]\nb: &b [" + "*a, " * 150 + "]", "more than 20,000 values"),
        ("a: &a {b: *a}", "contains itself"),
        ("a: " + "[" * 41 + "]" * 41, "more than 40 levels"),
        (
            "a: "
            + "[" * 30
            + "b"
            + "]" * 30
            + "\nc: &c "
            + "[" * 30
            + "]" * 30
            + "\nd: "
            + "[" * 20
            + "*c"
            + "]" * 20,
            "more than 40 levels",
        ),
        ("a: " + "[" * 2000, "nested too deeply"),
        ("a: " + "9" * 5000, "not valid YAML: Exceeds the limit"),
        ("a: 2024-99-99", "month must be in"),
        ("a: !!int ''", "not valid YAML"),
        ('a: "b\\0"', "line 1: a zero byte"),
        ('a:\n  - "\\ud83d"', "line 2: .* half a character"),
        ("a: '" + "x" * 1_000_000 + "'", "larger than 1,000,000 bytes"),
    ],
)
def test_a_file_that_is_no_options_is_named(text, problem, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=problem) as caught:
        read_yaml(tmp_path / "a.yaml", "Write it anew.")
    assert "a.yaml" in caught.value.message and caught.value.remedy == "Write it anew."


def test_a_missing_file_is_named_and_an_empty_one_has_no_options(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "a.yaml") == {}


def test_anchors_and_merged_keys_are_no_duplicates(tmp_path):
    (tmp_path / "a.yaml").write_text("base: &base {size: 1}\nother: {<<: *base, size: 2}\n")
    assert read_yaml(tmp_path / "a.yaml")["other"] == {"size": 2}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"part": {"sise": 2}}, "here: `part.sise` is not an option. Did you mean `size`?"),
        ({"parts": {"x": {"sise": 2}}}, "here: `parts.x.sise` is not an option. Did you mean `size`?"),
        ({"zzz": 1}, "here: `zzz` is not an option. Options: part, parts, name."),
        ({"part": {"size": "big"}}, "(got 'big')"),
    ],
)
def test_wrong_options_are_explained(data, problem):
    with pytest.raises(ConfigError) as caught:
        validated(Whole, data, "here")
    assert problem in caught.value.message


def test_the_number_of_lines_is_limited():
    with pytest.raises(ConfigError) as caught:
        validated(Whole, {f"{'z' * 1000}{n}": n for n in range(1000)}, "here")
    lines = caught.value.message.splitlines()
    assert len(lines) == 21 and lines[-1] == "here: 980 more." and max(map(len, lines)) < 300


def test_every_wrong_option_has_a_line():
    with pytest.raises(ConfigError) as caught:
        validated(Whole, {"zzz": 1, "part": {"size": "big"}}, "here")
    assert len(caught.value.message.splitlines()) == 2


@dataclass(frozen=True)
class Record:
    __pydantic_config__ = ConfigDict(extra="forbid")

    rows: int
    part: Part | None = None
    notes: dict[str, int] = field(default_factory=dict)


def test_a_dataclass_is_checked_like_a_model():
    assert validated(Record, {"rows": 2, "part": {"size": 3}}, "here") == Record(2, Part(size=3))
    with pytest.raises(SourceError) as caught:
        validated(Record, {"rosw": 1, "notes": {"a": "b"}, "part": {"sise": 1}}, "here", error=SourceError)
    lines = caught.value.message.splitlines()
    assert "here: `rows` is missing." in lines
    assert "here: `rosw` is not an option. Did you mean `rows`?" in lines
    assert "here: `part.sise` is not an option. Did you mean `size`?" in lines
    assert any(line.startswith("here: `notes.a`: ") and "(got 'b')" in line for line in lines)


def test_a_missing_extra_is_named_with_its_command():
    require("report", "json", what="The report")
    with pytest.raises(
        ConfigError, match="The report needs packages that are not installed: no_such_package"
    ) as caught:
        require("report", "json", "no_such_package", what="The report")
    assert f"{sys.executable} -m pip install" in caught.value.remedy
    assert "matplotlib>=" in caught.value.remedy and "plotly>=" in caught.value.remedy
    assert "torch" not in caught.value.remedy and "star_hf" not in caught.value.remedy.split("install", 2)[-1]


def test_without_metadata_the_command_is_that_of_a_clone(monkeypatch):
    monkeypatch.setattr(extras, "requires", lambda name: None)
    assert extras.install("report") == 'pip install -c constraints.txt -e ".[report]"'


def test_every_extra_has_a_command_and_each_package_its_bounds():
    lines = ["a>=1; extra == 'one'", 'b<2,>=1; (python_version > "3.10") and extra == "two"', "c"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extras, "requires", lambda name: lines)
        assert extras.install("one").endswith("install 'a>=1'")
        assert extras.install("two").endswith("install 'b<2,>=1'")
