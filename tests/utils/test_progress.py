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
