import os
import socket

import pytest

import standins
from forked import ForkServer


IMPORTS = """
from trl import DPOTrainer, GRPOTrainer, SFTTrainer
import star_hf.hub.model_release, star_hf.training.trainers.dpo
import star_hf.training.trainers.grpo, star_hf.training.trainers.sft
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def server():
    """Has imported trl."""
    server = ForkServer(IMPORTS, os.environ)
    yield server
    server.close()


@pytest.fixture
def in_two_processes(server, tmp_path):
    """Runs a script of `recipes/` as `torchrun --nproc_per_node 2` does, in forks that have imported trl."""

    def run(script, *arguments):
        whole = {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": f"{free_port()}",
        }
        env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", **whole}
        ranks = [{"RANK": f"{rank}", "LOCAL_RANK": f"{rank}"} for rank in range(2)]
        program = "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
        done = server.run(program, [script, *arguments], tmp_path, standins.ROOT, env, ranks)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    return run
