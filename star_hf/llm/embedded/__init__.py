"""The embedded model: calls answered in this process."""
