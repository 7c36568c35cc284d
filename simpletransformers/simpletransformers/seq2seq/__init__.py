"""``Seq2SeqModel`` and its arguments."""

from simpletransformers.seq2seq.args import Seq2SeqArgs, Seq2SeqError
from simpletransformers.seq2seq.model import Seq2SeqModel

__all__ = ["Seq2SeqArgs", "Seq2SeqError", "Seq2SeqModel"]
