"""``Seq2SeqModel`` and its arguments."""

from simpletransformers.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {"args": "Seq2SeqArgs", "model": "Seq2SeqModel"})
