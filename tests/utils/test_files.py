import pytest
from datasets import Dataset

from star_hf.errors import ConfigError, SourceError, StarError
from star_hf.utils.files import (
    digest,
    locked,
    read_json,
    read_table,
    replacing,
    sha256_of,
    write_json,
    write_table,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "old ü")
    with pytest.raises(ZeroDivisionError), replacing(path) as fresh:
        fresh.write_text("half")
        1 / 0  # noqa: B018
    assert path.read_text(encoding="utf-8") == "old ü"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_nothing_is_seen_before_the_block_ends(tmp_path):
    with replacing(tmp_path / "a") as fresh:
        fresh.write_text("x")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_text() == "x"


def test_tables_are_read_back_with_the_columns_asked_for(tmp_path):
    write_table(Dataset.from_dict({"a": [1, 2], "b": ["x", "y"]}), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").to_dict() == {"a": [1, 2], "b": ["x", "y"]}
    assert read_table(tmp_path / "t.parquet", columns=["b"]).to_dict() == {"b": ["x", "y"]}


def test_a_missing_and_a_truncated_table_are_named_with_the_remedy(tmp_path):
    path = tmp_path / "t.parquet"
    with pytest.raises(StarError, match=r"There is no file .*t\.parquet"):
        read_table(path)
    write_table(Dataset.from_dict({"a": [1]}), path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StarError, match=r"t\.parquet cannot be read as Parquet") as caught:
        read_table(path, "Run it again.")
    assert caught.value.remedy == "Run it again."


def test_json_is_read_back(tmp_path):
    write_json(tmp_path / "a.json", {"ü": [1, None], "path": tmp_path})
    assert read_json(tmp_path / "a.json") == {"ü": [1, None], "path": str(tmp_path)}


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "No such file"), (b'{"a": 1', "damaged"), (b"\xff\xfe", "damaged"), (b"[1]", "holds a list, expected an")],
)
def test_a_damaged_json_file_is_one_message_with_the_remedy(content, problem, tmp_path):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(SourceError, match=problem) as caught:
        read_json(tmp_path / "a.json", "Run it again.", SourceError)
    assert "a.json" in caught.value.message and caught.value.remedy == "Run it again."


def test_bytes_and_files_have_one_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == sha256_of(b"abc")
    assert sha256_of(b"abc").startswith("ba7816bf")


def test_a_digest_does_not_depend_on_the_order_of_keys(tmp_path):
    assert digest({"a": 1, "b": tmp_path}) == digest({"b": str(tmp_path), "a": 1}) != digest({"a": 2})


def test_a_second_process_is_told_who_is_there_and_an_error_frees_the_folder(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(KeyError), locked(folder):
        with pytest.raises(StarError, match=f"Another process works in {folder}"), locked(folder):
            raise AssertionError("entered")
        with locked(folder, ".other"):
            pass
        raise KeyError
    with locked(folder):
        pass


@pytest.mark.parametrize("inside", ["", "inside"])
def test_a_file_in_place_of_the_folder_is_told_in_one_line(tmp_path, inside):
    (tmp_path / "bak.yaml").write_text("name: x")
    with pytest.raises(ConfigError, match="bak.yaml.* cannot be used as a folder: .*\nName a folder"):
        with locked(tmp_path / "bak.yaml" / inside):
            raise AssertionError("entered")
