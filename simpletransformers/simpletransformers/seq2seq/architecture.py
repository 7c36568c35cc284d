"""The model door: what a type of model has to tell; models are made, loaded and run here alone.

A type is a class, ``Architecture``; a model is run through an instance of its class, which
``architecture_of`` gives. Training asks it for logits where there is loss. A type that is also
analysed says more of itself: see ``layered``.

To add a type, write a file of ``architectures/`` or call ``architectures.register``.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from simpletransformers import files
from simpletransformers.errors import InputError
from simpletransformers.seq2seq import architectures, light, own_model
from simpletransformers.seq2seq.args import Seq2SeqArgs

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

logger = logging.getLogger(__name__)

#: Bytes a parameter takes in training: itself, its gradient and AdamW's two averages, in float32.
_TRAINED_BYTES = 16


@dataclass(frozen=True)
class Blueprint:
    """What a new model is made from; ``tokens`` are ``vocab_size`` and the ids of special tokens.

    ``n_inner`` None is the type's own choice. ``switches`` change the architecture. The stack of
    ``n_layer`` blocks is run ``loops`` times.
    """

    n_layer: int
    n_head: int
    n_embd: int
    n_inner: int | None = None
    dropout: float = 0.0
    switches: Sequence[str] = ()
    tokens: Mapping[str, object] = field(default_factory=dict)
    loops: int = 1


class Architecture(ABC):
    """A type of model, and one ``model`` of it; with ``config`` alone it can be trained."""

    #: What each switch of the type does, for ``--help``. A model's own are kept in
    #: ``config.architecture_switches``, as ``config.json`` of a checkpoint has it.
    switches: Mapping[str, str] = {}
    has_attention = True
    #: The entry of ``config.json`` that counts blocks, of a type whose stack of them can be run
    #: several times over. It counts every run, and ``architecture_loops`` says how many there are.
    loops_over: str | None = None

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    @classmethod
    @abstractmethod
    def config(cls, plan: Blueprint) -> PretrainedConfig:
        """The configuration of a new model; ``InputError`` for sizes that the type cannot have."""

    @classmethod
    def light(cls, _config: Mapping[str, object]) -> light.LightGPT2 | None:
        """An empty model for the content of a ``config.json``, to be run without transformers.

        None, as by default, where only transformers knows the model.
        """
        return None

    @classmethod
    def switch(cls, model: PreTrainedModel, switches: set[str]) -> None:
        """Make a plain model the one that its switches and loops describe, in place."""
        names = ", ".join(sorted(switches))
        raise TypeError(f"{type(model).__name__}: the type does not say what {names} do")

    def logits_at(self, ids: Tensor, columns: Sequence[int]) -> Tensor:
        """``(n, len(columns), vocabulary)`` logits at ``columns`` of token ids ``(n, length)``."""
        hidden = self.model.base_model(ids, use_cache=False).last_hidden_state
        return self.model.get_output_embeddings()(pick(hidden, columns))

    def flops(self, _columns: Sequence[int]) -> int | None:
        """Floating-point operations of a training step for one row; None where nobody counted."""
        return None


def pick(tensor: Tensor, columns: Sequence[int], dim: int = 1) -> Tensor:
    """The given places of a dimension.

    Not ``tensor[:, columns]``: that makes an index tensor, for whose copy to a GPU the host waits.
    """
    first, count = columns[0], len(columns)
    if list(columns) == list(range(first, first + count)):
        return tensor.narrow(dim, first, count)
    return torch.cat([tensor.narrow(dim, column, 1) for column in columns], dim)


def architecture_of(model: PreTrainedModel) -> Architecture:
    """The model in its type's ``Architecture``, through which it is run."""
    return architectures.find(model.config.model_type)(model)


