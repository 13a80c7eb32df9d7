"""Where the project's data folders are, in a clone and in an installed package."""

from pathlib import Path

from star_hf.errors import ConfigError


__all__ = ["project_folder", "recipe_file"]

PACKAGE = Path(__file__).resolve().parents[1]


def project_folder(name: str) -> Path:
    """Find a data folder of the project, such as `datasets_scripts` or `recipes`.

    A wheel carries the folder inside the package; a clone has it beside the package.

    Args:
        name (`str`): Name of the folder.

    Returns:
        `Path`: The folder.

    Raises:
        [`ConfigError`]: If the folder is in neither place.
    """
    places = (PACKAGE / name, PACKAGE.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise ConfigError(
        f"The folder `{name}` is in neither {places[0].parent} nor {places[1].parent}.",
        "Install star_hf again from a wheel or a clone that has it.",
    )


def recipe_file(path: str | Path) -> Path:
    """The recipe at a path, or where nothing is, the project's own of that name.

    So `recipes/data/star_1.yaml` is found from any folder, and by a job that has only the installed package.

    Args:
        path (`str` or `Path`): A file, or the name of one of ours, with or without `recipes/` before it.

    Returns:
        `Path`: The file, or `path` itself where there is neither.
    """
    path = Path(path)
    if path.exists():
        return path
    ours = project_folder("recipes") / (path.relative_to("recipes") if path.parts[:1] == ("recipes",) else path)
    return ours if ours.is_file() else path
