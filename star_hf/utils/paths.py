"""Where the project's data folders are, in a clone and in an installed package."""

import os
from pathlib import Path

from ..errors import ConfigError


__all__ = ["project_folder", "recipe_file"]

PACKAGE = Path(__file__).resolve().parents[1]


def project_folder(name: str) -> Path:
    """A data folder of the project, such as `recipes`: inside the package in a wheel, beside it in a clone."""
    places = (PACKAGE / name, PACKAGE.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise ConfigError(
        f"There is no folder `{name}` in {places[0].parent} or {places[1].parent}.",
        "Reinstall star_hf from a wheel or a clone that has it.",
    )


def recipe_file(path: str | Path) -> Path:
    """The recipe at a path, or else the project's own of that name, with or without `recipes/` before it.

    So `recipes/data/star_1.yaml` is found from any folder, and by a job that has only the installed package. It is
    `path` itself if there is neither.
    """
    path = Path(path)
    if os.path.exists(path):  # unlike `Path.exists`, no error for a name that no file can have
        return path
    ours = project_folder("recipes") / (path.relative_to("recipes") if path.parts[:1] == ("recipes",) else path)
    return ours if os.path.isfile(ours) else path
