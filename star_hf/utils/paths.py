"""Where the project's data folders are, in a clone and in an installed package."""

from pathlib import Path

from ..errors import ConfigError


__all__ = ["project_folder", "recipe_file"]

PACKAGE = Path(__file__).resolve().parents[1]


def project_folder(name: str) -> Path:
    """Find a data folder of the project, such as `datasets_scripts` or `recipes`.

    It is inside the package in a wheel, and beside the package in a clone.

    Raises:
        [`ConfigError`]: If the folder is in neither place.
    """
    places = (PACKAGE / name, PACKAGE.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise ConfigError(
        f"There is no folder `{name}` in {places[0].parent} or {places[1].parent}.",
        "Reinstall star_hf from a wheel or a clone that has it.",
    )


def recipe_file(path: str | Path) -> Path:
    """The recipe at a path, or else the project's own recipe of that name.

    So `recipes/data/star_1.yaml` is found from any folder, and by a job that has only the installed package.

    Args:
        path (`str` or `Path`): A file, or the name of a packaged recipe, with or without `recipes/` before it.

    Returns:
        `Path`: The file, or `path` itself if there is neither.
    """
    path = Path(path)
    if path.exists():
        return path
    ours = project_folder("recipes") / (path.relative_to("recipes") if path.parts[:1] == ("recipes",) else path)
    return ours if ours.is_file() else path
