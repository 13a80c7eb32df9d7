"""Fine-tuning: what is learnt of a row, the pre-flight check, and the trainings that `recipes/` starts."""