def build_model(model_type: str, plan: Blueprint, device: torch.device) -> PreTrainedModel:
    """A model with fresh weights, of torch's global random state, in float32 on ``device``.

    ``InputError`` for sizes or switches that the type does not have.
    """
    kind, owners = architectures.find(model_type), architectures.switches()
    if foreign := [name for name in plan.switches if name not in kind.switches]:
        names = ", ".join(f"`{name}`" for name in foreign)
        raise InputError(
            f"{names}: of a {owners[foreign[0]]} only; omit with `model_type` {model_type}"
        )
    _refuse_too_large(kind, plan, device)
    config = kind.config(plan)
    config.use_cache = False
    if plan.switches:
        config.architecture_switches = list(plan.switches)
    if plan.loops != architectures.loops_of(config):
        config.update(
            _looped(config.to_dict(), plan.loops, f"`model_type` is {model_type}", "loops")
        )
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config, **_attention(kind, device))
    return _switched(model).to(device)


def _refuse_too_large(kind: type[Architecture], plan: Blueprint, device: torch.device) -> None:
    """``InputError`` for a model that could not be trained in the memory that there is at all."""
    try:
        once = [name for name in plan.switches if name != "add_recurrence"]
        plain = replace(plan, switches=once, loops=1)
        first, second = (_parameters(kind.config(replace(plain, n_layer=n))) for n in (1, 2))
    except (RuntimeError, OverflowError, TypeError):  # sizes beyond what torch can count
        wanted = "more numbers than a tensor may hold"
    else:
        count = first + (plan.n_layer - 1) * (second - first)
        # Later loops have weights of their own, in float32, until the model is there.
        later = 4 * (plan.loops - 1) * plan.n_layer * (second - first)
        if (needed := count * _TRAINED_BYTES + later) <= (there := _memory(device)):
            return
        wanted = f"{count:,} parameters, which need {needed / 2**30:,.0f} GiB"
        wanted += f" in training, and there are {there / 2**30:,.0f}"
    again = f"`loops` {plan.loops}, " if plan.loops > 1 else ""
    raise InputError(
        f"a model of `n_layer` {plan.n_layer}, {again}`n_embd` {plan.n_embd} and "
        f"{plan.tokens.get('vocab_size')} tokens has {wanted}; ask for a smaller one"
    )


def _parameters(config: PretrainedConfig) -> int:
    """How many parameters a model has, without memory for them."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config).num_parameters()


def _memory(device: torch.device) -> int:
    """Bytes that a device has in all."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _looped(config: Mapping, loops: int, what: str, setting: str) -> dict[str, object]:
    """The entries of a ``config.json`` that change if its stack of blocks is run so often.

    ``InputError`` for a type that cannot be looped, as ``what``, which ``setting`` asks for.
    """
    counted = architectures.find(config["model_type"]).loops_over
    if counted not in config:
        raise InputError(f"{what}, whose blocks cannot be looped; omit `{setting}`")
    blocks = config[counted] // architectures.loops_of(config)
    return {counted: blocks * loops, "architecture_loops": loops}


def looks(model: PreTrainedModel) -> dict[str, object]:
    """The model's ``ArchitectureSettings``, read off the model itself."""
    if isinstance(model, own_model.OwnModel):
        return {**dict.fromkeys(architectures.switches(), False), "loops": 1, **model.looks()}
    config = model.config
    on = set(getattr(config, "architecture_switches", None) or ())
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    rates = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "attention_dropout")
    return {
        "n_layer": config.num_hidden_layers // architectures.loops_of(config),
        "n_head": getattr(config, "num_attention_heads", None),
        "n_embd": config.hidden_size,
        "n_inner": inner or 4 * config.hidden_size,
        "no_dropout": not any(getattr(config, rate, 0.0) for rate in rates),
        "loops": architectures.loops_of(config),
        **{switch: switch in on for switch in architectures.switches()},
        "pad_vocab_to": config.vocab_size,
    }


