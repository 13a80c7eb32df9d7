"""Which of datatrove's executors runs the shards, and how many at a time: configuration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import ConfigError, IncompleteRunError, StarError
from ..progress import track


__all__ = ["Scale", "Stage", "run_stages", "run_tasks"]

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
    _made((task,), count, scale, log_dir).run()


@dataclass(frozen=True)
class Stage:
    """One of several pipelines that run one after the other.

    Attributes:
        name (`str`): Its name, which is that of its logs too.
        pipeline (`tuple`): What datatrove runs for each rank: functions as of [`run_tasks`], or steps of its own.
        count (`int`): How many ranks there are.
    """

    name: str
    pipeline: tuple[Task, ...]
    count: int


def run_stages(stages: Sequence[Stage], scale: Scale, log_dir: Path, progress: bool = True) -> None:
    """Run each stage when the one before has ended. Ranks that datatrove's markers in `log_dir` call done are skipped.

    Under Slurm all stages are handed over at once, as job arrays that wait for each other.

    Args:
        stages (`Sequence[Stage]`): What to run.
        scale (`Scale`): Where.
        log_dir (`Path`): Where datatrove writes its logs and markers; the same one goes on.
        progress (`bool`, defaults to `True`): Whether to show a progress bar.

    Raises:
        ConfigError: If a package is missing or the executor does not take the options.
        IncompleteRunError: If ranks failed, or Slurm has yet to run them. The same call goes on.
    """
    before: dict[str, Any] = {}
    with track("Stages", len(stages), progress) as bar:
        for stage in stages:
            bar.note(stage.name)
            logs = log_dir / stage.name
            executor = _made(stage.pipeline, stage.count, scale, logs, **before)
            problem = "see its logs."
            try:
                executor.run()
            except StarError:
                raise
            except Exception as error:  # whatever a worker raised
                problem = f"{type(error).__name__}: {error}"
            if scale.executor == "slurm":
                before = {"depends": executor}
            elif failed := executor.get_incomplete_ranks(skip_completed=True):
                raise IncompleteRunError(
                    f"{len(failed)} of {stage.count} tasks of {stage.name!r} are not done: {problem}",
                    f"Logs are in {logs}. Run the same command again to go on; what is done is not done again.",
                )
            bar.advance()
    if scale.executor == "slurm" and executor.get_incomplete_ranks(skip_completed=True):
        raise IncompleteRunError(
            f"{len(stages)} stages were handed to Slurm, or are in its hands.",
            "Run the same command again when the jobs have ended (`squeue --me`).",
        )


def _made(pipeline: tuple[Task, ...], count: int, scale: Scale, log_dir: Path, **more: Any) -> Any:
    try:
        return _executor(pipeline, count, scale, log_dir, **more)
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


def _executor(pipeline: tuple[Task, ...], count: int, scale: Scale, log_dir: Path, **more: Any) -> Any:
    workers = min(scale.workers, count)
    common = {"pipeline": list(pipeline), "tasks": count, "workers": workers, "logging_dir": str(log_dir), **more}
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
