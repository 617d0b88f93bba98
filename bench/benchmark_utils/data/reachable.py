"""Whether an address answers at all: one short question before a client that would try for half a minute."""

from __future__ import annotations

import threading
import urllib.error
import urllib.parse
import urllib.request
from functools import lru_cache

PATIENCE_S = 3.0  # how long a server may take to answer at all


def why_unreachable(url: str) -> str | None:
    """Return why the server of an address cannot be asked, in words, or None; asked once a process.

    HF_HUB_OFFLINE=1, Hugging Face's own variable, switches off every download by `datasets`.
    """
    from datasets import config

    if config.HF_HUB_OFFLINE:
        return "downloads are switched off by HF_HUB_OFFLINE"
    parts = urllib.parse.urlsplit(url)
    return no_answer(f"{parts.scheme}://{parts.netloc}")


@lru_cache
def no_answer(server: str) -> str | None:
    """Return why a server does not answer, in words, or None if it does, be it with an error."""
    answer: list[str | None] = [f"no answer from {server} within {PATIENCE_S:g} s"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(server, timeout=PATIENCE_S):
                answer[0] = None
        except urllib.error.HTTPError:
            answer[0] = None  # an error, but an answer
        except (OSError, ValueError) as error:
            answer[0] = f"{server} cannot be reached ({getattr(error, 'reason', error)})"

    # In a thread of its own, since looking up a name has no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_S + 0.5)
    return answer[0]