def load_model(
    folder: Path,
    device: torch.device | str = "cpu",
    *,
    to_run: bool = False,
    eval_loops: int | None = None,
    trust_code: bool = False,
) -> PreTrainedModel | light.LightGPT2 | own_model.OwnModel:
    """The model of a checkpoint folder, switches included, in float32 on ``device``.

    With ``to_run`` it is for evaluation and analysis alone, and may come as a ``LightGPT2``; else
    it is transformers' own, which can also be trained, saved and shared. With ``eval_loops`` its
    stack of blocks is run so often, however often it was in training. A model that a file of a
    user's own made is an ``OwnModel``; its file is run, which ``trust_code`` must allow.

    Nothing is downloaded, and weights are read from safetensors only. ``InputError`` if there are
    none, if the type of model is not known here, or if the weights are not just those of a model
    with this configuration, in number, names, shapes and finite values. A warning says which files
    are not those that were saved together.
    """
    folder, device = Path(folder), torch.device(device)
    saved = Seq2SeqArgs.saved_files(folder)
    if changed := " and ".join(name for name, same in saved.items() if not same):
        logger.warning("warning: %s of %s changed since the model was saved", changed, folder)
    config = files.read_json(folder / "config.json", dict)
    if (model_type := config.get("model_type")) not in (
        architectures.OF_FILE,
        *architectures.names(),
    ):
        known = ", ".join(architectures.names())
        raise InputError(f"{folder} holds a {model_type}; model types here are {known}")
    kind, model, changes = architectures.find(model_type), None, {}
    _refuse_other_loops(folder, config, kind.loops_over)
    if eval_loops is not None:
        changes = _looped(config, eval_loops, f"{folder} holds a {model_type}", "eval_loops")
    if model_type == architectures.OF_FILE:
        return own_model.load(folder, device, trusted=trust_code)
    stored, integers = _stored_shapes(folder)
    if eval_loops is not None:
        _refuse_too_often(folder, stored, eval_loops)
    if to_run and light.as_saved(saved, "config.json", light.WEIGHTS):
        model = light.filled(kind.light({**config, **changes}), folder)
    model = model or _of_transformers(folder, _attention(kind, device), changes)
    known = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model = _switched(model.float())
    _refuse_other_weights(folder, stored, integers, known, model)
    broken = [name for name, p in model.named_parameters() if not p.isfinite().all()]
    if broken:
        raise InputError(f"the weights in {folder} are not finite numbers, such as {broken[0]}")
    return model.to(device)


def fresh_model(
    model: PreTrainedModel | light.LightGPT2 | own_model.OwnModel, seed: int
) -> PreTrainedModel | light.LightGPT2 | own_model.OwnModel:
    """A model of the same configuration, on the same device, with new weights drawn by ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(model, own_model.OwnModel):
            return own_model.build(model.source, model.sizes, model.device)
        kind = architectures.find(model.config.model_type)
        if isinstance(model, light.LightGPT2):
            new = light.drawn(kind.light(vars(model.config)))
        else:
            from transformers import AutoModelForCausalLM

            config, attention = copy.deepcopy(model.config), _attention(kind, model.device)
            new = AutoModelForCausalLM.from_config(config, **attention).float()
    return _switched(new).to(model.device)


def _refuse_too_often(folder: Path, stored: Mapping, loops: int) -> None:
    """``InputError`` for more loops than memory holds, each of whose weights are there at first."""
    needed = 4 * loops * sum(map(math.prod, stored.values()))
    if needed > (there := _memory(torch.device("cpu"))):
        raise InputError(
            f"`eval_loops` {loops} of {folder} need {needed / 2**30:,.0f} GiB while it is loaded, "
            f"and there are {there / 2**30:,.0f}; give fewer"
        )


def _refuse_other_loops(folder: Path, config: Mapping, counted: str | None) -> None:
    """``InputError`` for a ``config.json`` whose blocks are not those of whole loops."""
    loops, blocks = architectures.loops_of(config), config.get(counted)
    if isinstance(blocks, int) and (type(loops) is not int or loops < 1 or blocks % loops):
        raise InputError(f"{folder}: config.json asks for {blocks} blocks in {loops!r} loops")


def _of_transformers(
    folder: Path, attention: Mapping[str, str], changes: Mapping[str, object]
) -> PreTrainedModel:
    """The model of a checkpoint before it is switched, with ``changes`` of its configuration.

    ``InputError`` if it cannot be loaded.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    options = {"local_files_only": True, "use_safetensors": True, **attention}
    try:
        with quiet():
            if changes:
                options["config"] = AutoConfig.from_pretrained(folder, local_files_only=True)
                options["config"].update(changes)
            return AutoModelForCausalLM.from_pretrained(folder, **options)
    except Exception as error:  # transformers has no common base for what it cannot load
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"the model in {folder} cannot be loaded: {why}") from error


