"""Whether an error means that a server cannot be reached, in the words of each library, and what is then said."""

import errno
import socket

import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

import star_hf
from star_hf.errors import IncompleteRunError, SourceError
from star_hf.hub import api
from star_hf.sources import reading
from star_hf.transforms.collect import collect
from star_hf.utils import network
from star_hf.utils.network import NETWORK_ERRORS, unreachable


REQUEST = httpx.Request("GET", "https://hub.invalid")
REPLY = httpx.Response(404, request=REQUEST)


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("no route"),
        httpx.ReadTimeout("too slow"),
        httpx.RemoteProtocolError("hung up"),
        ConnectionError("Couldn't reach it"),
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        TimeoutError(),
        socket.gaierror(-2, "Name or service not known"),
        OfflineModeIsEnabled("offline"),
        caused(LocalEntryNotFoundError("not in the cache"), httpx.ConnectError("no route")),
        caused(ValueError("broken"), caused(RuntimeError("broken"), TimeoutError())),
    ],
    ids=repr,
)
def test_no_answer_is_unreachable(error):
    assert unreachable(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("not there"),
        PermissionError("not yours"),
        ValueError("broken"),
        LocalEntryNotFoundError("not in the cache"),
        HfHubHTTPError("404", response=REPLY),
        httpx.HTTPStatusError("404", request=REQUEST, response=REPLY),
    ],
    ids=repr,
)
def test_an_answer_or_a_wrong_file_is_not(error):
    assert not unreachable(error)


def test_an_error_that_is_its_own_cause_ends():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert not unreachable(first)


def test_a_file_over_https_that_nobody_can_read_is_unreachable_if_its_host_is(monkeypatch):
    def lookup(host, port):
        if host == "down.invalid":
            raise socket.gaierror(-2, "Name or service not known")
        return []

    monkeypatch.setattr(network.socket, "getaddrinfo", lookup)
    monkeypatch.setattr(network.urllib.request, "getproxies", dict)
    gone = FileNotFoundError("Unable to find it")
    assert unreachable(gone, "https://down.invalid/x.csv")
    assert not unreachable(ZeroDivisionError(), "https://down.invalid/x.csv")
    assert not unreachable(gone, "https://up.invalid/x.csv")
    assert not unreachable(gone, "hf://datasets/a/b/x.csv") and not unreachable(gone, "/tmp/x.csv")
    monkeypatch.setattr(network.urllib.request, "getproxies", lambda: {"https": "http://proxy.invalid"})
    assert not unreachable(gone, "https://down.invalid/x.csv"), "a proxy looks names up itself"


class HTTPError(Exception):
    """As httpx2 has it: no relative of httpx's."""


class ConnectError(HTTPError):
    pass


@pytest.fixture(params=["huggingface_hub 1 or 2, as installed", "another major"])
def connect_error(request, monkeypatch):
    """The error of a Hub that cannot be reached, of the installed major version and of one with other classes."""
    if "installed" in request.param:
        kind = type("Refused", (NETWORK_ERRORS[0],), {})
        return kind("no route")
    for module in (network, api, reading):
        monkeypatch.setattr(module, "NETWORK_ERRORS", (HTTPError, OSError))
    return ConnectError("no route")


def fails_with(error):
    def fail(*arguments, **options):
        raise error

    return fail


def test_the_hub_that_cannot_be_reached_is_one_message(connect_error):
    with pytest.raises(IncompleteRunError, match="Cannot look at it: the Hub cannot be reached"):
        api.ask("look at it", fails_with(connect_error))


def test_without_a_network_no_source_is_blamed_and_nothing_is_not_success(connect_error, monkeypatch, caplog):
    monkeypatch.setattr(reading, "load_dataset", fails_with(connect_error))
    with pytest.raises(IncompleteRunError, match="No source could be read.*GPTFuzz, HExPHI"):
        collect(sources=["HExPHI", "GPTFuzz"], held_out=["XSTest"])
    (said,) = (record.getMessage() for record in caplog.records)
    assert "left out GPTFuzz, HExPHI; not held out XSTest" in said and "conditions" not in said


def test_with_own_questions_a_run_goes_on_without_a_network(connect_error, monkeypatch, tmp_path):
    monkeypatch.setattr(reading, "load_dataset", fails_with(connect_error))
    (tmp_path / "mine.txt").write_text("How do I lock a door?\n")
    found = collect(sources=["HExPHI"], held_out=[], questions=tmp_path / "mine.txt")
    assert len(found.outcome.rows) == 1 and "cannot be reached" in found.missing["HExPHI"]
    assert "Check the network" in found.missing["HExPHI"] and "conditions" not in found.missing["HExPHI"]


def test_sources_that_refuse_are_wrong_input_and_not_the_network(monkeypatch):
    monkeypatch.setattr(reading, "load_dataset", fails_with(FileNotFoundError("gated")))
    with pytest.raises(SourceError, match="No source could be read"):
        collect(sources=["HExPHI"], held_out=[])


@pytest.mark.parametrize("options", [{}, {"revision": "main"}, {"streaming": True}])
def test_load_says_in_one_message_that_the_network_is_down(connect_error, monkeypatch, options):
    monkeypatch.setattr("datasets.load_dataset", fails_with(connect_error))
    with pytest.raises(SourceError, match=r"STAR-1\.json: the server cannot be reached") as raised:
        star_hf.load("star_1", **options)
    assert raised.value.remedy == "Check the network."


def test_load_says_what_the_hub_said(monkeypatch):
    monkeypatch.setattr(network.socket, "getaddrinfo", lambda *_: [])
    monkeypatch.setattr("datasets.load_dataset", fails_with(FileNotFoundError("no such revision")))
    with pytest.raises(SourceError, match="cannot be read: no such revision"):
        star_hf.load("star_1", revision="nope")


def test_an_error_of_the_program_stays_what_it_is(monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", fails_with(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        star_hf.load("star_1")
