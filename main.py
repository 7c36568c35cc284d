"""Train a model on a data set, score it, or write its answers: on a CPU, a GPU, or many (torchrun).

Training writes a run: a folder with checkpoints, the history of losses and scores, curves and a
card. A new model needs --init_weights; an old one is named by --model_name_or_path. Test items are
scored by type (type_0: new compositions of facts that training shows; the others need a fact that
it never shows) and, once determine_coverage.py --k_sweep has looked at the data set, by k-cutoff:
how firmly the training set covers an item.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from coverage_principle import cli
from coverage_principle.errors import InputError
from coverage_principle.paths import find_folder, relative_to_root
from coverage_principle.presets import TRAINING
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

    data_dir: str = setting(help="the data set's folder, or the name of one in data/", group="data")
    output_dir: str | None = setting(
        None, "the run's folder, which `do_train` writes", group="checkpoints"
    )
    do_train: bool = setting(False, "train, and write a run to `output_dir`", group="job")
    do_eval: bool = setting(
        False,
        "score the test set by type and k-cutoff",
        group="job",
    )
    do_predict: bool = setting(
        False, "write the model's answer to every test item to all_items.json", group="job"
    )
    custom_train: str | None = setting(
        None,
        "JSON list to train on in place of the training set, such as "
        "determine_coverage.py --cut_file writes",
        metavar="FILE",
        group="data",
    )
    custom_test: str | None = setting(
        None, "JSON list to use in place of the test set", metavar="FILE", group="data"
    )
    eval_loops: tuple[int, ...] = setting(
        (),
        "run the stack of blocks so often in `do_eval` and `do_predict`, instead of as often as in "
        "training; several: a table of `do_eval`",
        at_least=1,
        at_most=1000,
        metavar="R",
        group="evaluation",
    )
    test_types: tuple[str, ...] = setting(
        (),
        "score only test items of these types, such as type_0 (default: all)",
        metavar="TYPE",
        group="evaluation",
    )
    stop_on_test: bool = setting(
        False,
        "let `stop_when` and `patience_epochs_after_fit` look at the test set, as published, and "
        "not at valid.json",
        group="length",
    )
    prediction_dir: str | None = setting(
        None, "where `do_predict` writes (default: `output_dir`)", group="prediction"
    )
    model_type: str | None = setting(
        None,
        "transformers' own classes; all can be analysed, mamba by its residual stream (default: "
        "gpt2; of a checkpoint, what it holds)",
        choices=architectures.names(),
        group="model",
    )
    model_name_or_path: str | None = setting(
        None,
        "a checkpoint's folder; with `init_weights` a size: gpt2 (the default), gpt2-medium, "
        "gpt2-large or gpt2-xl; with `model_file` also a plain state dict, .pt or .safetensors",
        metavar="DIR",
        group="model",
    )
    model_file: str | None = setting(
        None,
        "a Python file of yours whose build(config) makes the model (docs/extending.md); its code "
        "is run, so name none that you do not trust",
        metavar="FILE",
        group="model",
    )
    token_map: str | None = setting(
        None,
        "of a checkpoint trained elsewhere, to `do_eval` or `do_predict`, or of a state dict: a "
        "JSON object from the data set's tokens to the model's, ids or texts",
        metavar="FILE",
        group="model",
    )
    trust_code: bool = setting(
        False,
        "run the model file that the checkpoint holds; read it first, as it can do anything",
        group="model",
    )
    save_model: str | None = setting(
        None,
        "write the loaded model to this folder as a checkpoint, which analyses take",
        metavar="DIR",
        group="checkpoints",
    )
    init_weights: bool = setting(False, "a new model with random weights", group="model")
    add_tokens: bool = setting(False, "always so: the vocabulary is the data's", group="kept")
    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps", group="devices")
    wandb_project: str | None = setting(
        None,
        "report to this project of wandb (pip install wandb)",
        metavar="NAME",
        group="logging",
    )
    wandb_entity: str | None = setting(None, "wandb user or team", metavar="NAME", group="logging")
    wandb_exp: str | None = setting(
        None,
        "name of the run in wandb (default: the run folder's)",
        metavar="NAME",
        group="logging",
    )
    tensorboard: bool = setting(
        False, "write OUTPUT_DIR/tensorboard (pip install tensorboard)", group="logging"
    )

    def check(self) -> None:
        super().check()
        if not (self.do_train or self.do_eval or self.do_predict or self.save_model):
            raise InputError("there is nothing to do; give `do_train`, `do_eval` or `do_predict`")
        if self.save_model and self.do_train:
            raise InputError("`do_train` writes checkpoints itself; omit `save_model`")
        if self.model_file and self.model_type:
            raise InputError("`model_file` makes the model; omit `model_type`")
        if self.test_types and self.custom_test:
            raise InputError("`test_types` chooses from the test set; omit it with `custom_test`")
        if self.do_train and self.output_dir is None:
            raise InputError("`do_train` needs `output_dir`, the folder of the run")
        others = () if self.model_file else ("do_train", "save_model")
        for name in ("init_weights", *others):
            if self.token_map and getattr(self, name):
                only = "is for a checkpoint trained elsewhere, to score and ask it"
                raise InputError(f"`token_map` {only}; omit `{name}`")
        if self.custom_train and not self.do_train:
            raise InputError("`custom_train` is what is trained on; give `do_train` with it")
        for name in ("do_train", "init_weights", "save_model", "model_file"):
            if self.eval_loops and getattr(self, name):
                raise InputError(
                    "`eval_loops` runs the blocks of a trained model more or less often, to score "
                    f"it; omit `{name}`"
                )
        if self.do_predict and len(self.eval_loops) > 1:
            raise InputError("`do_predict` writes one file; give one of the `eval_loops`")
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


_DATA = "python main.py --data_dir data/twohop.20.1500.diff-f12.inf"
_RUN = "CKPT_DIR/trained_checkpoints/first"
EXAMPLES = (
    (
        "a small model on a CPU, in a few minutes; the run is CKPT_DIR/trained_checkpoints/first",
        f"{_DATA} --preset cpu --init_weights --do_train --evaluate_during_training "
        f"--output_dir {_RUN}",
    ),
    (
        "train on: 1,000 steps more",
        f"{_DATA} --preset cpu --init_weights --do_train --evaluate_during_training "
        f"--output_dir {_RUN} --resume --max_steps 3500",
    ),
    (
        "the answers of that model to the test items",
        f"{_DATA} --do_predict --model_name_or_path {_RUN}/final_checkpoint "
        "--prediction_dir results/first",
    ),
    (
        "the published model, 8 layers and 12 heads (needs a GPU)",
        f"{_DATA} --preset published --output_dir CKPT_DIR/trained_checkpoints/published",
    ),
)


def build_parser() -> argparse.ArgumentParser:
    parser = cli.command_parser(__doc__, EXAMPLES)
    after = ("stop_on_test", "test_types")  # these come last in their groups
    cli.add_settings(parser, JobSettings, omit=after)
    for settings in (ArchitectureSettings, TrainingSettings, RecordSettings):
        cli.add_settings(parser, settings)
    cli.add_settings(parser, JobSettings, only=after)
    about = (
        "settings that belong together; flags after it override it. published: those of "
        "script/train.sh; the others: the scales of script/reproduce/ (tiny: seconds, cpu: minutes "
        "on a CPU, night: as cpu, in bf16, for CPUs that multiply it, gpu: hours on a GPU, paper: "
        "as published)"
    )
    cli.add_presets(cli.group_of(parser, "job"), TRAINING, about)
    half = {"dest": "precision", "action": "store_const", "const": "fp16"}
    half |= {"default": argparse.SUPPRESS, "help": "the same as --precision fp16"}
    cli.group_of(parser, "devices").add_argument("--fp16", **half)
    kept = cli.group_of(parser, "kept")
    kept.description = f"(Refused, as they ask for what is not offered: {', '.join(REFUSED)}.)"
    for flag, reason in WITHOUT_EFFECT.items():
        kept.add_argument(flag, help=reason, metavar="VALUE")
    for flag in REFUSED:
        kept.add_argument(flag, nargs="?", const=True, help=argparse.SUPPRESS)
    return parser


def main(arguments: argparse.Namespace) -> None:
    from coverage_principle.data import (
        check_place,
        check_training_memory,
        load_dataset,
        test_records,
        text_records,
    )
    from simpletransformers.files import replacing_folder
    from simpletransformers.seq2seq import Seq2SeqModel

    is_main = int(os.environ.get("RANK", 0)) == 0
    check_published_flags(arguments, quiet=not is_main)
    job = cli.settings_from(JobSettings, arguments)
    watched = job.check_rules(cli.settings_from(RecordSettings, arguments))
    folder = find_folder(job.data_dir, "data_dir", also_in="data")
    if job.do_train:
        check_training_memory(folder, [Path(f) for f in (job.custom_train, job.custom_test) if f])
    dataset = load_dataset(folder)
    records = test_records(dataset, job.test_types)
    if job.custom_test:
        records = text_records(Path(job.custom_test), "custom_test")
    train_records = dataset.train.all_records
    if job.custom_train:
        train_records = text_records(Path(job.custom_train), "custom_train")
    if job.do_predict:
        check_predictions(job)
    name = job.model_name_or_path or "gpt2"
    state_dict = job.model_file and not job.init_weights and Path(name).is_file()
    if not (job.init_weights or state_dict):
        name = find_folder(name, "model_name_or_path")
        if not job.do_train:
            warn_of_other_data(name, dataset)
    if job.save_model and check_place(Path(job.save_model)).exists():
        raise InputError(f"`save_model` {job.save_model} exists already; give another folder")
    tokens = None
    if job.token_map:
        from coverage_principle.circuits import TokenMap

        rows = arguments.pad_vocab_to
        if job.model_file and not (state_dict and rows):
            only = "is of a state dict, of which `pad_vocab_to` says how many ids it has"
            raise InputError(f"`token_map` with `model_file` {only}")
        size = rows if state_dict else None
        tokens = TokenMap.read(job.token_map, dataset).with_end(Path(name), size)
    loops, *more_loops = job.eval_loops or [None]
    load = partial(
        Seq2SeqModel,
        job.model_type,
        name,
        args=asked_for(arguments),
        new_tokens=dataset.codec.vocabulary,
        init_weights=job.init_weights,
        device=job.device,
        to_train=job.do_train or job.save_model is not None,
        model_file=job.model_file,
        trust_code=job.trust_code,
        token_ids=tokens,
    )
    model = load(eval_loops=loops)
    if not job.do_train and (job.do_predict or job.save_model):
        model.learn_length(train_records)
    if job.do_train:
        stop_data = stop_records(dataset, job) if watched else None
        tracked = vars(arguments) if is_main else None
        train(model, dataset, (train_records, records), job, stop_data, tracked)
    elif job.do_eval:
        by_loops = {loops: model.eval_model(records)}
        by_loops |= {more: load(eval_loops=more).eval_model(records) for more in more_loops}
        if is_main:
            print_scores(by_loops[loops], dataset, by_loops if more_loops else None)
    if job.do_predict and is_main:
        predict(model, records, job, dataset)
    if job.save_model and is_main:
        with replacing_folder(job.save_model) as place:
            model.save(place)
        print(f"checkpoint: {relative_to_root(Path(job.save_model))}")


def asked_for(arguments: argparse.Namespace) -> dict[str, object]:
    """Settings of training and model; what is off because nobody gave its flag is left out."""
    given = cli.given_settings(Seq2SeqArgs, arguments)
    return {name: value for name, value in given.items() if value is not False}


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


def stop_records(dataset, job: JobSettings) -> Sequence[dict] | None:
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
    from coverage_principle.data import record_column, sha256
    from coverage_principle.reporting.run_card import write_run_card
    from simpletransformers.seq2seq.run_folder import RunFolder
    from simpletransformers.seq2seq.trackers import Trackers

    folder, line, trackers = Path(job.output_dir), cli.LiveLine(), None
    answers = dataset.sizes([dataset.graph.answer])[0]
    if tracked is not None:
        wandb = {"project": job.wandb_project, "entity": job.wandb_entity, "name": job.wandb_exp}
        trackers = Trackers(folder, tracked, **wandb, tensorboard=job.tensorboard)
    types = {str(name) for name in record_column(records[1], "type")[0] if name is not None}
    about = {
        "name": dataset.name,
        "path": relative_to_root(dataset.path),
        "sha256": dataset.digests,
        "answers": answers,
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
        print_scores(events[-1]["eval"], dataset)
        write_run_card(folder, ended, answers)
    if reason != "finished":
        print(ended)
    print(f"{counted(step, 'step')} done; run: {relative_to_root(folder)}")


def print_scores(scores: dict, dataset, by_loops: dict | None = None) -> None:
    """A table of groups: items, loss, accuracies; below it the level of guessing.

    With ``by_loops``, the scores for each number of loops, a table of their accuracies instead.
    """
    from coverage_principle.reporting.scores import loop_rows, score_note, score_rows

    called = {group: dataset.graph.explained(group) for group in scores}
    if by_loops:
        print("answer_accuracy by loops")
    print(cli.table(*(loop_rows(by_loops, called) if by_loops else score_rows(scores, called))))
    print(score_note(*dataset.sizes([dataset.graph.answer])))


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


def predict(model, records: Sequence[dict], job: JobSettings, dataset) -> None:
    """Write every record with its ``model_output``; print exact match by type."""
    from coverage_principle.data import answered, write_json
    from coverage_principle.reporting.scores import exact_match_rows

    outputs = model.predict([record["input_text"] for record in records])
    items = [{**r, "model_output": o} for r, o in zip(records, outputs, strict=True)]
    file = predictions_file(job)
    write_json(file, items, one_per_line=True)
    kinds = [item.get("type", "all") for item in items]
    called = {kind: dataset.graph.explained(kind) for kind in set(kinds)}
    print(cli.table(*exact_match_rows(kinds, answered(items), called)))
    (answers,) = dataset.sizes([dataset.graph.answer])
    print(f"intervals: Wilson's; one of {answers:,} answers is {1 / answers:.4f}")
    print(f"outputs: {relative_to_root(file)}")


if __name__ == "__main__":
    cli.run(build_parser(), main)
