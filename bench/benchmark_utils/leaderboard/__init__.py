"""The leaderboard: rows are checked, gathered into entries, ranked, and written for people, spreadsheets and the hub."""
