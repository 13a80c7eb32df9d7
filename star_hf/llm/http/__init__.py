"""The HTTP provider, for any OpenAI-compatible endpoint."""
