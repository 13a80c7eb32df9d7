"""From an answer to a score or a named failure: judges, extractors, and the sandbox for code."""
