"""Data sets of compositional examples: vocabulary, files, exact uniform sampling, generation."""

from simpletransformers.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "annotations": "ANNOTATED annotated_records test_records text_records",
        "checks": "Problem Split",
        "files": "read_json sha256 write_dataset write_json write_text",
        "formats": "ATOMIC_FACTS ATOMIC_FORMATS TARGET_FORMATS FormatSettings check_include_atomic "
        "dataset_files",
        "reading": "Dataset find_task load_dataset read_task",
        "space": "CompositionSpace domain_size",
        "tables": "FUNCTION_FAMILIES Table evaluate",
        "validation": "validate",
        "vocabulary": "END FILLER Codec build_vocabulary",
        "worlds": "TRAIN_INFERRED World WorldSettings bridge_counts draw_tables generate_world",
    },
)
