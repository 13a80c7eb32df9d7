"""The batch provider: answers within a day at half the price, through a provider's Batch API."""
