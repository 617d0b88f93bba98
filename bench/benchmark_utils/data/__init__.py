"""The data sets: what they hold, where they are to be had, how they are divided and made foreign."""
