"""Which licence a data set has, and what its sources forbid."""

import pytest

from star_hf.cards.licences import terms_of
from star_hf.sources.catalogue import catalogue


def with_licence(*licences):
    """Rows of one source with each of these licences."""
    known = {source.license: name for name, source in catalogue().items()}
    return dict.fromkeys((known[licence] for licence in licences), 1)


@pytest.mark.parametrize(
    ("rows", "license"),
    [
        (with_licence("mit"), "mit"),
        (with_licence("mit", "apache-2.0"), "other"),
        (with_licence("cc-by-nc-4.0"), "other"),
        (with_licence("unknown"), "other"),
        ({"my-own": 1}, "other"),
        ({}, "other"),
    ],
)
def test_only_an_open_licence_that_all_sources_share_is_that_of_the_whole(rows, license):
    assert terms_of(rows).license == license


def test_every_source_of_the_catalogue_that_forbids_commercial_use_is_named():
    told = dict(terms_of(dict.fromkeys(catalogue(), 1)).restrictions)
    expected = {name for name, source in catalogue().items() if "-nc" in source.license}
    assert expected and {origin.name for origin in told["Not for commercial use"]} == expected
