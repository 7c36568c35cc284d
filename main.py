"""Train, evaluate or run a model on a data set: one CPU, one GPU, or many under torchrun."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from coverage_principle import cli
from coverage_principle.errors import InputError
from coverage_principle.paths import find_folder, relative_to_root
from coverage_principle.presets import TRAINING
from coverage_principle.tasks import TaskGraph
from simpletransformers.seq2seq import architectures
from simpletransformers.seq2seq.args import (
    ArchitectureSettings,
    RecordSettings,
    Seq2SeqArgs,
    TrainingSettings,
)
from simpletransformers.settings import Settings, setting
from simpletransformers.words import counted

#: Flags of the published main.py that change nothing here, with the reason.
WITHOUT_EFFECT = {
    "--max_seq_length": "lengths come from the data",
    "--max_length": "lengths come from the data, and nothing is cut",
    "--max_gen_length": "generation goes as far as the training targets",
    "--block_size": "lengths come from the data",
    "--dataloader_num_workers": "the data set lives on the device",
    "--gpu": "use --device, or CUDA_VISIBLE_DEVICES",
    "--world_size": "torchrun sets it",
    "--rank": "torchrun sets it",
    "--local-rank": "torchrun sets it",
    "--dist-url": "torchrun sets it",
    "--dist-backend": "nccl on GPUs, gloo on CPUs",
}

#: Flags of the published main.py that would ask for something that this trainer does not do.
REFUSED = (
    *("--add_memory", "--memory_dim", "--re_embed", "--re_embed_temp", "--relation_mean_shift"),
    *("--save_best_model", "--predict_during_training", "--prediction_cutoff"),
)


@dataclass(frozen=True)
class JobSettings(Settings):
    """What is done, with which data and model, and where it is reported."""

    data_dir: str = setting(help="data set: a path, or a name in data/")
    output_dir: str | None = setting(None, "the run's folder; needed with `do_train`")
    do_train: bool = setting(False, "train, and write a run")
    do_eval: bool = setting(False, "score the test set by type and k-cutoff")
    do_predict: bool = setting(False, "write greedy outputs to all_items.json")
    custom_train: str | None = setting(
        None, "JSON list to train on in place of the training set, such as a cut leaves"
    )
    custom_test: str | None = setting(None, "JSON list to use in place of the test set")
    test_types: tuple[str, ...] = setting(
        (), "score only these types of the test set; default: all", metavar="TYPE"
    )
    stop_on_test: bool = setting(
        False, "let the stop rules look at the test set, as published, and not at valid.json"
    )
    prediction_dir: str | None = setting(None, "where `do_predict` writes, if not to `output_dir`")
    model_type: str = setting(
        "gpt2",
        "transformers' own classes; circuit analysis reads gpt2 only",
        choices=architectures.names(),
    )
    model_name_or_path: str | None = setting(
        None,
        "with `init_weights` a size (gpt2, the default, gpt2-medium, gpt2-large, gpt2-xl), else a "
        "checkpoint folder",
    )
    init_weights: bool = setting(False, "a new model with random weights")
    add_tokens: bool = setting(False, "always so: the vocabulary is the data's")
    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps")
    wandb_project: str | None = setting(None, "report to this project of wandb (pip install wandb)")
    wandb_entity: str | None = setting(None, "wandb user or team")
    wandb_exp: str | None = setting(None, "name of the run in wandb, if not the run folder's")
    tensorboard: bool = setting(False, "write OUTPUT_DIR/tensorboard (pip install tensorboard)")

    def check(self) -> None:
        super().check()
        if not (self.do_train or self.do_eval or self.do_predict):
            raise InputError("there is nothing to do; give `do_train`, `do_eval` or `do_predict`")
        if self.test_types and self.custom_test:
            raise InputError("`test_types` chooses from the test set; omit it with `custom_test`")
        if self.do_train and self.output_dir is None:
            raise InputError("`do_train` needs `output_dir`, the folder of the run")
        if self.custom_train and not self.do_train:
            raise InputError("`custom_train` is what is trained on; give `do_train` with it")
        if self.do_predict and not (self.prediction_dir or self.output_dir):
            raise InputError("`do_predict` needs `prediction_dir`, or `output_dir`")
        if not (self.model_name_or_path or self.init_weights):
            raise InputError("give `model_name_or_path`, a checkpoint, or `init_weights`")

    def check_rules(self, records: RecordSettings) -> bool:
        """Whether a stop rule is asked for; ``InputError`` if nothing could follow it."""
        rules = "`stop_when` and `patience_epochs_after_fit`"
        if not (records.stop_when or records.patience_epochs_after_fit):
            if self.stop_on_test:
                raise InputError(f"`stop_on_test` needs one of {rules}")
            return False
        if not (self.do_train and records.evaluate_during_training):
            raise InputError(f"{rules} need `do_train` and `evaluate_during_training`")
        return True


def build_parser() -> argparse.ArgumentParser:
    parser = cli.command_parser(__doc__)
    about = (
        "settings that belong together; flags after it override it. published: those of "
        "script/train.sh; the others: the scales of script/reproduce/"
    )
    cli.add_presets(parser, TRAINING, about)
    for title, settings in (
        ("what to do, with what", JobSettings),
        ("model", ArchitectureSettings),
        ("optimisation", TrainingSettings),
        ("evaluation, records and checkpoints", RecordSettings),
    ):
        cli.add_settings(parser.add_argument_group(title), settings)
    other = parser.add_argument_group("flags of the published code")
    half = {"dest": "precision", "action": "store_const", "const": "fp16"}
    other.add_argument("--fp16", **half, default=argparse.SUPPRESS, help="--precision fp16")
    for flag, reason in WITHOUT_EFFECT.items():
        other.add_argument(flag, help=f"no effect: {reason}")
    for flag in REFUSED:
        other.add_argument(flag, nargs="?", const=True, help="refused: not offered")
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.data import load_dataset, test_records, text_records
    from simpletransformers.seq2seq import Seq2SeqModel

    is_main = int(os.environ.get("RANK", 0)) == 0
    check_published_flags(arguments, quiet=not is_main)
    job = cli.settings_from(JobSettings, arguments)
    watched = job.check_rules(cli.settings_from(RecordSettings, arguments))
    dataset = load_dataset(find_folder(job.data_dir, "data_dir", also_in="data"))
    records = test_records(dataset, job.test_types)
    if job.custom_test:
        records = text_records(Path(job.custom_test), "custom_test")
    train_records = dataset.train.all_records
    if job.custom_train:
        train_records = text_records(Path(job.custom_train), "custom_train")
    if job.do_predict:
        check_predictions(job)
    name = job.model_name_or_path or "gpt2"
    if not (job.init_weights or job.do_train):
        warn_of_other_data(find_folder(name, "model_name_or_path"), dataset)
    model = Seq2SeqModel(
        job.model_type,
        name if job.init_weights else find_folder(name, "model_name_or_path"),
        args=cli.given_settings(Seq2SeqArgs, arguments),
        new_tokens=dataset.codec.vocabulary,
        init_weights=job.init_weights,
        device=job.device,
    )
    if job.do_train:
        stop_data = stop_records(dataset, job) if watched else None
        tracked = vars(arguments) if is_main else None
        train(model, dataset, (train_records, records), job, stop_data, tracked)
    elif job.do_eval:
        scores = model.eval_model(records)
        if is_main:
            print_scores(scores, dataset.graph)
    if job.do_predict and is_main:
        predict(model, records, job, dataset.graph)


def check_published_flags(arguments: argparse.Namespace, *, quiet: bool) -> None:
    """Refuse what this trainer does not do, and say what has no effect."""
    if quiet:
        logging.disable(logging.WARNING)  # the first process speaks for all
    for flag in (*REFUSED, *WITHOUT_EFFECT):
        if getattr(arguments, flag.lstrip("-").replace("-", "_")) is None:
            continue
        if flag in REFUSED:
            raise InputError(f"{flag} is not offered by this trainer; omit it")
        reason = WITHOUT_EFFECT[flag]
        logging.getLogger("main").warning("warning: %s has no effect: %s", flag, reason)


def warn_of_other_data(checkpoint: Path, dataset) -> None:
    """Say so if the checkpoint's run recorded other training items than the data set's."""
    from coverage_principle.circuits import changed_since

    if "train.json" in changed_since(checkpoint.parent, dataset.path):
        told = "warning: %s was trained on other items than those in train.json of %s"
        logging.getLogger("main").warning(told, checkpoint, relative_to_root(dataset.path))


def stop_records(dataset, job: JobSettings) -> list[dict] | None:
    """The validation items for the stop rules; None if the test set serves."""
    if job.stop_on_test:
        return None
    if dataset.valid is None:
        raise InputError(
            "`stop_when` and `patience_epochs_after_fit` need a validation split, which "
            f"{dataset.name} lacks; generate it with --validation_size, or add `stop_on_test`"
        )
    return dataset.valid.all_records


def train(model, dataset, records, job: JobSettings, stop_data, tracked: dict | None) -> None:
    """Train with a live line, then print how the run ended.

    ``records`` are those that are trained on, and those of the test set; ``tracked`` the settings
    that trackers show, None on all processes but the first.
    """
    from coverage_principle.data import sha256
    from coverage_principle.reporting.run_card import write_run_card
    from simpletransformers.seq2seq.run_folder import RunFolder
    from simpletransformers.seq2seq.trackers import Trackers

    folder, line, trackers = Path(job.output_dir), LiveLine(), None
    if tracked is not None:
        wandb = {"project": job.wandb_project, "entity": job.wandb_entity, "name": job.wandb_exp}
        trackers = Trackers(folder, tracked, **wandb, tensorboard=job.tensorboard)
    types = {str(record["type"]) for record in records[1] if "type" in record}
    about = {
        "name": dataset.name,
        "path": relative_to_root(dataset.path),
        "sha256": dataset.digests,
        "answers": dataset.sizes([dataset.graph.answer])[0],
        # For the card and the pages of the run, which have no task to ask.
        "types": {name: dataset.graph.explained(name) for name in sorted(types)},
    }
    if job.custom_train:
        own = Path(job.custom_train)
        about["custom_train"] = {"path": relative_to_root(own), "sha256": sha256(own)}

    def report(event: dict) -> None:
        trackers.log(event)
        line.show(event)

    options = {"stop_data": stop_data, "report": report, "run_info": {"dataset": about}}
    try:
        result = model.train_model(*records, folder, **options)
    finally:  # a refusal has a line of its own
        line.close()
    if trackers is None:
        return
    trackers.close()
    step, reason = result.step, result.reason
    if not result.complete:
        sys.exit(f"stopped by {reason} after step {step}; --resume goes on from there")
    ended = "all steps done" if reason == "finished" else f"stopped early: {reason}"
    events = [event for event in RunFolder(folder).events() if "eval" in event]
    if events:
        print_scores(events[-1]["eval"], dataset.graph)
        write_run_card(folder, ended, dataset.sizes([dataset.graph.answer])[0])
    if reason != "finished":
        print(ended)
    print(f"{counted(step, 'step')} done; run: {relative_to_root(folder)}")


class LiveLine:
    """The progress of a training, drawn from its first event on: nothing is refused after that."""

    def __init__(self) -> None:
        self._bar = None
        self._notes: dict[str, str] = {}

    def show(self, event: dict) -> None:
        from tqdm import tqdm

        if self._bar is None:
            every = {"dynamic_ncols": True, "mininterval": cli.refresh_seconds()}
            self._bar = tqdm(total=event["total_steps"], desc="training", unit="step", **every)
        if event["train_loss"] is not None:  # an evaluation may come before the first log entry
            self._notes["loss"] = f"{event['train_loss']:.4f}"
        self._notes["items/s"] = f"{event['items_per_s']:,.0f}"
        if "mfu" in event:
            self._notes["MFU"] = f"{event['mfu']:.0%}"
        for group, scores in event.get("eval", {}).items():
            if "/" not in group:
                self._notes[group] = f"{scores['answer_accuracy']:.2f}"
        self._bar.set_postfix(self._notes, refresh=False)
        self._bar.update(event["step"] - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def print_scores(scores: dict, graph: TaskGraph) -> None:
    """A table of groups: items, loss, accuracies; the task says what its types are."""
    names = list(next(iter(scores.values())))
    rows = [
        [
            graph.explained(group),
            *(f"{v:,}" if name == "n" else f"{v:.4f}" for name, v in values.items()),
        ]
        for group, values in scores.items()
    ]
    print(cli.table(["group", *names], rows))


def predictions_file(job: JobSettings) -> Path:
    name = Path(job.custom_test).name if job.custom_test else "all_items.json"
    return Path(job.prediction_dir or job.output_dir) / name


def check_predictions(job: JobSettings) -> None:
    """Refuse a place for the predictions that cannot be, before the model is trained or run."""
    from coverage_principle.data import check_place

    file = check_place(predictions_file(job), file=True)
    if job.custom_test and file.resolve() == Path(job.custom_test).resolve():
        raise InputError(
            f"the predictions would replace `custom_test` {job.custom_test}; give another "
            "`prediction_dir`"
        )


def predict(model, records: list[dict], job: JobSettings, graph: TaskGraph) -> None:
    """Write every record with its ``model_output``; print exact match by type."""
    from coverage_principle.data import answered, write_json

    outputs = model.predict([record["input_text"] for record in records])
    items = [{**r, "model_output": o} for r, o in zip(records, outputs, strict=True)]
    file = predictions_file(job)
    write_json(file, items, one_per_line=True)
    right: dict[str, list[bool]] = {}
    for item, exact in zip(items, answered(items), strict=True):
        right.setdefault(item.get("type", "all"), []).append(exact)
    rows = [
        [graph.explained(kind), f"{len(r):,}", f"{sum(r) / len(r):.4f}"]
        for kind, r in sorted(right.items())
    ]
    print(cli.table(["type", "n", "exact_match"], rows))
    print(f"outputs: {relative_to_root(file)}")


if __name__ == "__main__":
    cli.run(build_parser(), main)
