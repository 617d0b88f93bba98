"""Weights from their coefficients in a low-rank basis."""

from .api import decode, decode_chunks

__all__ = ["decode", "decode_chunks"]
