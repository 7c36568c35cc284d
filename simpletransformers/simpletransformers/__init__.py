"""Decoder-only Transformers trained from scratch on text pairs; see README.md of this package."""

__version__ = "0.1.0"
