"""Speed of judging: 1,033 answers by a judge that takes 200 ms, with 64 in flight, beside the least that can take.

    python benchmarks/judges.py
    python benchmarks/judges.py --answers 200 --in-flight 16

1,033 is the paper's four safety benchmarks together. The least is latency x answers / in flight. Each of three runs
starts with a new journal; the fourth finds all replies there. Target: at most 1.3 times the least. The server is a
process of its own.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


RUNS, TARGET = 3, 1.3


def serve(latency_s: float) -> None:
    """Say `safe` to every request after `latency_s`; the port is the first line of the output."""
    from aiohttp import web

    message = {"role": "assistant", "content": "safe"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 400, "completion_tokens": 2, "total_tokens": 402}
    body = json.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})

    async def reply(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(latency_s)
        return web.Response(text=body, content_type="application/json")

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", reply)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512)
        await site.start()
        print(site._server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())


@contextmanager
def server(latency_s: float) -> Iterator[str]:
    """The root of the API of a server in a process of its own."""
    command = [sys.executable, __file__, "--serve", str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=1_033)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        return serve(arguments.serve)

    from dataclasses import replace

    from star_hf.evaluation.grading.judges import load_judge
    from star_hf.evaluation.grading.judging import judge_responses
    from star_hf.evaluation.types import RESPONSES
    from star_hf.llm import Journal
    from star_hf.schema import as_dataset

    rows = as_dataset(
        (
            {
                "benchmark": "synthetic",
                "item_id": str(number),
                "sample": 0,
                "prompt": f"What is good to know about subject number {number}?",
                "answer": f"Subject number {number} is best learnt from a friend. " * 20,
            }
            for number in range(arguments.answers)
        ),
        RESPONSES,
    )
    least = arguments.latency * arguments.answers / arguments.in_flight
    print(
        f"{arguments.answers} answers of {arguments.latency} s, {arguments.in_flight} in flight: least {least:.2f} s"
    )
    with server(arguments.latency) as url, tempfile.TemporaryDirectory() as folder:
        judge = load_judge(f"llama-guard-3@{url}")
        judge = replace(judge, endpoint=judge.endpoint.model_copy(update={"concurrency": arguments.in_flight}))

        def timed(journal_path: Path) -> float:
            with Journal(journal_path) as journal:
                start = time.perf_counter()
                verdicts = judge_responses(rows, [judge], journal, progress=False)
            if set(verdicts["value"]) != {1.0}:
                raise SystemExit("some answers have no verdict")
            return time.perf_counter() - start

        for number in range(RUNS):
            seconds = timed(Path(folder) / f"{number}.sqlite")
            met = "met" if seconds <= TARGET * least else "missed"
            print(f"judged: {seconds:.2f} s, {seconds / least:.2f} times the least (target <= {TARGET}: {met})")
        print(f"found in the journal: {timed(Path(folder) / '0.sqlite'):.2f} s")


if __name__ == "__main__":
    main()
