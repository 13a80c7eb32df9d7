"""Custom tasks for lighteval: `star1.py`, a thin adapter over `star_hf.evaluation`."""
