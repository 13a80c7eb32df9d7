import pytest
from datasets import Dataset

from star_hf.errors import StarError
from star_hf.utils.files import locked, replacing, write_table, write_text


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


def test_tables_are_read_back(tmp_path):
    write_table(Dataset.from_dict({"a": [1, 2]}), tmp_path / "t.parquet")
    assert Dataset.from_parquet(str(tmp_path / "t.parquet"), cache_dir=str(tmp_path / "c"))["a"][:] == [1, 2]


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
