"""What a prediction is and how it is scored: every metric has one definition and an id."""