def _stored_shapes(folder: Path) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """The name and shape of each tensor that the weight files hold; which are no floats."""
    found: dict[str, tuple[int, ...]] = {}
    integers: set[str] = set()
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise InputError(f"{folder} has no model.safetensors; pickled weights are not read")
    for file in weights:
        try:
            with safe_open(file, "pt") as stored:
                parts = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118
                found |= {name: tuple(part.get_shape()) for name, part in parts.items()}
                integers |= {n for n, part in parts.items() if "F" not in part.get_dtype()}
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(
                f"{file} is not a whole file of weights ({' '.join(str(error).split())})"
            ) from error
    return found, integers


def _refuse_other_weights(
    folder: Path, stored: Mapping, integers: set[str], known: Mapping, model: PreTrainedModel
) -> None:
    """Stored shapes against those that the plain model knows and those that ``model`` needs.

    Of what is known none may be among ``integers``: numbers that stand for others (quantised).
    """
    # A model without its head was saved without the name of its body.
    inside = {n: n if n in known else f"{model.base_model_prefix}.{n}" for n in stored}
    ignored = list(model._keys_to_ignore_on_load_unexpected or ())
    lacking = [name for name in unique_state(model) if name not in inside.values()]
    extra = [n for n in stored if inside[n] not in known and not _matches(n, ignored)]
    other = [n for n in stored if inside[n] in known and stored[n] != known[inside[n]]]
    quantised = [n for n in stored if inside[n] in known and n in integers]
    for names, what in (
        (lacking, "do not have"),
        (extra, "have, beside what its config.json asks for,"),
        (other, "have in another shape than its config.json says"),
        (quantised, "have as integers, and not as the floats that are needed,"),
    ):
        if names:
            shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
            raise InputError(f"the weights of {folder} {what} {shown}")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _attention(kind: type[Architecture], device: torch.device) -> dict[str, str]:
    # For a handful of tokens on a CPU, plain matrix products beat the fused kernel in training.
    way = "eager" if device.type == "cpu" else "sdpa"
    return {"attn_implementation": way} if kind.has_attention else {}


def _switched(model: PreTrainedModel) -> PreTrainedModel:
    """The model with the switches of its configuration applied.

    The weights file holds every shared parameter once, so ``from_pretrained`` reads the checkpoint
    of a switched model, but only this makes it the model that was trained.
    """
    kind = architectures.find(model.config.model_type)
    switches = set(getattr(model.config, "architecture_switches", None) or ())
    if unknown := ", ".join(sorted(switches - set(kind.switches))):
        known = ", ".join(kind.switches)
        raise InputError(f"config.json asks for {unknown}; known architecture switches are {known}")
    if switches or architectures.loops_of(model.config) > 1:
        kind.switch(model, switches)
    return model


def unique_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """The state dictionary with each shared parameter under its first name only."""
    kept: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        kept.setdefault(tensor.data_ptr(), (name, tensor))
    return dict(kept.values())


@contextmanager
def quiet() -> Iterator[None]:
    """Reading and writing models without what transformers shows of it.

    It draws a progress bar for each file, and reports weights of the plain model that a switched
    one does not have as new; we draw our own, and ``load_model`` refuses what really lacks.
    """
    from transformers.utils import logging as shown

    enabled, level = shown.is_progress_bar_enabled(), shown.get_verbosity()
    shown.disable_progress_bar()
    shown.set_verbosity_error()
    try:
        yield
    finally:
        shown.set_verbosity(level)
        if enabled:
            shown.enable_progress_bar()
