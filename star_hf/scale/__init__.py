"""Beyond one process: work in shards under datatrove's executors, on this machine, on Slurm or on Ray."""
