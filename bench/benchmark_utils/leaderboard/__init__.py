"""The leaderboard: what is exported from rows for other people to read, trust and add to."""
