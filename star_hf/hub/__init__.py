"""The Hub: the card of a model, publishing, results for leaderboards, and verification."""
