"""What is made of finished runs: rows, table, page and progress display. Nothing here changes a number."""
