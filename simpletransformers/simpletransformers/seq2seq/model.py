"""``Seq2SeqModel``: build or load, train, evaluate, predict."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

import simpletransformers
from simpletransformers import files, memory
from simpletransformers.errors import InputError
from simpletransformers.seq2seq import architecture, architectures, graphs, own_model, tokenizer
from simpletransformers.seq2seq.args import Seq2SeqArgs
from simpletransformers.seq2seq.distributed import choose_device, describe_device, process_group
from simpletransformers.seq2seq.encoding import EncodedPairs, Records, as_records, encode_pairs
from simpletransformers.seq2seq.evaluation import (
    GROUP_BY,
    GroupedItems,
    evaluate,
    generate,
    group_items,
)
from simpletransformers.seq2seq.light import LightGPT2
from simpletransformers.seq2seq.optimisation import precision_of
from simpletransformers.seq2seq.run_folder import RunFolder
from simpletransformers.seq2seq.stopping import StopRules

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from simpletransformers.seq2seq.training import TrainingResult

#: Sizes of the public GPT-2 models: n_layer, n_head, n_embd. Only sizes: no weights are fetched.
PRESETS = {
    "gpt2": (12, 12, 768),
    "gpt2-medium": (24, 16, 1024),
    "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600),
}


class Seq2SeqModel:
    """A decoder-only model that learns to continue ``input_text`` to ``target_text``.

    ``model_type`` is one of ``architectures.names()``, of a new model ``gpt2`` unless given; a
    loaded checkpoint has its own type, which one that is given has to be, and its own sizes. With
    ``init_weights``, ``model_name`` is a size, one of ``PRESETS`` (a hub prefix such as
    ``openai-community/`` is allowed), and ``new_tokens`` is the whole vocabulary; the weights are
    drawn from ``args.manual_seed``. Without it, ``model_name`` is a checkpoint folder. ``args`` is
    a ``Seq2SeqArgs`` or a dictionary of its fields; for a loaded checkpoint a dictionary changes
    only what it names. ``device`` is ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``model_file`` is a user's own Python file, which is run and makes the model (``own_model``); it
    takes the place of ``model_type``. ``model_name`` may then also be a file of weights, a plain
    state dict, whose sizes are those of ``args`` and whose vocabulary is ``new_tokens``, in
    this order or with ``token_ids`` among ``args.pad_vocab_to``; or a checkpoint of a model of just
    this file. Any other checkpoint that brings a model file along is
    loaded with ``trust_code`` alone.

    Without ``to_train`` a checkpoint is only evaluated and asked, never trained or saved: it then
    loads without transformers where it can (see ``light``). With ``eval_loops`` its stack of blocks
    is run so often; ``args`` still say how often it was in training. ``token_ids`` are the ids that
    a checkpoint trained elsewhere has for the tokens of texts; its tokenizer is not read then.

    Nothing is ever downloaded. Raises ``InputError`` for arguments that cannot be used.
    """

    def __init__(
        self,
        model_type: str | None,
        model_name: str | Path,
        args: Seq2SeqArgs | Mapping[str, object] | None = None,
        new_tokens: Sequence[str] | None = None,
        init_weights: bool = False,
        device: str = "auto",
        to_train: bool = True,
        model_file: str | Path | None = None,
        trust_code: bool = False,
        eval_loops: int | None = None,
        token_ids: Mapping[str, int] | None = None,
    ) -> None:
        if model_type is not None:
            architectures.find(model_type)  # refuses unknown names
        source = None if model_file is None else own_model.Source.read(model_file)
        memory.keep_freed()
        self.device = choose_device(device)
        folder = Path(model_name)
        weights = folder if source and not init_weights and folder.is_file() else None
        if not (init_weights or weights) and not (folder / "config.json").is_file():
            raise InputError(
                f"{folder} is not a checkpoint folder (it has no config.json); give one, or "
                "`init_weights` for a new model"
            )
        given = args or {}
        if not isinstance(args, Seq2SeqArgs):
            args = Seq2SeqArgs.from_mapping(given)
        self.args = args
        if init_weights or weights:
            if not new_tokens:
                raise InputError("`init_weights` needs `new_tokens`, the whole vocabulary")
            if token_ids is None:
                self.tokenizer = tokenizer.build_tokenizer(list(new_tokens), args.end_token)
            else:
                named = token_ids, args.end_token, args.pad_vocab_to
                self.tokenizer = tokenizer.tokenizer_of_rows(*named)
            size = "gpt2" if weights else str(model_name)
            self.model = self._fresh(model_type or "gpt2", size, source)
            if weights:
                self.model.fill(own_model.read_weights(weights), weights)
            return
        if source and not source.made(folder):
            raise InputError(
                f"`model_file` {model_file} is not what made the model in {folder}; omit it, or "
                "give a state dict as `model_name_or_path`, or `init_weights` for a new model"
            )
        to_run = not to_train
        options = {"to_run": to_run, "trust_code": trust_code or source is not None}
        options["eval_loops"] = eval_loops
        self.model = architecture.load_model(folder, self.device, **options)
        if token_ids is None:
            self.tokenizer = tokenizer.load_tokenizer(folder, self.model.config, to_run=to_run)
        else:
            self.tokenizer = tokenizer.mapped_tokenizer(token_ids, args.end_token)
        looks = architecture.looks(self.model)
        if eval_loops is not None:
            trained = files.read_json(folder / "config.json", dict)
            looks["loops"] = architectures.loops_of(trained)
        _refuse_other_looks(folder, given, looks)
        if model_type is not None:
            own = {"model_type": self.model.config.model_type}
            _refuse_other_looks(folder, {"model_type": model_type}, own)
        if not isinstance(given, Seq2SeqArgs):
            known = asdict(Seq2SeqArgs.load(folder))
            self.args = Seq2SeqArgs(**{**known, **given, **looks})

    def _fresh(
        self, model_type: str, name: str, source: own_model.Source | None
    ) -> PreTrainedModel | own_model.OwnModel:
        args, size = self.args, name.rsplit("/", 1)[-1]
        if size not in PRESETS:
            raise InputError(
                f"`model_name_or_path` {name} is not one of {', '.join(PRESETS)}; to go on from a "
                "checkpoint, omit `init_weights`"
            )
        n_layer, n_head, n_embd = PRESETS[size]
        n_head, n_embd = args.n_head or n_head, args.n_embd or n_embd
        if n_embd % n_head and not source:
            raise InputError(
                f"`n_embd` {n_embd} is not a multiple of `n_head` {n_head}; every head needs the "
                "same number of dimensions"
            )
        tokens, end = len(self.tokenizer), self.tokenizer.eos_token_id
        rows = args.pad_vocab_to or -(-tokens // 8) * 8
        if rows < tokens:
            raise InputError(f"`pad_vocab_to` {rows} is less than the {tokens} tokens there are")
        special = {"bos": end, "eos": end, "pad": self.tokenizer.pad_token_id}
        plan = architecture.Blueprint(
            args.n_layer or n_layer,
            n_head,
            n_embd,
            args.n_inner,
            dropout=0.0 if args.no_dropout else 0.1,
            switches=[name for name in architectures.switches() if getattr(args, name)],
            loops=args.loops or (2 if args.add_recurrence else 1),
            tokens={"vocab_size": rows, **{f"{k}_token_id": v for k, v in special.items()}},
        )
        torch.manual_seed(args.manual_seed)
        if source:
            return self._of_file(source, plan)
        return architecture.build_model(model_type, plan, self.device)

    def _of_file(
        self, source: own_model.Source, plan: architecture.Blueprint
    ) -> own_model.OwnModel:
        if foreign := [*plan.switches, *(["loops"] if plan.loops > 1 else [])]:
            names = ", ".join(f"`{name}`" for name in foreign)
            raise InputError(f"{names}: of a gpt2 only; omit with `model_file`")
        sizes = own_model.ModelSizes(
            vocab_size=plan.tokens["vocab_size"],
            n_layer=plan.n_layer,
            n_head=plan.n_head,
            n_embd=plan.n_embd,
            n_inner=plan.n_inner or 4 * plan.n_embd,
            dropout=plan.dropout,
            n_positions=1024,
            pad_token_id=plan.tokens["pad_token_id"],
            eos_token_id=plan.tokens["eos_token_id"],
        )
        return own_model.build(source, sizes, self.device)

    def train_model(
        self,
        train_data: object,
        eval_data: object | None = None,
        output_dir: str | Path = "outputs",
        *,
        stop_data: object | None = None,
        report: Callable[[dict], None] | None = None,
        run_info: Mapping[str, object] | None = None,
    ) -> TrainingResult:
        """Train on ``input_text``, ``target_text`` records; write a run into ``output_dir``.

        Data are lists of dictionaries, pandas data frames, or what knows its tokens
        (``encoding.as_records``). ``eval_data`` is scored by the groups that ``args.group_by``
        makes of it (see ``group_items``), during training as the arguments say and once at the end.
        The stop rules look at ``stop_data``, grouped alike, or else at ``eval_data``. ``report`` is
        called on the first process with every event that goes to ``metrics.jsonl``, and the number
        of all steps as ``total_steps``. ``run_info`` goes to ``run_config.json``; ``run_folder``
        says what else a run holds. Under torchrun every process calls this with the same data.
        ``InputError`` if ``output_dir`` holds a run and neither ``overwrite_output_dir`` nor
        ``resume`` is set.
        """
        from simpletransformers.seq2seq.training import Trainer

        if isinstance(self.model, LightGPT2):
            raise InputError("this model was loaded without `to_train`, so it cannot be trained")
        data = self._encode(as_records(train_data))
        positions = getattr(self.model.config, "max_position_embeddings", data.length)
        if data.length > positions:
            places = f"the model's {positions} positions"
            raise InputError(f"sequences of {data.length} tokens are longer than {places}")
        self.args = args = replace(self.args, generation_length=data.new_tokens)
        evaluated, watched = (
            self._grouped(records) if (records := self._records(given)) else None
            for given in (eval_data, stop_data)
        )
        if rules := StopRules.parse(args.stop_when, args.patience_epochs_after_fit):
            scored = watched or evaluated
            rules.check(scored.groups if scored else {}, several=len(data.columns) > 1)
        run = RunFolder(output_dir)
        with process_group(self.device) as ranks, ExitStack() as stack:
            # Refuse what the device cannot do before anything is written.
            precision = precision_of(args, self.device)
            if args.cuda_graphs:
                graphs.check(self.device, ranks.world, precision)
            ranks.first(lambda: stack.enter_context(run.locked()))
            parts = evaluated, watched, report or (lambda _: None)
            trainer = Trainer(self.model, data, args, ranks, run, self.save, *parts)
            try:
                state = trainer.continuation()
                if not (run.done and state and trainer.has_ended(state)):
                    ranks.barrier()  # nothing is written before all processes have agreed
                    record = self._record(run_info or {}, ranks.world)
                    ranks.first(lambda: run.begin(state and state["step"], record))
                return trainer.run(state)
            finally:
                trainer.release()

    def _encode(self, records: Records) -> EncodedPairs:
        data = encode_pairs(records, self.tokenizer, loss_on_end=self.args.train_on_end_token)
        if isinstance(self.model, own_model.OwnModel):
            self.model.check(data.length, several=len(data.columns) > 1)
        return data

    def _records(self, data: object) -> Records:
        """Items to be scored, with what they are grouped by."""
        return as_records(data, self.args.group_by or GROUP_BY)

    def _grouped(self, records: Records) -> GroupedItems:
        data = self._encode(records).to(self.device)
        return GroupedItems(data, group_items(records, self.args.group_by))

    def _record(self, run_info: Mapping[str, object], world: int) -> dict[str, object]:
        """What ``run_config.json`` holds; what the model is like is read off the model itself."""
        import transformers

        modules = (torch, transformers, simpletransformers)
        versions = {module.__name__: module.__version__ for module in modules}
        looks = architecture.looks(self.model)
        return {
            **run_info,
            "model_type": self.model.config.model_type,
            **own_model.recorded(self.model),
            "args": {**asdict(self.args), **looks},
            "parameters": self.model.num_parameters(),
            "device": describe_device(self.device),
            "processes": world,
            "versions": {"python": platform.python_version(), **versions},
        }

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors), configuration, tokenizer and ``model_args.json``."""
        folder = Path(folder)
        with architecture.quiet():
            self.model.save_pretrained(folder, state_dict=architecture.unique_state(self.model))
        tokenizer.save_tokenizer(self.tokenizer, folder)
        self.args.save(folder)

    def eval_model(self, eval_data: object) -> dict[str, dict[str, float]]:
        """Scores of each group of ``eval_data``; see ``evaluation.evaluate``."""
        items = self._grouped(self._records(eval_data))
        with process_group(self.device) as ranks:
            return evaluate(self.model, items, self.args, ranks)

    def learn_length(self, data: object) -> None:
        """Let ``predict`` go as far as these targets, if no training here has said how far."""
        if self.args.generation_length is None:
            length = self._encode(as_records(data)).new_tokens
            self.args = replace(self.args, generation_length=length)

    def predict(self, prompts: Sequence[str], new_tokens: int | None = None) -> list[str]:
        """Each prompt with its greedy continuation, ended by the end token.

        ``new_tokens`` is how many tokens are produced at most; by default as many as the training
        targets held. A model trained without loss on the end token does not produce it itself, so
        it is set after the last token.
        """
        new_tokens = new_tokens or self.args.generation_length
        if not new_tokens:
            raise InputError("this model was not trained here, so new_tokens must be given")
        if not prompts:
            return []
        ids, lengths = tokenizer.encode(self.tokenizer, prompts)
        positions = getattr(self.model.config, "max_position_embeddings", None)
        if positions and (longest := int(lengths.max())) + new_tokens > positions + 1:
            raise InputError(
                f"a prompt of {longest} tokens and {new_tokens} more do not fit into the model's "
                f"{positions} positions"
            )
        begins, known = np.cumsum(lengths) - lengths, _Names(self.tokenizer)
        end, size = self.tokenizer.eos_token_id, self.args.eval_batch_size
        outputs = [""] * len(prompts)
        for length in np.unique(lengths).tolist():
            items = np.flatnonzero(lengths == length)
            for start in range(0, len(items), size):
                batch = items[start : start + size]
                rows = ids[begins[batch, None] + np.arange(length)]
                tokens = torch.as_tensor(rows, dtype=torch.int64, device=self.device)
                produced = generate(self.model, tokens, new_tokens, end).tolist()
                for i, row in zip(batch.tolist(), produced, strict=True):
                    row = row[: row.index(end)] if end in row else row
                    texts = "".join([known[token] for token in row])
                    outputs[i] = f"{prompts[i]}{texts}{self.tokenizer.eos_token}"
        return outputs


class _Names(dict[int, str]):
    """The texts of a tokenizer's ids, looked up once."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer

    def __missing__(self, token: int) -> str:
        # A row of padding of the vocabulary is no token, but can be the best.
        self[token] = self._tokenizer.convert_ids_to_tokens(token) or f"<row_{token}>"
        return self[token]


def _refuse_other_looks(folder: Path, given: Mapping | Seq2SeqArgs, looks: Mapping) -> None:
    """``InputError`` where arguments ask for another model than the one that was loaded.

    Of a whole ``Seq2SeqArgs`` nobody knows which defaults were asked for; of a mapping all were.
    """
    if isinstance(given, Seq2SeqArgs):
        default = asdict(Seq2SeqArgs())
        given = {name: v for name, v in asdict(given).items() if v != default[name]}
    for name, own in looks.items():
        if given.get(name) not in (None, own):
            raise InputError(
                f"`{name}` {given[name]} is not what {folder} holds ({own}); a loaded model keeps "
                f"its architecture, so omit `{name}`, or give `init_weights` for a new model"
            )
