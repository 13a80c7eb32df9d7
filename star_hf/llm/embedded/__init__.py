"""The embedded model, a provider in this process."""
