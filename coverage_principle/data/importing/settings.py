"""What each importer can be told. The standard library is enough here."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from coverage_principle.data.settings import (
    chain_of_thought_setting,
    facts_setting,
    ood_ratio_setting,
    test_size_setting,
)
from coverage_principle.errors import InputError
from simpletransformers.settings import MOST_SEED, Settings, setting

#: Rows, triples or records that one import may hold; beyond it memory is not what it should be.
MOST_ROWS = 4_000_000


def columns(text: str) -> tuple[str, ...]:
    """For ``type=``: names of columns, separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _seed() -> int:
    about = "of everything that is drawn; same arguments, same files"
    return setting(42, about, at_least=0, at_most=MOST_SEED, metavar="SEED", group="test")


def _test_ratio(default: float, about: str, **bounds: float) -> float:
    return setting(default, about, at_least=0, metavar="SHARE", group="test", **bounds)


@dataclass(frozen=True)
class ImportSettings(Settings):
    """What every importer can be told."""

    cot: bool = chain_of_thought_setting()

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
        "what the records are; auto: told by the tokens <q> and <mask>, which comparisons have",
        choices=("auto", "composition", "comparison"),
        group="source",
    )
    hops: int | None = setting(
        None,
        "relations that a composition follows (needed if train.json has several lengths)",
        at_least=2,
        group="source",
    )


@dataclass(frozen=True)
class TriplesSettings(ImportSettings):
    """Triples (head, relation, tail), and the compositions that are drawn over them."""

    hops: int = setting(
        2, "relations that a composition follows", at_least=1, at_most=5, group="task"
    )
    header: bool = setting(False, "the first line of each file names its columns", group="source")
    ood_ratio: float = ood_ratio_setting(0.0)
    test_ratio: float = _test_ratio(
        0.1, "share of the compositions of usable facts that is kept out of training", at_most=1
    )
    max_train_data_num: int | None = setting(
        None,
        "training items, drawn from what `test_ratio` leaves (default: all)",
        at_least=1,
        group="training",
    )
    test_size_for_type: int = test_size_setting(2000)
    facts: str | None = facts_setting(None, " (default: in_domain; with `hops` 1: none)")
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
        (),
        "columns that are the input slots, in their order",
        parse=columns,
        metavar="A,B,...",
        group="task",
    )
    answer: str = setting(
        help="column of the answer, which depends on all that no bridge is computed from; if not, "
        'with what it depends on, such as "price(zone,weight)"',
        metavar="COLUMN",
        group="task",
    )
    bridges: str | None = setting(
        None,
        "columns of intermediate values and what each is computed from, such as "
        '"b1(a,b); b2(b1,c)" (default: none)',
        metavar="B(A,...)",
        group="task",
    )
    sequence: str | None = setting(
        None,
        "in place of `inputs`: column whose words, separated by spaces, are the input slots",
        metavar="COLUMN",
        group="task",
    )
    length: int | None = setting(
        None, "with `sequence`: take only rows of so many words", at_least=1, group="task"
    )
    alphabet: str | None = setting(
        None,
        'columns whose values are the same things, such as "a,b", or "a,b; c,d" for two kinds '
        "(default: each column has values of its own)",
        metavar="A,B;...",
        group="task",
    )
    split: str | None = setting(
        None, "column that says train, test or valid", metavar="COLUMN", group="source"
    )
    test_ratio: float = _test_ratio(
        0.2, "share of the inputs that become test items, where there is no `split`"
    )
    type_column: str | None = setting(
        None,
        "column of the source's own types of items, which are kept beside ours",
        flag="type",
        metavar="COLUMN",
        group="source",
    )
    contradictions: str = setting(
        "refuse",
        "what is done with rows that give one function call two results. refuse: nothing is "
        "imported; drop: all of them are left out; majority: those with the most frequent result "
        "are kept",
        choices=("refuse", "drop", "majority"),
        group="source",
    )
    delimiter: str | None = setting(
        None,
        "what separates fields (default: commas in a .csv, tabs in a .tsv)",
        metavar="CHARACTER",
        group="source",
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
