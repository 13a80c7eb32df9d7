"""What the tasks of [`~star_hf.scale.deduplicate`] do, stage by stage, and what they leave for each other."""
