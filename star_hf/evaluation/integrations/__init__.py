"""The benchmarks as tasks of lighteval and of inspect-ai."""
