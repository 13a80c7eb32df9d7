"""Fine-tuning on data of this form: what is learnt of a row, the check before a run, and the entry of `recipes/`."""
