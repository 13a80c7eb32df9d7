"""The taxonomy of safety policies, and the prompts for models."""

from .rendering import Prompts
from .taxonomy import Category, ResponseRule, Taxonomy, digest


__all__ = ["Category", "Prompts", "ResponseRule", "Taxonomy", "digest"]
