"""Data sets of compositional examples: vocabulary, files, exact uniform sampling, generation."""

from coverage_principle.data.annotations import (
    ANNOTATED,
    annotated_records,
    test_records,
    text_records,
)
from coverage_principle.data.checks import Problem, Split
from coverage_principle.data.files import read_json, sha256, write_dataset, write_json, write_text
from coverage_principle.data.formats import (
    ATOMIC_FACTS,
    ATOMIC_FORMATS,
    TARGET_FORMATS,
    FormatSettings,
    check_include_atomic,
    dataset_files,
)
from coverage_principle.data.reading import Dataset, find_task, load_dataset, read_task
from coverage_principle.data.space import CompositionSpace, domain_size
from coverage_principle.data.tables import FUNCTION_FAMILIES, Table, evaluate
from coverage_principle.data.validation import validate
from coverage_principle.data.vocabulary import END, FILLER, Codec, build_vocabulary
from coverage_principle.data.worlds import (
    TRAIN_INFERRED,
    World,
    WorldSettings,
    bridge_counts,
    draw_tables,
    generate_world,
)

__all__ = [
    "ANNOTATED",
    "ATOMIC_FACTS",
    "ATOMIC_FORMATS",
    "END",
    "FILLER",
    "FUNCTION_FAMILIES",
    "TARGET_FORMATS",
    "TRAIN_INFERRED",
    "Codec",
    "CompositionSpace",
    "Dataset",
    "FormatSettings",
    "Problem",
    "Split",
    "Table",
    "World",
    "WorldSettings",
    "annotated_records",
    "bridge_counts",
    "build_vocabulary",
    "check_include_atomic",
    "dataset_files",
    "domain_size",
    "draw_tables",
    "evaluate",
    "find_task",
    "generate_world",
    "load_dataset",
    "read_json",
    "read_task",
    "sha256",
    "test_records",
    "text_records",
    "validate",
    "write_dataset",
    "write_json",
    "write_text",
]
