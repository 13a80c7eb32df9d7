"""The taxonomy of safety policies, suites of cases that test them, and the prompts for models."""

from .rendering import Prompts
from .suite import Case, Suite, rule_refs
from .taxonomy import Category, ResponseRule, Taxonomy, digest


__all__ = ["Case", "Category", "Prompts", "ResponseRule", "Suite", "Taxonomy", "digest", "rule_refs"]
