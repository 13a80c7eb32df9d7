import datetime

import pytest

from star_hf.llm import Endpoint, Price
from star_hf.llm.cost.prices import _prices, list_price
from star_hf.llm.endpoint import PRESETS


def test_every_list_price_says_when_and_where_it_was_read():
    assert set(_prices()) <= set(PRESETS)
    for models in _prices().values():
        for model, listed in models.items():
            assert set(listed) == {"input", "output", "read", "source"}
            assert isinstance(listed["read"], datetime.date) and listed["source"].startswith("https://")
            assert 0 < listed["input"]
            assert listed["output"] == 0 if "embedding" in model else listed["input"] <= listed["output"]


def test_an_endpoints_own_price_comes_first():
    judge = Endpoint(model="gpt-4o-2024-11-20")
    assert judge.cost(1_000_000, 1_000_000) == pytest.approx(12.5)
    assert judge.model_copy(update={"price": Price(input=1, output=1)}).cost(1_000_000, 0) == pytest.approx(1)


def test_another_server_does_not_cost_what_the_provider_asks():
    assert Endpoint(model="gpt-4o", base_url="http://localhost:1/v1").cost(1, 1) is None
    assert Endpoint(model="unheard-of").cost(1, 1) is None and list_price("vllm", "gpt-4o") is None


def test_a_price_is_no_part_of_the_request_key():
    judge = Endpoint(model="gpt-4o")
    assert judge.identity() == judge.model_copy(update={"price": Price(input=1, output=1)}).identity()
