"""The regression gate: a fresh run against the stored baseline, a verdict for each check."""
