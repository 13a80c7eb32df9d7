"""The Hub: cards, publishing, results for leaderboards, and verification."""
