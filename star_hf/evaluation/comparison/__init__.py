"""Two models, or a model and the paper: differences with intervals, and the decision whether to ship."""
