"""A trained model in a notebook: ``cp.load_run(path)``.

    run = cp.load_run("CKPT_DIR/trained_checkpoints/NAME")
    run.predict(["<t_3><t_9><t_1>"]), run.hidden_states(items, 1, "x2"), run.trace("diff_f1").plot()

Nothing is written to disk. A checkpoint's model is loaded when it is first asked for, and kept
until another one is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coverage_principle import circuits
from coverage_principle.circuits import (
    HeadSettings,
    ProbeSettings,
    SubspaceSettings,
    TraceSettings,
)
from coverage_principle.cli import progress_bar
from coverage_principle.data import Dataset, load_dataset, read_json
from coverage_principle.errors import InputError
from coverage_principle.notebook.inputs import read_layer, read_pairs, read_position, read_values
from coverage_principle.notebook.probing import Probing
from coverage_principle.notebook.tracing import Heads, Moving, Tracing
from coverage_principle.paths import find_folder
from simpletransformers.seq2seq.architectures import loops_of
from simpletransformers.seq2seq.run_folder import (
    FINAL,
    RunFolder,
    checkpoint_name,
    is_checkpoint,
)
from simpletransformers.words import counted

if TYPE_CHECKING:
    from coverage_principle.circuits import LoadedModel

#: What each type of model calls its sizes in config.json.
_SIZES = {
    "{} layers": ("n_layer", "num_hidden_layers"),
    "{} heads": ("n_head", "num_attention_heads"),
    "width {}": ("n_embd", "hidden_size"),
}
#: Checkpoints that ``repr``, and runs that a refusal, names one by one.
_MOST_NAMED = 4


def load_run(
    path: str | Path,
    *,
    data_dir: str | Path | None = None,
    device: str = "auto",
    eval_loops: int | None = None,
    trust_code: bool = False,
) -> Run:
    """A training run, or one of its checkpoints, from the working directory or the repository.

    ``data_dir`` is the data set that it was trained on, if that is not where the run recorded it.
    ``device`` is auto (CUDA if there is one), cpu, cuda, cuda:1 or mps. With ``eval_loops`` the
    stack of blocks is run so often, however often it was in training. ``trust_code`` lets the model
    file that a checkpoint holds be run.

    ``InputError`` for a folder that does not exist or holds no checkpoint, and for a device that is
    not there.
    """
    folder = find_folder(path, "path")
    # A run first: the published trainer leaves its last model beside the checkpoints.
    held = RunFolder(folder).checkpoints() or _as_checkpoint(folder)
    if not held:
        what = f"holds no checkpoint-STEP or {FINAL} folder with a model"
        if runs := _runs_in(folder):
            shown = ", ".join(runs[:_MOST_NAMED]) + (" ..." if len(runs) > _MOST_NAMED else "")
            what = f"is no run itself; runs in it: {shown}"
        raise InputError(f"`path` {path} {what}")
    if device != "auto":
        circuits.choose_device(str(device))
    options = {"eval_loops": eval_loops, "trust_code": trust_code}
    return Run(held[-1].parent, held[-1].name, data_dir, device, **options)


def _as_checkpoint(folder: Path) -> list[Path]:
    """The folder, if it is a checkpoint; ``InputError`` if it holds a model by another name."""
    if not is_checkpoint(folder):
        return []
    if folder not in RunFolder(folder.parent).checkpoints():
        called = f"a checkpoint of a run is called checkpoint-STEP or {FINAL}"
        raise InputError(f"`path` {folder} holds a model, but {called}")
    return [folder]


def _runs_in(folder: Path) -> list[str]:
    """The names of a folder's folders that are runs."""
    inside = (path for path in folder.iterdir() if path.is_dir())
    return sorted(path.name for path in inside if RunFolder(path).checkpoints())


@contextlib.contextmanager
def _shown(progress: bool) -> Iterator[Callable[..., object]]:
    """What an analysis calls as it goes on, shown as a bar if asked for."""
    with progress_bar() if progress else contextlib.nullcontext(lambda *_: None) as show:
        yield lambda name, done, total: show(done / total, name)


