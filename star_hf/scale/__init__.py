"""Work in shards under datatrove's executors: on this machine, Slurm, Ray or Hugging Face Jobs."""
