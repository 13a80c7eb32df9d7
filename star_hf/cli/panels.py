"""The headings of `star-hf --help`: each top-level command and group has one of these."""

__all__ = ["DATA", "EVALUATION", "PANELS", "SHARING", "STAGES", "TRAINING"]

DATA = "Build data"
STAGES = "One stage of a build"
TRAINING = "Train"
EVALUATION = "Evaluate"
SHARING = "Look and share"
PANELS = (DATA, STAGES, TRAINING, EVALUATION, SHARING)
"""In the order of `star-hf --help`."""
