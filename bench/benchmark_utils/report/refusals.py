"""What ends a command before its time with one line instead of a traceback."""

from __future__ import annotations


class Refusal(Exception):
    """The command cannot be carried out; the message says why and what to change, in one line."""


class ConfigurationError(Refusal, ValueError):
    """A configuration, or a name in it, cannot be used."""


class StorageError(Refusal, OSError):
    """Results or finished runs cannot be written."""


class RowsError(Refusal, ValueError):
    """A file is not one of rows."""
