"""Model calls over HTTP, to any OpenAI-compatible endpoint."""
