"""Which of datatrove's executors runs the shards, and how many at a time: configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import ConfigError


__all__ = ["Scale", "run_tasks"]

Task = Callable[[Any, int, int], Any]


class Scale(BaseModel):
    """How work is spread beyond one process.

    Args:
        executor (`str`, defaults to `"local"`): `"local"` (processes of this machine), `"ray"` or `"slurm"`. The last
            two need a file system that all hosts see.
        shards (`int`, defaults to 8): Parts that the rows are cut into; what is lost with a host is asked again.
        workers (`int`, defaults to 2): Shards at work at a time. Each has `concurrency` requests in flight; requests
            and tokens per minute are divided among them.
        options (`dict`, *optional*): Further arguments of the executor, such as Slurm's `partition`, `time` and
            `env_command`; see https://github.com/huggingface/datatrove#executors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    executor: Literal["local", "slurm", "ray"] = "local"
    shards: int = Field(default=8, ge=1)
    workers: int = Field(default=2, ge=1)
    options: dict[str, Any] = Field(default_factory=dict)


def run_tasks(task: Task, count: int, scale: Scale, log_dir: Path) -> None:
    """Call `task(None, rank, count)` for each rank under an executor. Slurm only submits; the others wait.

    Args:
        task (`Callable`): Must be picklable, and deal with its own failures: one that raises ends its siblings.
        count (`int`): How many tasks there are.
        scale (`Scale`): Where they run.
        log_dir (`Path`): Where datatrove writes its logs and what it has completed; a new one for each call.

    Raises:
        ConfigError: If a package is missing or the executor does not take the options.
    """
    try:
        executor = _executor(task, count, scale, log_dir)
    except ImportError as error:
        raise ConfigError(
            f"Work in shards by {scale.executor!r} needs the package {error.name!r}.",
            'Install it with `pip install "star_hf[scale]"`.',
        ) from None
    except TypeError as error:
        raise ConfigError(
            f"`scale.options` does not fit the {scale.executor} executor of datatrove: {error}",
            "See https://github.com/huggingface/datatrove#executors for its arguments.",
        ) from None
    executor.run()


def _executor(task: Task, count: int, scale: Scale, log_dir: Path) -> Any:
    common = {"pipeline": [task], "tasks": count, "workers": min(scale.workers, count), "logging_dir": str(log_dir)}
    match scale.executor:
        case "local":
            from datatrove.executor.local import LocalPipelineExecutor

            return LocalPipelineExecutor(**common, **scale.options)
        case "ray":
            import ray  # noqa: F401  # datatrove imports it only when it runs
            from datatrove.executor.ray import RayPipelineExecutor

            return RayPipelineExecutor(**common, **scale.options)
        case "slurm":
            from datatrove.executor.slurm import SlurmPipelineExecutor

            return SlurmPipelineExecutor(**{"job_name": "star_hf", **common, **scale.options})
