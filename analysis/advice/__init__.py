"""Which algorithm to take, from predicted runs: ranking, how sure it is, and what would change it."""
