"""Which of datatrove's executors runs the shards, and how many at a time: configuration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import ConfigError, IncompleteRunError, StarError
from ..utils.progress import track


__all__ = ["Scale", "Stage", "run_stages", "run_tasks"]

Task = Callable[[Any, int, int], Any]


class Scale(BaseModel):
    """How work is spread beyond one process.

    Args:
        executor (`str`, defaults to `"local"`): `"local"` (processes of this machine), `"ray"`, `"slurm"` or `"jobs"`
            (Hugging Face Jobs). Ray and Slurm need a file system that all hosts see, jobs a bucket.
        shards (`int`, defaults to 8): Parts that the rows are cut into; what is lost with a host is asked again.
        workers (`int`, defaults to 2): Shards at work at a time. Each has `concurrency` requests in flight; requests
            and tokens per minute are divided among them.
        options (`dict`, *optional*): Further arguments of the executor, such as Slurm's `partition`, `time` and
            `env_command`, or of jobs `dependencies`, from which each installs star_hf; see
            https://github.com/huggingface/datatrove#executors.
        remote (`str`, *optional*): Where jobs find their shards and leave them: `hf://buckets/me/star-1`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    executor: Literal["local", "slurm", "ray", "jobs"] = "local"
    shards: int = Field(default=8, ge=1)
    workers: int = Field(default=2, ge=1)
    options: dict[str, Any] = Field(default_factory=dict)
    remote: str | None = None

    @model_validator(mode="after")
    def _reaches_its_shards(self) -> Self:
        if (self.executor == "jobs") != (self.remote is not None):
            raise ValueError("`remote` is where `executor: jobs` has its shards, such as hf://buckets/me/star-1")
        if self.executor == "jobs" and "dependencies" not in self.options:
            raise ValueError(
                "jobs must install star_hf: name where from in `options`, such as dependencies: "
                '["star_hf @ git+https://github.com/me/star_hf", "datatrove[io]"]'
            )
        return self


def run_tasks(
    task: Task, count: int, scale: Scale, log_dir: Path | str, secrets: Mapping[str, str | None] | None = None
) -> None:
    """Call `task(None, rank, count)` for each rank under an executor. Slurm only submits; the others wait.

    Args:
        task (`Callable`): Must be picklable, and deal with its own failures: one that raises ends its siblings.
        count (`int`): How many tasks there are.
        scale (`Scale`): Where they run.
        log_dir (`Path` or `str`): Where datatrove writes its logs and what it has completed; a new one for each call.
        secrets (`Mapping[str, str]`, *optional*): Environment of jobs. Other workers inherit theirs.

    Raises:
        ConfigError: If a package or the Hub's token is missing, or the executor does not take the options.
    """
    more = {"secrets": dict(secrets or {})} if scale.executor == "jobs" else {}
    _made((task,), count, scale, log_dir, **more).run()


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
    if scale.executor == "jobs":
        raise ConfigError(
            "These stages work on folders, which Hugging Face Jobs do not see.", "Choose local, ray or slurm."
        )
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


def _made(pipeline: tuple[Task, ...], count: int, scale: Scale, log_dir: Path | str, **more: Any) -> Any:
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


def _executor(pipeline: tuple[Task, ...], count: int, scale: Scale, log_dir: Path | str, **more: Any) -> Any:
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
        case "jobs":
            from datatrove.executor.jobs import JobsPipelineExecutor
            from huggingface_hub import get_token

            if get_token() is None:
                raise ConfigError("Hugging Face Jobs need a token.", "Run `hf auth login`, or set HF_TOKEN.")
            return JobsPipelineExecutor(**{"job_name": "star_hf", **common, **scale.options})
