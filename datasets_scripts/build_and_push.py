# /// script
# requires-python = ">=3.11"
# dependencies = ["star_hf[report]", "transformers>=5,<6"]
# ///
"""Build one of STAR-1's products and publish it, from a clone or as a job on the Hub:

    hf jobs uv run --secrets OPENAI_API_KEY --secrets HF_TOKEN datasets_scripts/build_and_push.py --repo_id me/star-1

`star_1` has the selected rows, with their benign twins as the configuration `benign`; `star_41k` has every scored row.
An interrupted build continues from `--run_dir`.
"""

from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from star_hf.hub.dataset_release import dataset_release
from star_hf.hub.release import Published, publish
from star_hf.pipeline.build import build
from star_hf.pipeline.config import load_config
from star_hf.utils.paths import project_folder


PRODUCTS = {
    "star_1": {},
    "star_41k": {"select__size": 10**9, "select__strategy": "random", "benign__enabled": False},
}
"""Changes of each product to the recipe."""


@dataclass
class Arguments:
    """What to build, from which sources, and where to publish it."""

    repo_id: str = field(metadata={"help": "The Hub repository, as owner/name."})
    recipe: str = field(default="star_1", metadata={"help": "A recipe, or the name of one in recipes/data."})
    product: str = field(default="star_1", metadata={"help": "The product.", "choices": list(PRODUCTS)})
    run_dir: str | None = field(default=None, metadata={"help": "The run's directory; runs/<product> by default."})
    sources_dir: str | None = field(default=None, metadata={"help": "Local copies of sources and benchmarks."})
    private: bool = field(default=True, metadata={"help": "Whether only the owner can see it."})
    gated: bool = field(default=False, metadata={"help": "Whether users must accept conditions first."})


def main(arguments: Arguments) -> Published:
    """Build, audit, publish; returns what was published."""
    overrides = {**PRODUCTS[arguments.product], "collect__sources_dir": arguments.sources_dir}
    packaged = project_folder("recipes") / "data" / f"{arguments.recipe}.yaml"
    config = load_config(packaged if packaged.is_file() else arguments.recipe, **overrides)
    run = build(config, Path(arguments.run_dir or f"runs/{arguments.product}"))
    release = dataset_release(run.folder, arguments.repo_id, sources_dir=arguments.sources_dir, progress=True)
    return publish(release, arguments.repo_id, private=arguments.private, gated="auto" if arguments.gated else None)


if __name__ == "__main__":
    (options,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    main(options)
