"""Records as a table of pandas, where that is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coverage_principle.errors import InputError

if TYPE_CHECKING:
    import pandas


def frame_of(records: Sequence[dict]) -> pandas.DataFrame:
    """``InputError`` if pandas is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise InputError(
            "tables are made with pandas, which is not installed: pip install pandas, or take "
            "to_records()"
        ) from error
    return pandas.DataFrame.from_records(records)
