"""`star-hf lighteval ...`: lighteval with the fixes that its release 0.13 needs, and with safe caches.

Each fix has a name, a reason, and a test that fails once upstream no longer needs it. `launch` applies them, passes
all arguments on, and keeps a run from reading the cached answers of another model.
"""

import atexit
import itertools
import logging
import os
import shutil
import sys
import tempfile
import types
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from ...errors import ConfigError, IncompleteRunError
from ...utils.extras import install, require
from ...utils.options import read_yaml
from ...utils.paths import project_folder
from ..tasks.benchmarks import GROUPS, select_benchmarks


__all__ = ["launch"]

logger = logging.getLogger(__name__)

BELOW = {"huggingface_hub": 2, "xxhash": 4}
"""Major versions with which lighteval 0.13 breaks; with xxhash's, only after generation."""

RENAMED = {"frequence_penalty": "frequency_penalty", "log_probs": "logprobs"}
TIMEOUT_S = 3_600
"""Limit for an answer of `lighteval eval`; its own 30 s are too short for reasoning."""


def no_download_at_import() -> None:
    """lighteval imports all its task files at every start, and one downloads a pickle then: leave that one out."""
    name = "lighteval.tasks.tasks.tiny_benchmarks"
    sys.modules.setdefault(name, types.ModuleType(name))


def fields_that_inspect_knows() -> None:
    """`lighteval eval` passes parameters to inspect-ai that it does not have (lighteval #1327)."""
    import lighteval.main_inspect as main

    run = main.inspect_ai_eval_set

    def eval_set(tasks: Any, **options: Any) -> Any:
        named = {RENAMED.get(name, name): value for name, value in options.items()}
        named.setdefault("fail_on_error", 1.0)
        success, logs = run(tasks, **{name: value for name, value in named.items() if value is not None})
        _check_logs(success, logs, named.get("log_dir"))
        return success, logs

    main.inspect_ai_eval_set = eval_set


def custom_tasks_of_eval(path: str) -> None:
    """`lighteval eval` ignores its option `--custom-tasks` (lighteval #1320)."""
    from lighteval.tasks.registry import Registry

    make = Registry.__init__

    def init(self: Any, tasks: Any = None, load_multilingual: bool = False, custom_tasks: Any = None) -> None:
        make(self, tasks, load_multilingual, custom_tasks or path)

    Registry.__init__ = init


def tasks_in_the_list() -> None:
    """`lighteval tasks list` shows the tasks of suites, which no task has any more, and so none (lighteval #903)."""
    import typer
    from lighteval.tasks.registry import Registry

    def print_all_tasks(self: Any, suites: str | None = None) -> None:
        typer.echo("\n".join(sorted(self._task_registry)))

    Registry.print_all_tasks = print_all_tasks


def sampling_that_was_asked_for() -> None:
    """`lighteval accelerate` decodes greedily at any temperature (lighteval #742)."""
    from lighteval.models.model_input import GenerationParameters

    original = GenerationParameters.to_transformers_dict

    def to_transformers_dict(self: Any) -> dict[str, Any]:
        return {**original(self), **({"do_sample": True} if self.temperature else {})}

    GenerationParameters.to_transformers_dict = to_transformers_dict


def answers_that_say_how_they_ended() -> None:
    """`lighteval accelerate` pads the tokens of an answer and drops its prompt: a cut answer, or reasoning that the
    prompt opens, could not be recognised."""
    from lighteval.models.transformers.transformers_model import TransformersModel

    answer = TransformersModel._padded_greedy_until

    def padded_greedy_until(self: Any, docs: Any) -> Any:
        ends = {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}
        responses = answer(self, docs)
        for response in responses:
            response.input = self.tokenizer.decode(response.input_tokens)
            response.output_tokens = [
                list(itertools.takewhile(lambda token: int(token) not in ends, tokens))
                for tokens in response.output_tokens
            ]
        return responses

    TransformersModel._padded_greedy_until = padded_greedy_until


def litellm_cache_in(folder: Path) -> None:
    """litellm caches answers, failed ones too, in the working directory by the model's name, whatever its weights."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else fetched from GitHub at import
    from litellm.caching.disk_cache import DiskCache

    make = DiskCache.__init__

    def init(self: Any, disk_cache_dir: str | None = None) -> None:
        make(self, disk_cache_dir or str(folder / "litellm"))

    DiskCache.__init__ = init


def launch(arguments: Sequence[str]) -> None:
    """Run lighteval.

    Args:
        arguments (list of `str`): Those of `lighteval`. `--custom-tasks` is the project's own file by default, and
            groups such as `star1:safety` are replaced by their tasks.

    Raises:
        ConfigError: If lighteval is missing, a package breaks it, or the arguments would mix up answers.
        IncompleteRunError: If too many answers have no value, which lighteval itself does not notice.
    """
    _check_pins()
    given = [_expanded(argument) for argument in arguments]
    command = given[0] if given else ""
    if command == "tasks" and len(given) > 1 and given[1] in ("list", "inspect"):
        no_download_at_import()
        tasks_in_the_list()
        if "--custom-tasks" not in given:
            given += ["--custom-tasks", str(project_folder("lighteval_tasks") / "star1.py")]
    if command in ("accelerate", "vllm", "sglang", "endpoint", "eval", "custom"):
        tasks = _option(given, "--custom-tasks") or str(project_folder("lighteval_tasks") / "star1.py")
        if "--custom-tasks" not in given:
            given += ["--custom-tasks", tasks]
        own = Path(tempfile.mkdtemp(prefix="star_hf-"))
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        no_download_at_import()
        litellm_cache_in(own)
        sampling_that_was_asked_for()
        if command == "accelerate":
            answers_that_say_how_they_ended()
        if command == "eval":
            custom_tasks_of_eval(tasks)
            fields_that_inspect_knows()
            if "--timeout" not in given:
                given += ["--timeout", str(TIMEOUT_S)]
        else:
            output = Path(_option(given, "--output-dir") or "results")
            place = next(
                (n for n, argument in enumerate(given) if "=" in argument or argument.endswith(".yaml")), None
            )
            if place is not None:
                given[place] = _with_cache(given[place], output, own, fresh=command != "accelerate")
    from lighteval.__main__ import app

    _enable_loggers()
    try:
        app(args=given, prog_name="star-hf lighteval")
    except SystemExit as end:
        if end.code:
            raise
    from . import harness

    harness.check_failures(harness.failed_shares)


def _enable_loggers() -> None:
    """Let star_hf's warnings be seen: lighteval's configuration of logging disables all loggers that exist before."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] == "star_hf" and isinstance(logger, logging.Logger):
            logger.disabled = False


