"""Suites of a policy's cases: whether a model follows the policy, rule by rule."""