@dataclass(frozen=True, repr=False)
class Run:
    """A training run, as ``load_run`` gives it.

    ``path`` is its folder, ``checkpoint`` the name of the checkpoint that is used where none is
    named: the last one, or the one that was loaded.
    """

    path: Path
    checkpoint: str
    data_dir: str | Path | None = None
    device: str = "auto"
    eval_loops: int | None = None
    trust_code: bool = False
    _opened: dict[str, LoadedModel] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        names = self.checkpoints
        held = ", ".join(names)
        if len(names) > _MOST_NAMED:
            held = f"{len(names)} checkpoints from {names[0]} to {names[-1]}"
        if self.checkpoint != names[-1]:
            held += f" (used: {self.checkpoint})"
        state = "done" if self.done else "not done"
        return f"<Run {self.name}: {self._trained}; {held}; {state}>"

    @property
    def name(self) -> str:
        """The folder's name, with the one above it where that is ``model``, as in a sweep."""
        above = f"{self.path.parent.name}/" if self.path.name == "model" else ""
        return f"{above}{self.path.name}"

    @property
    def settings(self) -> dict:
        """What ``run_config.json`` holds; empty if there is none."""
        return RunFolder(self.path).settings()

    @property
    def history(self) -> list[dict]:
        """The evaluations in order, each ``{"step", "epoch", "train_loss", ..., "eval": {group:
        {"n", "loss", "answer_accuracy", "exact_match"}}}``. ``InputError`` if there are none."""
        return RunFolder(self.path).evaluations()

    @property
    def checkpoints(self) -> list[str]:
        """The names of its checkpoints, by step."""
        return [one.name for one in RunFolder(self.path).checkpoints()]

    @property
    def done(self) -> bool:
        """Whether training has come to its end."""
        return RunFolder(self.path).done

    @cached_property
    def dataset(self) -> Dataset:
        """The data set that it was trained on.

        ``InputError`` if it is not there or was changed since, unless ``data_dir`` names it.
        """
        return load_dataset(circuits.find_dataset(self.path, self.data_dir))

    def hidden_states(
        self,
        items: str | Sequence[str] | np.ndarray,
        layer: int,
        position: int | str,
        *,
        stream: str = "residual",
        after_ln_f: bool = False,
        checkpoint: int | str | None = None,
    ) -> np.ndarray:
        """Hidden states of any inputs at one layer and position: ``(n, width)`` float32.

        ``items`` are texts (``["<t_3><t_9><t_1>", ...]``) or values ``(n, slots)``, as
        ``dataset.test.inputs`` holds them. Layer 0 is token plus position embedding, layer l the
        residual stream after block l; ``position`` is counted from 0, or the name of a slot or
        value (``"x2"``). Where bridges stand in the target, the model reads the true ones, so that
        ``"b"`` is a position too.

        ``stream`` is another of ``circuits.STREAMS``. ``after_ln_f``: what the final norm makes of
        the last layer, which is what transformers gives as its last hidden state.
        """
        values, layout = read_values(self.dataset, items), circuits.layout_of(self.dataset)
        if stream not in circuits.STREAMS:
            raise InputError(f"`stream` {stream} is not one of {', '.join(circuits.STREAMS)}")
        place, loaded = read_position(layout.names, position), self._open(checkpoint)
        last = loaded.num_layers
        layer = read_layer(circuits.STREAMS[stream].layers(last), layer, stream)
        if after_ln_f and (stream, layer) != ("residual", last):
            raise InputError(f"`after_ln_f` is of layer {last} of the residual stream, the last")
        site = circuits.Site(layer, place, after_ln_f)
        tokens = circuits.token_ids(self.dataset, values, place + 1)
        return circuits.collect_states(loaded, tokens, [site], stream=stream)[site]

    def predict(
        self,
        items: str | Sequence[str] | np.ndarray,
        *,
        probabilities: bool = False,
        checkpoint: int | str | None = None,
    ) -> list[str] | tuple[list[str], np.ndarray]:
        """The model's answer to each of any inputs, as a token: ``["<t_4>", ...]``.

        ``items`` are as for ``hidden_states``. An answer is the most probable of the data set's
        tokens. A model that writes bridges first writes its own, each read back.

        With ``probabilities`` a pair: the answers, and the probability that the model gives to each
        (n,) float32, a softmax over all its outputs.
        """
        dataset, layout = self.dataset, circuits.layout_of(self.dataset)
        prompts = circuits.token_ids(dataset, read_values(dataset, items), layout.prompt)
        tokens, chances = self._open(checkpoint).emit(prompts, len(layout.emitted))
        answers = [dataset.codec.vocabulary[token] for token in tokens[:, -1].tolist()]
        return (answers, chances[:, -1]) if probabilities else answers

    def trace(
        self,
        family: str | None = TraceSettings.family,
        *,
        metric: str = TraceSettings.metric,
        stream: str = TraceSettings.stream,
        pairs: Sequence[tuple[int, int | str]] | None = TraceSettings.pairs,
        k_groups: str | None = TraceSettings.k_groups,
        max_items: int | None = TraceSettings.max_items,
        every_item: bool = TraceSettings.every_item,
        out_of_domain: bool = TraceSettings.out_of_domain,
        seed: int = TraceSettings.seed,
        batch_size: int = TraceSettings.batch_size,
        checkpoint: int | str | None = None,
        progress: bool = True,
    ) -> Tracing:
        """Causal tracing of one family of counterfactuals: which states carry a value.

        For each test item another input is drawn that differs as ``family`` says (``"diff_f1"``:
        the value of f1 differs; the first family if not given; a wrong name lists them). Then every
        state of ``stream`` is replaced by that of the other run, one at a time, or those of
        ``pairs`` of layer and position alone. ``metric`` says what is measured: rank, prob or
        logit.

        ``k_groups`` (``"1-2,3+"``, each or none) parts id_test by k-cutoff; ``max_items`` limits
        each split; one item is used for each fragment unless ``every_item``; ``out_of_domain``
        adds items whose own bridge call is unseen. ``progress``: a bar, where it takes longer than
        two seconds. docs/circuit_analysis.md has the definitions.
        """
        layout = circuits.layout_of(self.dataset)
        settings = TraceSettings(
            model_dir=self.path,
            family=family,
            metric=metric,
            stream=stream,
            pairs=read_pairs(layout.names[: layout.prompt], pairs),
            k_groups=k_groups,
            max_items=max_items,
            every_item=every_item,
            out_of_domain=out_of_domain,
            seed=seed,
            batch_size=batch_size,
            eval_loops=self.eval_loops,
        )
        subject = self._subject(settings, checkpoint)
        with _shown(progress) as report:
            results, _ = circuits.trace_subject(subject, progress=report)
        return Tracing(self.name, results)

    def heads(
        self,
        family: str | None = HeadSettings.family,
        *,
        metric: str = HeadSettings.metric,
        pairs: Sequence[tuple[int, int | str]] | None = HeadSettings.pairs,
        k_groups: str | None = HeadSettings.k_groups,
        max_items: int | None = HeadSettings.max_items,
        every_item: bool = HeadSettings.every_item,
        out_of_domain: bool = HeadSettings.out_of_domain,
        seed: int = HeadSettings.seed,
        batch_size: int = HeadSettings.batch_size,
        checkpoint: int | str | None = None,
        progress: bool = True,
    ) -> Heads:
        """Which attention head brings the answer what it needs, and where does it look?

        As ``trace``, but what is replaced is the output of one head at a time. The same is
        estimated from gradients, and the attention weights of each head are averaged over items.
        ``InputError`` for a model without heads. docs/circuit_analysis.md has the definitions.
        """
        layout = circuits.layout_of(self.dataset)
        settings = HeadSettings(
            model_dir=self.path,
            family=family,
            metric=metric,
            pairs=read_pairs(layout.names[: layout.prompt], pairs),
            k_groups=k_groups,
            max_items=max_items,
            every_item=every_item,
            out_of_domain=out_of_domain,
            seed=seed,
            batch_size=batch_size,
            eval_loops=self.eval_loops,
        )
        subject = self._subject(settings, checkpoint)
        with _shown(progress) as report:
            results, _ = circuits.heads_subject(subject, progress=report)
        return Heads(self.name, results)

    def subspace(
        self,
        family: str | None = SubspaceSettings.family,
        *,
        subspace: str = SubspaceSettings.subspace,
        rank: int | None = SubspaceSettings.rank,
        folds: int = SubspaceSettings.folds,
        steps: int = SubspaceSettings.steps,
        drawn_from: str = SubspaceSettings.drawn_from,
        metric: str = SubspaceSettings.metric,
        pairs: Sequence[tuple[int, int | str]] | None = SubspaceSettings.pairs,
        k_groups: str | None = SubspaceSettings.k_groups,
        max_items: int | None = SubspaceSettings.max_items,
        every_item: bool = SubspaceSettings.every_item,
        out_of_domain: bool = SubspaceSettings.out_of_domain,
        seed: int = SubspaceSettings.seed,
        batch_size: int = SubspaceSettings.batch_size,
        checkpoint: int | str | None = None,
        progress: bool = True,
    ) -> Moving:
        """Interchange of a subspace: is the part of a state that holds a value what is used of it?

        As ``trace``, but only a part of the state is the other run's: a ``subspace`` that the value
        is held in (means, probe or rotation), of ``rank`` directions at most; then the rest; the
        whole; and a random subspace, of all directions or ``drawn_from`` states. Subspaces are
        learned from other ``folds`` of the fragments than they are moved in, a rotation by
        ``steps``. docs/circuit_analysis.md has the definitions.
        """
        layout = circuits.layout_of(self.dataset)
        settings = SubspaceSettings(
            model_dir=self.path,
            family=family,
            subspace=subspace,
            rank=rank,
            folds=folds,
            steps=steps,
            drawn_from=drawn_from,
            metric=metric,
            pairs=read_pairs(layout.names[: layout.prompt], pairs),
            k_groups=k_groups,
            max_items=max_items,
            every_item=every_item,
            out_of_domain=out_of_domain,
            seed=seed,
            batch_size=batch_size,
            eval_loops=self.eval_loops,
        )
        subject = self._subject(settings, checkpoint)
        with _shown(progress) as report:
            results, _ = circuits.subspace_subject(subject, progress=report)
        return Moving(self.name, results)

    def probe(
        self,
        *values: str,
        pairs: Sequence[tuple[int, int | str]] | None = ProbeSettings.pairs,
        folds: int = ProbeSettings.folds,
        permutations: int = ProbeSettings.permutations,
        k_groups: str | None = ProbeSettings.k_groups,
        max_items: int | None = ProbeSettings.max_items,
        every_item: bool = ProbeSettings.every_item,
        seed: int = ProbeSettings.seed,
        batch_size: int = ProbeSettings.batch_size,
        checkpoint: int | str | None = None,
        progress: bool = True,
    ) -> Probing:
        """Linear probes: from which states can values be told, in whatever directions?

        ``values`` are names such as ``"b"`` and ``"t"``; without any, every intermediate value and
        the answer. A probe is trained on all ``folds`` of the training items but one and tested on
        that one, which shares no fragment with the others; ``permutations`` probes of shuffled
        values, and a model of random weights, say what is no finding. The other arguments are those
        of ``trace``. docs/circuit_analysis.md has the definitions.
        """
        names = circuits.layout_of(self.dataset).names
        settings = ProbeSettings(
            model_dir=self.path,
            values=values or None,
            pairs=read_pairs(names[:-1], pairs),
            folds=folds,
            permutations=permutations,
            k_groups=k_groups,
            max_items=max_items,
            every_item=every_item,
            seed=seed,
            batch_size=batch_size,
            eval_loops=self.eval_loops,
        )
        subject = self._subject(settings, checkpoint)
        with _shown(progress) as report:
            results, _ = circuits.probe_subject(subject, progress=report)
        return Probing(self.name, results)

    def _subject(
        self,
        settings: HeadSettings | TraceSettings | SubspaceSettings | ProbeSettings,
        checkpoint: int | str | None,
    ) -> circuits.Subject:
        loaded, folder = self._open(checkpoint), self.path / self._name(checkpoint)
        what = settings, self.path, [folder], self.dataset, loaded.device
        return circuits.Subject(*what, opened=self._opened)

    @cached_property
    def _trained(self) -> str:
        """Such as ``trained on DATA, gpt2 of 8 layers, 12 heads, width 768``."""
        config = read_json(self.path / self.checkpoint / "config.json", dict)
        sizes = [
            words.format(config[name])
            for words, names in _SIZES.items()
            for name in names
            if name in config
        ]
        if (loops := loops_of(config)) > 1:
            sizes[0] += f" ({counted(loops, 'loop')})"
        data = circuits.dataset_name(self.path)
        return f"trained on {data}, {config.get('model_type')} of {', '.join(sizes)}"

    def _name(self, checkpoint: int | str | None) -> str:
        """The checkpoint's folder; ``InputError`` lists those that there are."""
        if checkpoint is None:
            return self.checkpoint
        name, there = checkpoint_name(str(checkpoint)), self.checkpoints
        if name not in there:
            held = ", ".join(there)
            raise InputError(f"`checkpoint` {checkpoint} does not exist: {self.name} has {held}")
        return name

    def _open(self, checkpoint: int | str | None) -> LoadedModel:
        """The checkpoint's model, on the device."""
        name = self._name(checkpoint)
        if name not in self._opened:
            self._opened.clear()
            path, codec = self.path / name, self.dataset.codec
            options = {"eval_loops": self.eval_loops, "trust_code": self.trust_code}
            self._opened[name] = circuits.open_checkpoint(path, codec, self.device, **options)
        return self._opened[name]
