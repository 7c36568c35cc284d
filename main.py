"""Train, evaluate or run a GPT-2 on a data set: one CPU, one GPU, or many under torchrun."""

from __future__ import annotations

import argparse

from coverage_principle.cli import refresh_seconds, run
from simpletransformers.seq2seq import architectures

SCHEDULERS = (
    "constant_schedule",
    "constant_schedule_with_warmup",
    "linear_schedule_with_warmup",
    "cosine_schedule_with_warmup",
    "cosine_with_hard_restarts_schedule_with_warmup",
    "polynomial_decay_schedule_with_warmup",
)

#: Flags of the published main.py that change nothing here, with the reason.
WITHOUT_EFFECT = {
    "--max_seq_length": "lengths come from the data",
    "--max_length": "lengths come from the data, and nothing is cut",
    "--max_gen_length": "generation goes as far as the training targets",
    "--block_size": "lengths come from the data",
    "--dataloader_num_workers": "the data set lives on the device",
    "--gpu": "use --device, or CUDA_VISIBLE_DEVICES",
    "--world_size": "torchrun tells it",
    "--rank": "torchrun tells it",
    "--local-rank": "torchrun tells it",
    "--dist-url": "torchrun tells it",
    "--dist-backend": "nccl on GPUs, gloo on CPUs",
}

