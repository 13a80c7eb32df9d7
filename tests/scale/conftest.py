import importlib.util

import pytest


@pytest.fixture(scope="session")
def ray():
    """A cluster on this machine, started once."""
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("datatrove") is None:
        pytest.skip("ray and datatrove are not installed: pip install 'star_hf[scale]'")
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")  # workers have the environment of this moment
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()
