"""Data of others as data sets: an importer for each kind of source."""

from simpletransformers.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "common": "Imported",
        "registry": "IMPORTERS Importer folder_name import_source",
        "settings": "GrokkedSettings ImportSettings TableSettings TriplesSettings",
    },
)