#: Flags of the published main.py that would ask for something that this trainer does not do.
REFUSED = (
    "--add_memory",
    "--memory_dim",
    "--re_embed",
    "--re_embed_temp",
    "--relation_mean_shift",
    "--save_best_model",
    "--predict_during_training",
    "--prediction_cutoff",
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    task = parser.add_argument_group("what to do")
    add = task.add_argument
    add("--data_dir", required=True, help="data set: a path, or a name in data/")
    add("--output_dir", default=None, help="the run's folder; needed with --do_train")
    add("--do_train", action="store_true", help="train, and write a run")
    add("--do_eval", action="store_true", help="score the test set by type and k-cutoff")
    add("--do_predict", action="store_true", help="write greedy outputs to all_items.json")
    add("--custom_test", default=None, help="JSON list to use in place of the test set")
    add(
        "--test_types",
        nargs="+",
        default=(),
        metavar="TYPE",
        help="score only these types of the test set; default: all",
    )
    add("--prediction_dir", default=None, help="where --do_predict writes, if not --output_dir")

    model = parser.add_argument_group("model")
    add = model.add_argument
    add(
        "--model_type",
        default="gpt2",
        choices=architectures.names(),
        help="transformers' own classes; circuit analysis reads gpt2 only",
    )
    add(
        "--model_name_or_path",
        required=True,
        help="with --init_weights a size (gpt2, gpt2-medium, gpt2-large, gpt2-xl), else a "
        "checkpoint folder",
    )
    add("--init_weights", action="store_true", help="a new model with random weights")
    add("--add_tokens", action="store_true", help="always so: the vocabulary is the data's")
    add("--n_layer", type=int, default=None, help="layers, if not the size's own")
    add("--n_head", type=int, default=None, help="heads, if not the size's own")
    add("--n_embd", type=int, default=None, help="hidden dimensions, if not the size's own")
    add("--n_inner", type=int, default=None, help="MLP dimensions, if not 4 * n_embd")
    add("--no_dropout", action="store_true", help="dropout 0 instead of 0.1")
    add("--no_ln", action="store_true", help="no layer norms at all")
    add("--no_mlp", action="store_true", help="blocks of attention alone")
    add("--share_mlp", action="store_true", help="one MLP with its norm for all blocks")
    add(
        "--add_recurrence",
        action="store_true",
        help="the whole stack of blocks twice, with the same weights",
    )
    add(
        "--pad_vocab_to",
        type=int,
        default=None,
        help="rows of the embedding, 50312 as published; else the next multiple of 8",
    )

    optim = parser.add_argument_group("optimisation")
    add = optim.add_argument
    add("--train_batch_size", type=int, default=16, help="items of a step, over all processes")
    add("--gradient_accumulation_steps", type=int, default=1, help="multiplies the batch")
    add(
        "--micro_batch_size",
        type=int,
        default=None,
        help="items of one forward pass of a process, if not what fits in memory",
    )
    add("--max_steps", type=int, default=0, help="exact; 0: --num_train_epochs decides")
    add("--num_train_epochs", type=float, default=20, help="used if --max_steps is 0")
    add("--learning_rate", type=float, default=4e-5, help="peak of the schedule")
    add("--weight_decay", type=float, default=0.01, help="not applied to biases and norms")
    add(
        "--scheduler",
        choices=SCHEDULERS,
        default="linear_schedule_with_warmup",
        help="learning-rate schedule",
        metavar="NAME",
    )
    add("--warmup_steps", type=int, default=2000, help="0: none")
    add("--manual_seed", type=int, default=42, help="weights, order of the data, dropout")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="fp32",
        help="auto: bf16 on a GPU that has it, fp32 on a CPU",
    )
    add(
        "--fp16",
        dest="precision",
        action="store_const",
        const="fp16",
        help="--precision fp16",
        default=argparse.SUPPRESS,
    )
    add("--compile", action="store_true", help="torch.compile: a slow start, faster steps")
    add(
        "--cuda_graphs",
        action="store_true",
        help="record a step once and replay it: for small models on one GPU, where launching "
        "kernels takes longer than running them",
    )
    add("--train_on_end_token", action="store_true", help="loss on </a> too")

    records = parser.add_argument_group("evaluation, records and checkpoints")
    add = records.add_argument
    add("--evaluate_during_training", action="store_true", help="every --eval_steps")
    add("--eval_steps", type=int, default=25, help="steps between evaluations")
    add("--eval_batch_size", type=int, default=4096, help="items of one forward pass")
    add("--logging_steps", type=int, default=10, help="steps between log entries")
    add("--save_step", type=int, default=0, help="a checkpoint every so many steps; 0: none")
    add("--save_step_dense", type=int, default=-1, help="up to this step ...")
    add("--save_step_dense_interval", type=int, default=2000, help="... save every so many steps")
    add(
        "--save_fine_step_list",
        type=int,
        nargs="+",
        default=(),
        help="save every step in the 1,000 from each of these",
    )
    add(
        "--save_log_spaced",
        type=int,
        default=0,
        metavar="N",
        help="N checkpoints for each factor of ten in steps",
    )
    add("--keep", type=int, default=0, help="only the last so many --save_step checkpoints; 0: all")
    add(
        "--stop_when",
        default=None,
        metavar="RULE",
        help='stop once an evaluation of the validation split reaches "type_0>=0.99"',
    )
    add(
        "--patience_epochs_after_fit",
        type=float,
        default=0,
        metavar="EPOCHS",
        help="stop so long after train_inferred >= 0.99 (published: 100); 0: never",
    )
    add(
        "--stop_on_test",
        action="store_true",
        help="let these two look at the test set, as published",
    )
    add(
        "--resume_state_minutes", type=float, default=10, help="keep what --resume needs this often"
    )
    add("--resume", action="store_true", help="go on where the run stopped, if it was started")
    add(
        "--overwrite_output_dir",
        action="store_true",
        help="replace a run that is there; with --resume, if it has other settings",
    )

    add("--wandb_project", default=None, help="report to this project of wandb (pip install wandb)")
    add("--wandb_entity", default=None, help="wandb user or team")
    add("--wandb_exp", default=None, help="name of the run in wandb, if not the run folder's")
    add(
        "--tensorboard",
        action="store_true",
        help="write OUTPUT_DIR/tensorboard (pip install tensorboard)",
    )

    other = parser.add_argument_group("flags of the published code")
    for flag, reason in WITHOUT_EFFECT.items():
        other.add_argument(flag, default=None, help=f"no effect: {reason}")
    for flag in REFUSED:
        other.add_argument(flag, nargs="?", const=True, default=None, help="refused: not offered")
    return parser


