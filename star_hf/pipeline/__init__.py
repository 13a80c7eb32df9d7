"""A build: the stages in the paper's order, its configuration, its run directory, and what can be told of it."""
