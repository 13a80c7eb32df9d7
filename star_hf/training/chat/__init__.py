"""Conversations as a model sees them: chat templates, and the token ids and labels of a row."""
