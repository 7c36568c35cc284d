"""Data sets of compositions: vocabulary, files, exact uniform sampling, generation."""

from simpletransformers.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "annotations": "ANNOTATED GRADED_FIELDS annotated_records answered test_records "
        "text_records write_annotations",
        "checks": "Split",
        "records": "check_training_memory",
        "lazy_records": "LazyRecords keys_of record_column record_list records_at records_with",
        "files": "check_place digests dump_json looking_into one_writer read_arrays read_json "
        "read_lines replacing sha256 write_arrays write_dataset write_json write_text "
        "write_together",
        "contents": "Contents Facts Items",
        "formats": "contents_files dataset_files table_files",
        "grokked": "EntityWorld data_set_name draw_entities generate_entity_world",
        "grokked_layout": "layout_dataset",
        "problems": "Problem grouped",
        "prompt_settings": "PromptSettings",
        "reading": "Dataset find_task load_dataset read_task",
        "relational": "comparison_graph composition_graph",
        "sentences": "Template alphabet_tokens item_tokens token_names",
        "settings": "EntityWorldSettings FUNCTION_FAMILIES FormatSettings WorldSettings",
        "space": "CompositionSpace",
        "tables": "Table evaluate",
        "validation": "validate",
        "vocabulary": "END FILLER Codec build_vocabulary name_of token_of",
        "worlds": "World bridge_counts draw_tables generate_world",
    },
)
