"""What is asked: benchmarks, samples, attacks, and the profiles by which answers are drawn."""
