"""A row's settings, text such as "friction=0.1,steps=300": by name, in words, and which of them tell variants apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SWITCH = ("True", "False")


def parse_settings(settings: str) -> dict[str, str]:
    """Return settings "a=1,b=x" by name."""
    return dict(part.split("=", 1) for part in settings.split(",") if "=" in part)


def in_words(name: str, value: str) -> str:
    """Return a setting in words: the value alone if it is a word."""
    return value if _is_word(value) else f"{name}={value}"


def telling_names(variants: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names of the settings that differ between a method's variants, sorted.

    A switch that goes hand in hand with a word, on wherever that is one and off wherever it is another, says nothing
    that the word does not, and is left out.
    """
    values = {name: [variant.get(name) for variant in variants] for name in sorted({n for v in variants for n in v})}
    telling = [name for name, own in values.items() if len(set(own)) > 1]
    words = [name for name in telling if all(value and _is_word(value) for value in values[name])]
    implied = {
        name
        for name in telling
        if set(values[name]) == set(SWITCH) and any(_hand_in_hand(values[name], values[word]) for word in words)
    }
    return [name for name in telling if name not in implied]


def _is_word(value: str) -> bool:
    return value.replace("-", "").replace("_", "").isalpha() and value not in (*SWITCH, "None")


def _hand_in_hand(one: Sequence[str | None], other: Sequence[str | None]) -> bool:
    """Whether each value of one is always beside the same of the other, and the other way round."""
    return len(set(zip(one, other, strict=True))) == len(set(one)) == len(set(other))
