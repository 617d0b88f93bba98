"""How a method is run once and becomes a row: scores, cost, provenance, arrays for figures."""
