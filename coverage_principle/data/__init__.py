"""Data sets of compositions: vocabulary, files, exact uniform sampling, generation."""

from simpletransformers.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "annotations": "ANNOTATED annotated_records answered test_records text_records "
        "write_annotations",
        "checks": "Problem Split",
        "files": "check_place digests dump_json looking_into one_writer read_arrays read_json "
        "read_lines replacing sha256 write_arrays write_dataset write_json write_text "
        "write_together",
        "formats": "dataset_files",
        "reading": "Dataset find_task load_dataset read_task",
        "settings": "FUNCTION_FAMILIES FormatSettings WorldSettings",
        "space": "CompositionSpace",
        "tables": "Table evaluate",
        "validation": "validate",
        "vocabulary": "END FILLER Codec build_vocabulary",
        "worlds": "TRAIN_INFERRED World bridge_counts draw_tables generate_world",
    },
)
