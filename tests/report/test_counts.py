from star_hf.pipeline.counts import Grid, balance, bills, marks, overlap, similarities
from star_hf.schema import SCORE_CRITERIA


def test_a_grid_is_ordered_by_its_sums_and_loses_nothing():
    grid = Grid.count([("b", "y"), ("a", "x"), ("a", "y"), ("c", "y")])
    assert grid == Grid(("a", "b", "c"), ("y", "x"), ((1, 1), (1, 0), (1, 0)))
    assert grid.total == 4


def test_the_balance_counts_each_label_of_each_row(run):
    rows = run.table("select")
    grid = balance(run, "select")
    assert grid.total == sum(map(len, rows["category"]))
    place = grid.rows.index("set-0"), grid.columns.index(grid.columns[0])
    expected = sum(
        grid.columns[0] in labels
        for labels, source in zip(rows["category"], rows["source"], strict=True)
        if source == "set-0"
    )
    assert grid.cells[place[0]][place[1]] == expected


def test_the_overlap_names_where_the_match_was(run):
    within, benchmarks = overlap(run), overlap(run, contamination=True)
    assert within.total + benchmarks.total == run.records["deduplicate"].rows_in - run.records["deduplicate"].rows_out
    assert benchmarks == Grid(("set-2",), ("bench",), ((1,),)) and "bench" not in within.columns


def test_similarities_are_those_of_measures_that_have_degrees(run):
    reasons = run.records["deduplicate"].removed
    assert any(reason.startswith("exact") for reason in reasons)
    assert all(not reason.startswith(("exact", "ngram")) for reason in similarities(run))
    assert all(len(values) == reasons[reason] for reason, values in similarities(run).items())


def test_marks_add_up_to_the_scored_rows(run):
    found = marks(run)
    assert list(found) == list(SCORE_CRITERIA)
    assert all(sum(counts.values()) == run.records["score"].rows_out for counts in found.values())


def test_bills_are_the_receipts(run):
    found = {bill.stage: bill for bill in bills(run)}
    assert list(found) == ["classify", "reason", "score", "rewrite"]
    receipts = run.table("reason", "provenance")
    assert found["reason"].calls == sum(receipts["attempts"])
    assert found["reason"].cost_usd == sum(receipts["cost_usd"]) > 0
