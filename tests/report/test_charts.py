"""The pictures show the counts of the run: no row is lost in them, and none is shown twice."""

from collections import Counter

import numpy as np

from star_hf.report.charts import flow, histogram


def test_what_flows_into_a_stage_flows_out_of_it(run):
    (trace,) = flow(run.records).data
    into, out = Counter(), Counter()
    for source, target, rows in zip(trace.link.source, trace.link.target, trace.link.value, strict=True):
        out[source] += rows
        into[target] += rows
    names = [label.partition("<br>")[0] for label in trace.node.label]
    records = run.records
    assert out[names.index("read")] == records["collect"].rows_in
    for stage in ("collect", "deduplicate", "classify", "reason", "score", "select"):
        place = names.index(stage)
        assert into[place] == out[place] == records[stage].rows_out
    assert into[names.index("kept")] == records["select"].rows_out
    removed = sum(sum(record.removed.values()) for stage, record in records.items() if stage != "rewrite")
    ends = sum(rows for place, rows in into.items() if place not in out)
    assert ends == removed + records["select"].rows_out == records["collect"].rows_in


def test_a_histogram_holds_every_value_in_its_bin():
    values = {"near": [0.5, 0.505, 0.595, 0.605, 1.0], "far": [0.4, 1.0000001]}  # rounding may end above one
    traces = histogram(values, 0.5).data
    assert [trace.name for trace in traces] == ["near (5)", "far (2)"]
    shown = [{place: rows for place, rows in enumerate(trace.y) if rows} for trace in traces]
    assert shown == [{0: 2, 9: 1, 10: 1, 49: 1}, {0: 1, 49: 1}]
    np.testing.assert_allclose(traces[0].x, np.arange(50) / 100 + 0.505)
