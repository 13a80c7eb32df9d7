"""Which datatrove executor runs the shards, and how many at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ..errors import ConfigError, IncompleteRunError, StarError
from ..utils.extras import require
from ..utils.options import Strict
from ..utils.progress import track


__all__ = ["Scale", "Stage", "run_stages", "run_tasks"]

Task = Callable[[Any, int, int], Any]


class Scale(Strict):
    """How to run work in shards.

    Args:
        executor (`str`, defaults to `"local"`): `"local"` (processes on this machine), `"ray"`, `"slurm"` or `"jobs"`
            (Hugging Face Jobs). Ray and Slurm need a file system that all hosts share, jobs need a bucket.
        shards (`int`, defaults to 8): Number of parts of the rows.
        workers (`int`, defaults to 2): Shards that run at the same time. Each has `concurrency` requests in flight.
            Requests and tokens per minute are divided among them.
        options (`dict`, *optional*): Further arguments of the executor, such as `partition` and `time` for Slurm, or
            for jobs the `dependencies` that install star_hf; see https://github.com/huggingface/datatrove#executors.
        remote (`str`, *optional*): Bucket folder for the shards of jobs, such as `hf://buckets/me/star-1`.
    """

    executor: Literal["local", "slurm", "ray", "jobs"] = "local"
    shards: int = Field(default=8, ge=1)
    workers: int = Field(default=2, ge=1)
    options: dict[str, Any] = Field(default_factory=dict)
    remote: str | None = None

    @model_validator(mode="after")
    def _reaches_its_shards(self) -> Self:
        if (self.executor == "jobs") != (self.remote is not None):
            raise ValueError("set `remote`, such as hf://buckets/me/star-1, with `executor: jobs` and only then")
        if self.executor == "jobs" and "dependencies" not in self.options:
            raise ValueError(
                "jobs must install star_hf: set `dependencies` in `options`, such as "
                '["star_hf @ git+https://github.com/me/star_hf", "datatrove[io]"]'
            )
        return self


def run_tasks(
    task: Task, count: int, scale: Scale, log_dir: Path | str, secrets: Mapping[str, str | None] | None = None
) -> None:
    """Call `task(None, rank, count)` for each rank under an executor. Slurm only submits; the others wait.

    The task must be picklable and handle its own errors, since one that raises ends the others. `log_dir` is a new
    folder for datatrove's logs and completion markers, and `secrets` the environment of jobs; other workers inherit
    theirs.
    """
    more = {"secrets": dict(secrets or {})} if scale.executor == "jobs" else {}
    _executor((task,), count, scale, log_dir, **more).run()


@dataclass(frozen=True)
class Stage:
    """One of several pipelines that run one after the other.

    For each of `count` ranks datatrove runs the `pipeline`: functions as for [`run_tasks`], or datatrove's own steps.
    """

    name: str
    pipeline: tuple[Task, ...]
    count: int


def run_stages(stages: Sequence[Stage], scale: Scale, log_dir: Path, progress: bool = True) -> None:
    """Run the stages one after the other. Ranks with a completion marker of datatrove in `log_dir` are skipped.

    Under Slurm all stages are submitted at once, as job arrays that wait for each other. Ranks that failed, or that
    Slurm has not run yet, are an [`IncompleteRunError`]: call again to continue.
    """
    if scale.executor == "jobs":
        raise ConfigError(
            "These stages need shared folders, which Hugging Face Jobs cannot access.",
            "Use the executor local, ray or slurm.",
        )
    before: dict[str, Any] = {}
    with track("Stages", len(stages), progress) as bar:
        for stage in stages:
            bar.note(stage.name)
            logs = log_dir / stage.name
            executor = _executor(stage.pipeline, stage.count, scale, logs, **before)
            problem = "see the logs."
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
                    f"Logs are in {logs}. Run the same command again to continue; finished tasks are skipped.",
                )
            bar.advance()
    if scale.executor == "slurm" and executor.get_incomplete_ranks(skip_completed=True):
        raise IncompleteRunError(
            f"{len(stages)} stages were submitted to Slurm.",
            "Run the same command again when the jobs have finished (`squeue --me`).",
        )


def _executor(pipeline: tuple[Task, ...], count: int, scale: Scale, log_dir: Path | str, **more: Any) -> Any:
    """Make the executor."""
    packages = ("datatrove", "ray") if scale.executor == "ray" else ("datatrove",)
    require("scale", *packages, what=f"The executor {scale.executor!r}")
    workers = min(scale.workers, count)
    arguments = {"pipeline": list(pipeline), "tasks": count, "workers": workers, "logging_dir": str(log_dir), **more}
    options = scale.options if scale.executor in ("local", "ray") else {"job_name": "star_hf", **scale.options}
    match scale.executor:
        case "local":
            from datatrove.executor.local import LocalPipelineExecutor as executor
        case "ray":
            from datatrove.executor.ray import RayPipelineExecutor as executor
        case "slurm":
            from datatrove.executor.slurm import SlurmPipelineExecutor as executor
        case "jobs":
            from datatrove.executor.jobs import JobsPipelineExecutor as executor
            from huggingface_hub import get_token

            if get_token() is None:
                raise ConfigError("Hugging Face Jobs need a token.", "Run `hf auth login`, or set HF_TOKEN.")
    try:
        return executor(**arguments, **options)
    except TypeError as error:
        raise ConfigError(
            f"`scale.options` does not fit the {scale.executor} executor of datatrove: {error}",
            "See https://github.com/huggingface/datatrove#executors for its arguments.",
        ) from None
