import threading

from star_hf.utils import progress
from star_hf.utils.progress import track


def test_a_bar_shows_what_all_steps_cost_together_also_after_it_began_again():
    with track("Asking", 4, show=False) as bar:
        for _ in range(3):
            bar.advance(0.1)
        bar.restart()
        bar.advance(0.2)
        bar.draw()
        (task,) = bar._progress.tasks
        assert task.fields["info"].endswith("$0.50") and task.completed == 1


def test_without_a_terminal_a_line_tells_how_far_it_is_also_while_nothing_is_finished(capfd, monkeypatch):
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    told = threading.Event()
    line = progress.Bar.line
    monkeypatch.setattr(progress.Bar, "line", lambda self: told.set() or line(self))
    with track("classify: a-model [1]", 27) as bar:
        for _ in range(12):
            bar.advance()
        told.clear()
        assert told.wait(20)
        bar.note("waits for the server")
        told.clear()
        assert told.wait(20)
    shown = capfd.readouterr().err
    assert "classify: a-model [1]: 12 of 27, " in shown and " so far" in shown
    assert "waits for the server, 0:00:0" in shown


def test_nothing_is_told_where_nothing_is_to_be_shown(capfd, monkeypatch):
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    with track("quiet", 2, show=False) as bar:
        bar.advance()
    assert capfd.readouterr() == ("", "")