def main(arguments: argparse.Namespace) -> None:
    import os
    from pathlib import Path

    from coverage_principle.data import load_dataset, test_records, text_records
    from coverage_principle.paths import find_folder
    from simpletransformers.seq2seq import Seq2SeqModel

    check_flags(arguments)
    dataset = load_dataset(find_folder(arguments.data_dir, "--data_dir", also_in="data"))
    records = test_records(dataset, arguments.test_types)
    if arguments.custom_test:
        records = text_records(Path(arguments.custom_test), "--custom_test")
    model = Seq2SeqModel(
        arguments.model_type,
        arguments.model_name_or_path
        if arguments.init_weights
        else find_folder(arguments.model_name_or_path, "--model_name_or_path"),
        args=model_arguments(arguments),
        new_tokens=dataset.codec.vocabulary,
        init_weights=arguments.init_weights,
        device=arguments.device,
    )
    is_main = int(os.environ.get("RANK", 0)) == 0
    if arguments.do_train:
        train(model, dataset, records, arguments, is_main)
    elif arguments.do_eval:
        scores = model.eval_model(records)
        if is_main:
            print_scores(scores)
    if arguments.do_predict and is_main:
        predict(model, records, arguments)


def check_flags(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be done, and say what has no effect."""
    import logging
    import os

    from coverage_principle.errors import InputError

    def given(flag: str) -> bool:
        return getattr(arguments, flag.lstrip("-").replace("-", "_")) is not None

    if int(os.environ.get("RANK", 0)) > 0:
        logging.disable(logging.WARNING)  # the first process speaks for all
    for flag in filter(given, REFUSED):
        raise InputError(f"{flag} is not offered by this trainer; leave it away")
    for flag in filter(given, WITHOUT_EFFECT):
        logging.getLogger("main").warning(
            "warning: %s has no effect: %s", flag, WITHOUT_EFFECT[flag]
        )
    if not (arguments.do_train or arguments.do_eval or arguments.do_predict):
        raise InputError("there is nothing to do; give --do_train, --do_eval or --do_predict")
    if arguments.test_types and arguments.custom_test:
        raise InputError("--test_types chooses from the test set; leave it away with --custom_test")
    if arguments.do_train and arguments.output_dir is None:
        raise InputError("--do_train needs --output_dir, the folder of the run")
    if arguments.stop_on_test and not (arguments.stop_when or arguments.patience_epochs_after_fit):
        raise InputError("--stop_on_test needs --stop_when or --patience_epochs_after_fit")
    if (arguments.stop_when or arguments.patience_epochs_after_fit) and not (
        arguments.do_train and arguments.evaluate_during_training
    ):
        raise InputError(
            "--stop_when and --patience_epochs_after_fit need --do_train and "
            "--evaluate_during_training"
        )
    if arguments.do_predict and not (arguments.prediction_dir or arguments.output_dir):
        raise InputError("--do_predict needs --prediction_dir, or --output_dir")


def model_arguments(arguments: argparse.Namespace) -> dict[str, object]:
    """The flags as ``Seq2SeqArgs`` fields."""
    renamed = {"save_step": "save_steps", "eval_steps": "evaluate_during_training_steps"}
    same = (
        "n_layer",
        "n_head",
        "n_embd",
        "n_inner",
        "no_dropout",
        "no_ln",
        "no_mlp",
        "share_mlp",
        "add_recurrence",
        "pad_vocab_to",
        "train_batch_size",
        "gradient_accumulation_steps",
        "micro_batch_size",
        "max_steps",
        "num_train_epochs",
        "learning_rate",
        "weight_decay",
        "scheduler",
        "warmup_steps",
        "manual_seed",
        "precision",
        "compile",
        "cuda_graphs",
        "train_on_end_token",
        "evaluate_during_training",
        "eval_batch_size",
        "logging_steps",
        "save_step_dense",
        "save_step_dense_interval",
        "save_fine_step_list",
        "resume_state_minutes",
        "resume",
        "overwrite_output_dir",
        "save_log_spaced",
        "keep",
        "stop_when",
        "patience_epochs_after_fit",
    )
    values = {name: getattr(arguments, name) for name in same}
    return values | {new: getattr(arguments, old) for old, new in renamed.items()}


def train(model, dataset, records, arguments: argparse.Namespace, is_main: bool) -> None:
    """Train with a live line, then print how the run ended."""
    import sys
    from pathlib import Path

    from tqdm import tqdm

    from coverage_principle.data import sha256
    from coverage_principle.paths import relative_to_root
    from coverage_principle.reporting.run_card import write_run_card
    from simpletransformers.seq2seq.trackers import Trackers

    stop_data = stop_records(dataset, arguments)
    trackers = (
        Trackers(
            Path(arguments.output_dir),
            vars(arguments),
            project=arguments.wandb_project,
            entity=arguments.wandb_entity,
            name=arguments.wandb_exp,
            tensorboard=arguments.tensorboard,
        )
        if is_main
        else None
    )

    bar = None  # drawn from the first event on, when nothing can be refused any more
    notes: dict[str, str] = {}

    def report(event: dict) -> None:
        nonlocal bar
        trackers.log(event)
        if bar is None:
            bar = tqdm(
                total=event["total_steps"],
                desc="training",
                unit="step",
                dynamic_ncols=True,
                mininterval=refresh_seconds(),
            )
        if event["train_loss"] is not None:  # an evaluation may come before the first log entry
            notes["loss"] = f"{event['train_loss']:.4f}"
        notes["items/s"] = f"{event['examples_per_s']:,.0f}"
        if "mfu" in event:
            notes["MFU"] = f"{event['mfu']:.0%}"
        for group, scores in event.get("eval", {}).items():
            if "/" not in group:
                notes[group] = f"{scores['answer_accuracy']:.2f}"
        bar.set_postfix(notes, refresh=False)
        bar.update(event["step"] - bar.n)

    try:
        result = model.train_model(
            [*dataset.train.records, *dataset.train.facts],
            records,
            arguments.output_dir,
            stop_data=stop_data,
            report=report,
            run_info={
                "dataset": {
                    "name": dataset.name,
                    "path": relative_to_root(dataset.path),
                    "sha256": {n: sha256(dataset.path / n) for n in ("train.json", "test.json")},
                },
            },
        )
    finally:  # a refusal has a line of its own
        if bar is not None:
            bar.close()
    if not is_main:
        return
    trackers.close()
    run_folder = relative_to_root(Path(arguments.output_dir))
    if not result.complete:
        sys.exit(
            f"stopped by {result.reason} after step {result.step}; --resume goes on from there"
        )
    ended = "stopped early: " + result.reason if result.reason != "finished" else "all steps done"
    if result.eval:
        print_scores(result.eval)
        write_run_card(Path(arguments.output_dir), ended, dataset.num_tokens)
    if result.reason != "finished":
        print(ended)
    print(f"{result.step:,} steps done; run: {run_folder}")


def stop_records(dataset, arguments: argparse.Namespace) -> list[dict] | None:
    """The validation items for the stop rules; None if there are none, or the test set serves."""
    from coverage_principle.errors import InputError

    wanted = arguments.stop_when or arguments.patience_epochs_after_fit
    if not wanted or arguments.stop_on_test:
        return None
    if dataset.valid is None:
        raise InputError(
            f"--stop_when and --patience_epochs_after_fit need a validation split, which "
            f"{dataset.name} lacks; generate it with --validation_size, or add --stop_on_test"
        )
    return dataset.valid.records


def print_scores(scores: dict) -> None:
    """A table of groups: items, loss, accuracies."""
    from coverage_principle.cli import table

    names = list(next(iter(scores.values())))
    rows = [
        [group, *(f"{v:,}" if name == "n" else f"{v:.4f}" for name, v in values.items())]
        for group, values in scores.items()
    ]
    print(table(["group", *names], rows))


def predict(model, records: list[dict], arguments: argparse.Namespace) -> None:
    """Write every record with its ``model_output``; print exact match by type."""
    from pathlib import Path

    from coverage_principle.cli import table
    from coverage_principle.data import write_json
    from coverage_principle.paths import relative_to_root

    outputs = model.predict([record["input_text"] for record in records])
    items = [{**r, "model_output": o} for r, o in zip(records, outputs, strict=True)]
    name = Path(arguments.custom_test).name if arguments.custom_test else "all_items.json"
    file = Path(arguments.prediction_dir or arguments.output_dir) / name
    write_json(file, items, one_per_line=True)
    right: dict[str, list[bool]] = {}
    for item in items:
        right.setdefault(item.get("type", "all"), []).append(
            item["model_output"] == item["target_text"]
        )
    rows = [[kind, f"{len(r):,}", f"{sum(r) / len(r):.4f}"] for kind, r in sorted(right.items())]
    print(table(["type", "n", "exact_match"], rows))
    print(f"outputs: {relative_to_root(file)}")


if __name__ == "__main__":
    run(build_parser(), main)
