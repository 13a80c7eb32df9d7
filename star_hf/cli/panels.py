"""Under which heading `star-hf --help` lists a command: each top-level command and group names one of these."""

__all__ = ["DATA", "EVALUATION", "PANELS", "SHARING", "STAGES", "TRAINING"]

DATA = "Build data"
STAGES = "One stage of a build"
TRAINING = "Train"
EVALUATION = "Evaluate"
SHARING = "Look and share"
PANELS = (DATA, STAGES, TRAINING, EVALUATION, SHARING)
"""In the order in which they are shown."""
