"""The leaderboard: rows are checked, gathered into entries, ranked, and written for people, tables and the hub."""
