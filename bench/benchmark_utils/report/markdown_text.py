"""Text that somebody else may have written, for Markdown."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\|<\[`*])")


def markdown_text(text: object) -> str:
    """Return text as Markdown that shows it as it stands, on one line: no cell ends in it, no link, tag or code begins.

    A backslash is escaped as well, or one in the text would undo the escape behind it.
    """
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))
