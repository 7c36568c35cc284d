"""Coverage of more items than memory holds: slot sets weighed in parts, by one process or many."""

from simpletransformers.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "rows": "HeldRows StoredRows",
        "stored": "SlotSetFolder weigh_stored",
        "way": "InParts",
        "weighing": "SlotSetTask weigh_slot_set",
    },
)
