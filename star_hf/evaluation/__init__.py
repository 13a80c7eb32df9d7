"""Safety, over-refusal and reasoning, before and after: benchmarks, judges, statistics and the ledger.

Knows no evaluation framework; `lighteval_tasks/` adapts it to lighteval and inspect-ai.
"""
