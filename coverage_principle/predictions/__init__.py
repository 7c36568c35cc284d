"""What any model answered to the test items of a data set, and what told it beforehand."""

from simpletransformers.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "evaluation": "accuracy agreement evaluate_predictions prediction_of_answers",
        "ideal": "IdealPredictions ideal_predictions",
        "reading": "CONTRADICTING MISSING OUTPUTS UNPARSABLE Predictions answer_values "
        "prediction_records read_predictions",
    },
)
