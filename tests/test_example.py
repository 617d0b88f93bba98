"""The worked example of docs/guide.md, and the snippets of README.md and docs/guide.md, run as they stand there."""
