"""What calls cost: tokens, prices and budgets."""