def _check_pins() -> None:
    require("eval", "lighteval", "litellm", what="star-hf lighteval")
    found = version("lighteval")
    if not found.startswith("0.13."):
        logger.warning("lighteval %s was not tested; its fixes are for 0.13", found)
    for package, major in BELOW.items():
        if int(version(package).split(".")[0]) >= major:
            raise ConfigError(
                f"lighteval {found} breaks with {package} {version(package)}.",
                f"Install the versions that it needs, best in an environment of its own: {install('eval')}",
            )


def _expanded(argument: str) -> str:
    """An argument that is a list of tasks, with groups and suites' files (`star1:suite.yaml`) replaced by their
    tasks."""
    if not argument.startswith("star1:") and ",star1:" not in argument:
        return argument
    tasks = []
    for name in argument.split(","):
        bare = name.removeprefix("star1:")
        members = (_suite(bare),) if bare.endswith((".yaml", ".yml")) else GROUPS.get(bare)
        tasks += [name] if members is None else [f"star1:{member}" for member in members]
    return ",".join(dict.fromkeys(tasks))


def _suite(path: str) -> str:
    """The benchmark of a suite's file, which the tasks find in the environment."""
    (suite,) = select_benchmarks([path])
    known = os.environ.get("STAR_HF_SUITES", "").split(",")
    os.environ["STAR_HF_SUITES"] = ",".join(dict.fromkeys(filter(None, (*known, os.path.abspath(path)))))
    return suite.name


def _option(arguments: Sequence[str], name: str) -> str | None:
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == name:
            return following
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return None


def _with_cache(model: str, output: Path, own: Path, fresh: bool) -> str:
    """The model's arguments with a cache of generations for its weights, or for this run alone.

    lighteval caches generations by the model's name: retrained weights at the same path would get the old answers, and
    an endpoint's failed ones would stay for good.
    """
    file = model.endswith((".yaml", ".yml"))
    pairs = (part.partition("=") for part in model.split(","))
    simple = {name.strip(): value.strip() for name, equals, value in pairs if equals}
    parsed = read_yaml(model) if file else {"model_parameters": simple}
    values = parsed.get("model_parameters")
    if not isinstance(values, dict):
        raise ConfigError(f"{model} has no section `model_parameters`.")
    name = str(values.get("model_name", ""))
    if os.path.isabs(name):
        raise ConfigError(
            f"lighteval would write into the absolute model path {name}.",
            f"Change to its parent folder and use a relative path: `model_name={Path(name).name}`.",
        )
    if "max_new_tokens" in (model if not file else str(values)):
        raise ConfigError(
            "lighteval applies `max_new_tokens` to the prompt, not to the answer.",
            "Remove it and set STAR_HF_MAX_TOKENS; without it the profile's limit applies.",
        )
    if "cache_dir" in values:
        return model
    if fresh:
        place = f"run-{os.getpid()}-{os.urandom(4).hex()}"
    else:
        from ..generation.weights import fingerprint, locate

        folder, _ = locate(name, values.get("revision"))
        place = fingerprint(folder)[:16]
    cache = str(output / "cache" / place)
    if not file:
        return f"{model},cache_dir={cache}"
    values["cache_dir"] = cache
    copy = own / Path(model).name
    copy.write_text(yaml.safe_dump(parsed), encoding="utf-8")
    return str(copy)


def _check_logs(success: bool, logs: Sequence[Any], log_dir: str | None) -> None:
    """Check the logs of `lighteval eval`, which exits with 0 even if the model never answered."""
    from . import harness

    if not success or any(log.status != "success" for log in logs):
        raise IncompleteRunError(
            "Some tasks did not finish: the model or a judge did not answer.",
            f"Finished answers are kept. Run the same command again with `--log-dir {log_dir}` to continue.",
        )
    for log in logs:
        for score in log.results.scores if log.results else ():
            total = (score.scored_samples or 0) + (score.unscored_samples or 0)
            harness.failed_shares[log.eval.task] = (score.unscored_samples or 0) / max(total, 1)
