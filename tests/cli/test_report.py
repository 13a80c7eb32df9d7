import sys

import pytest

from star_hf import cli


def test_what_is_no_run_ends_with_one_message(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["star-hf", "report", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    message = " ".join(capsys.readouterr().err.split())
    assert stopped.value.code == 1 and "is not a run" in message and "star-hf build --run-dir" in message
