"""The engine for model calls beside distilabel and curator: the same requests, the same server, one run.

    python -m venv /tmp/distilabel && /tmp/distilabel/bin/pip install "distilabel[openai]" requests
    python -m venv /tmp/curator && /tmp/curator/bin/pip install bespokelabs-curator torch
    python benchmarks/engine_peers.py --distilabel /tmp/distilabel/bin/python --curator /tmp/curator/bin/python

Each peer has an environment of its own, since its pins are not ours, and is run by that environment's Python. Seconds
are those of the call, without imports, with as many requests in flight as the peer is told; processor time is that of
all the peer's processes, with imports. `annotate` also renders prompts, and takes answers apart into thought and
answer; like curator it keeps every answer on disk. distilabel answers batch by batch.
"""

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import IN_FLIGHT, LATENCY_S, MODEL, ROWS, lift_file_limit, measured, server, setting


def clocked(work: Callable[[], int], requests: int) -> dict[str, float]:
    """Seconds of `work`, which returns how many rows it answered, and the processor time of all its processes."""
    start = time.perf_counter()
    done = work()
    seconds = time.perf_counter() - start
    if done != requests:
        raise SystemExit(f"{done} of {requests} rows were answered")
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(one.ru_utime + one.ru_stime for one in used)
    return {"seconds": seconds, "rate": requests / seconds, "cpu_ms": 1e3 * cpu_s / requests}


def distilabel(rows: list[dict[str, Any]], url: str, in_flight: int) -> dict[str, float]:
    """A pipeline of one step, with batches as large as what may be in flight."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    with Pipeline(name="reason") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=in_flight)
        llm = OpenAILLM(model=MODEL, base_url=url, api_key="none")
        load >> TextGeneration(llm=llm, input_batch_size=in_flight)
    return clocked(lambda: sum(map(bool, pipeline.run(use_cache=False)["default"]["train"]["generation"])), len(rows))


def curator(rows: list[dict[str, Any]], url: str, in_flight: int) -> dict[str, float]:
    """An `LLM` with its limits of requests and tokens per minute out of the way."""
    import litellm

    tokenizers = Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers"
    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(tokenizers))  # curator counts tokens by a file that is in there
    from bespokelabs.curator import LLM

    class Teacher(LLM):
        def prompt(self, row: dict[str, Any]) -> str:
            return row["instruction"]

        def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
            return {"response": response}

    limits = {"max_requests_per_minute": 10**7, "max_tokens_per_minute": 10**10, "max_concurrent_requests": in_flight}
    options = {"base_url": url, "api_key": "none", **limits}
    teacher = Teacher(model_name=MODEL, backend="openai", backend_params=options)
    return clocked(lambda: sum(map(bool, teacher(rows).dataset["response"])), len(rows))


PEERS = {"distilabel": distilabel, "curator": curator}


def beside(peer: str, python: str, folder: Path) -> dict[str, float]:
    """Measure a peer under the Python of its own environment."""
    requests, result = folder / "requests.json", folder / f"{peer}.json"
    rows, teacher, _ = setting(ROWS, "http://127.0.0.1", IN_FLIGHT)
    requests.write_text(json.dumps([{"instruction": teacher.messages(row)[-1]["content"]} for row in rows]))
    quiet = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "CURATOR_DISABLE_CACHE": "1", "TELEMETRY_ENABLED": "0"}
    with server(LATENCY_S) as url:
        command = [python, __file__, "--side", peer, str(requests), url, str(IN_FLIGHT), str(result)]
        environment = {**os.environ, **quiet, "CURATOR_CACHE_DIR": str(folder), "HF_HOME": str(folder)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{peer} failed:\n{done.stderr[-2000:]}")
    return json.loads(result.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for peer in PEERS:
        parser.add_argument(f"--{peer}", metavar="PYTHON", help="the Python of the environment that has it")
    parser.add_argument("--side", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    lift_file_limit()
    if arguments.side:
        peer, requests, url, in_flight, result = arguments.side
        found = PEERS[peer](json.loads(Path(requests).read_text()), url, int(in_flight))
        Path(result).write_text(json.dumps(found))
        return
    results = {side: measured(side, ROWS, IN_FLIGHT, LATENCY_S) for side in ("bare", "engine")}
    with tempfile.TemporaryDirectory() as folder:
        for peer in PEERS:
            if python := getattr(arguments, peer):
                results[peer] = beside(peer, python, Path(folder))
    for name, result in results.items():
        share = result["rate"] / results["bare"]["rate"]
        print(f"{name:12} {result['rate']:6.0f}/s  {share:.2f} of bare  {result['cpu_ms']:6.2f} ms CPU per request")


if __name__ == "__main__":
    main()
