"""What each importer can be told. The standard library is enough here."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from coverage_principle.data.settings import facts_setting
from coverage_principle.errors import InputError
from simpletransformers.settings import MOST_SEED, Settings, setting

#: Rows, triples or records that one import may hold; beyond it memory is not what it should be.
MOST_ROWS = 4_000_000


def columns(text: str) -> tuple[str, ...]:
    """For ``type=``: names of columns, separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _seed() -> int:
    return setting(42, "0 or more; same arguments, same files", at_least=0, at_most=MOST_SEED)


@dataclass(frozen=True)
class ImportSettings(Settings):
    """What every importer can be told."""

    cot: bool = setting(
        False, "chain of thought: targets hold the intermediate values, then the answer"
    )

    @property
    def suffix(self) -> str:
        """What the name of the data set's folder has after that of the source."""
        return ".cot" if self.cot else ""

    def arguments(self) -> dict[str, object]:
        """The settings as a data set's metadata keep them."""
        return asdict(self)


@dataclass(frozen=True)
class GrokkedSettings(ImportSettings):
    """A folder of GrokkedTransformer, or of those who took over its files."""

    task: str = setting(
        "auto",
        "what the records are; auto: by the tokens <q> and <mask> of comparisons",
        choices=("auto", "composition", "comparison"),
    )
    hops: int | None = setting(
        None, "relations of a composition, where train.json has several lengths", at_least=2
    )


@dataclass(frozen=True)
class TriplesSettings(ImportSettings):
    """Triples (head, relation, tail), and the compositions that are drawn over them."""

    hops: int = setting(2, "relations that a composition follows", at_least=1, at_most=5)
    header: bool = setting(False, "the first line of each file names its columns")
    ood_ratio: float = setting(
        0.0, "share of the facts that no training composition may use", at_least=0, at_most=1
    )
    test_ratio: float = setting(
        0.1,
        "share of the compositions of training triples that are kept out of training",
        at_least=0,
        at_most=1,
    )
    max_train_data_num: int | None = setting(
        None, "training items, drawn from what `test_ratio` leaves (default: all)", at_least=1
    )
    test_size_for_type: int = setting(2000, "test items of each type", at_least=1)
    facts: str | None = facts_setting(None)
    seed: int = _seed()
    # What is drawn elsewhere may have more.
    validation_size = 0
    label_noise = 0.0

    @property
    def suffix(self) -> str:
        return f".{self.hops}-hop{super().suffix}"


@dataclass(frozen=True, kw_only=True)
class TableSettings(ImportSettings):
    """A table with a row for each item."""

    inputs: tuple[str, ...] = setting(
        (), "columns that are input slots", parse=columns, metavar="A,B,..."
    )
    answer: str = setting(help="column of the answer, or answer(column, ...) with what it reads")
    bridges: str | None = setting(
        None,
        'intermediate values and what each reads, such as "b1(a,b); b2(b1,c)"; the answer reads '
        "what no bridge does",
    )
    sequence: str | None = setting(
        None, "column whose words, separated by spaces, are the input slots (in place of `inputs`)"
    )
    length: int | None = setting(
        None, "with `sequence`: take the rows of this many words and leave the others", at_least=1
    )
    alphabet: str | None = setting(
        None,
        'columns that share an alphabet, such as "a,b" or "a,b; c,d" for two (each other column '
        "has its own)",
    )
    split: str | None = setting(None, "column that says train, test or valid")
    test_ratio: float = setting(
        0.2, "share of the inputs that are test items, where there is no `split`", at_least=0
    )
    type_column: str | None = setting(
        None, "column of the source's own types of items", flag="type"
    )
    contradictions: str = setting(
        "refuse",
        "rows that give one call two results. refuse: no import; drop: leave all of them; "
        "majority: keep those with the most frequent result",
        choices=("refuse", "drop", "majority"),
    )
    delimiter: str | None = setting(
        None, "what separates fields, if neither commas (.csv) nor tabs (.tsv)"
    )
    seed: int = _seed()

    def check(self) -> None:
        super().check()
        if bool(self.inputs) == bool(self.sequence):
            raise InputError("give either `inputs` or `sequence`: which columns are input slots")
        if self.length is not None and not self.sequence:
            raise InputError("`length` is about the words of a `sequence`; give both")
        if self.sequence and (self.bridges or self.alphabet or "(" in self.answer):
            raise InputError(
                "`bridges`, `alphabet` and what the answer reads are about columns of `inputs`, "
                "not about the words of a `sequence`"
            )
        if self.split and self.test_ratio != type(self).test_ratio:
            raise InputError("`split` says which rows are test items; omit `test_ratio`")
        if self.test_ratio >= 1:
            raise InputError("`test_ratio` must be below 1: something is to be trained on")
