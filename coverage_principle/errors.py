"""The one exception that means "what you gave cannot be used"."""

from simpletransformers.errors import InputError

__all__ = ["InputError"]
