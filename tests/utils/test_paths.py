import pytest

from star_hf.errors import ConfigError
from star_hf.utils import paths
from star_hf.utils.paths import project_folder, recipe_file


def test_project_folder_prefers_the_one_inside_the_package(tmp_path, monkeypatch):
    package = tmp_path / "star_hf"
    (tmp_path / "recipes").mkdir()
    package.mkdir()
    monkeypatch.setattr(paths, "PACKAGE", package)
    assert project_folder("recipes") == tmp_path / "recipes"
    (package / "recipes").mkdir()
    assert project_folder("recipes") == package / "recipes"
    with pytest.raises(ConfigError, match="nothing_here"):
        project_folder("nothing_here")


@pytest.mark.parametrize("name", ["recipes/data/demo.yaml", "data/demo.yaml"])
def test_our_recipes_are_found_from_any_folder_unless_there_is_another_of_that_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert recipe_file(name) == project_folder("recipes") / "data" / "demo.yaml"
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).touch()
    assert recipe_file(name).resolve() == tmp_path / name
    assert str(recipe_file("recipes/nowhere.yaml")) == "recipes/nowhere.yaml"
    assert recipe_file(tmp_path / "nowhere.yaml") == tmp_path / "nowhere.yaml"


def test_a_build_and_a_training_take_our_recipes_by_name(tmp_path, monkeypatch):
    from star_hf.pipeline.config import load_config
    from star_hf.training.recipe import read_options

    monkeypatch.chdir(tmp_path)
    assert load_config("recipes/data/demo.yaml").collect.questions.is_file()
    options = read_options("recipes/ablations/size_500.yaml")
    assert options["max_rows"] == 500 and options["global_batch"] == 128
