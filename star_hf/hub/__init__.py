"""On the Hub: cards, publishing, evaluation results, verification, and data sets by name."""
