"""The engine behind the deduplicate step: evidence, rules, result, overview."""
