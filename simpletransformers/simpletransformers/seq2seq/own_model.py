"""Models of a user's own: a Python file that makes one, and checkpoints that keep the file.

The file has ``build(config)``, which gives an ``nn.Module`` from ids (n, T) int64 to logits
(n, T, vocab_size); ``config`` is a ``ModelSizes``. A module that also has ``CONTRACT`` can be
analysed (``architectures/model_file.py``). To run the file is to trust it: what a user names is
run, what a checkpoint brings along only where its user says so, and if it is what was saved.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from simpletransformers import files
from simpletransformers.errors import InputError
from simpletransformers.seq2seq import architectures
from simpletransformers.seq2seq.args import Seq2SeqArgs

#: The name of the file in a checkpoint.
SOURCE = "model_file.py"
#: What analyses ask of a module: ``embed(ids)`` -> states (n, T, width), ``blocks``, a sequence of
#: callables that each make the next states of whole sequences, ``norm(states)``, and
#: ``readout(states)`` -> logits.
CONTRACT = ("embed", "blocks", "norm", "readout")
_WEIGHTS = "model.safetensors"
#: Tokens of the sequences on which a model is tried out.
_TRIED = 4


@dataclass(frozen=True)
class ModelSizes:
    """What ``build`` is given: the sizes that ``main.py`` was asked for, and those of the data.

    ``vocab_size`` counts the rows of the embedding, of which the last may be padding; ``n_inner``
    is the width inside an MLP; ``dropout`` is 0 or 0.1; ``n_positions`` are the tokens that a
    sequence may have. A file uses what it needs.
    """

    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    n_inner: int
    dropout: float
    n_positions: int
    pad_token_id: int | None
    eos_token_id: int | None


@dataclass(frozen=True)
class Source:
    """A model file: ``name``, by which sentences call it, and its bytes."""

    name: str
    content: bytes

    @classmethod
    def read(cls, path: str | Path) -> Source:
        """The file at ``path``; ``InputError`` if it cannot be read as text."""
        return cls(Path(path).name, files.read_text(path).encode())

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def made(self, folder: Path) -> bool:
        """Whether a checkpoint says that it was saved with this file."""
        recorded = files.read_json(folder / "config.json", dict).get("model_file_sha256")
        return recorded == self.sha256

    def build(self, sizes: ModelSizes) -> nn.Module:
        """Run the file, and its ``build``; ``InputError`` says what went wrong where."""
        module = ModuleType(f"model_file_{self.sha256[:16]}")
        module.__file__ = self.name
        sys.modules[module.__name__] = module  # dataclasses of the file look for it there
        with self.saying("cannot be run (a model file may import installed packages only)"):
            # Without this module's own imports from the future.
            code = compile(self.content, self.name, "exec", dont_inherit=True)
            exec(code, module.__dict__)
        build = getattr(module, "build", None)
        if not callable(build):
            raise InputError(f"{self.name} has no build(config), which makes the model")
        with self.saying("build(config) failed"):
            made = build(sizes)
        if not isinstance(made, nn.Module):
            kind = type(made).__name__
            raise InputError(f"{self.name}: build(config) gave a {kind}, not a torch.nn.Module")
        return made

    @contextmanager
    def saying(self, what: str) -> Iterator[None]:
        """Run code of the file: what it raises becomes one sentence, which begins with ``what``."""
        try:
            yield
        except (Exception, SystemExit) as error:
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if frame.filename == self.name]
            lines = [error.lineno] if isinstance(error, SyntaxError) else lines
            where = f" in line {lines[-1]}" if lines else ""
            why = f"{type(error).__name__}{where}: {' '.join(str(error).split())}"
            raise InputError(f"{self.name}: {what}: {why}") from error


class OwnModel(nn.Module):
    """A user's module, with what the trainer and the model door use of transformers' models."""

    base_model_prefix = ""

    def __init__(self, own: nn.Module, sizes: ModelSizes, source: Source) -> None:
        super().__init__()
        self.own, self.sizes, self.source = own.float(), sizes, source
        self.config = SimpleNamespace(
            model_type=architectures.OF_FILE,
            vocab_size=sizes.vocab_size,
            eos_token_id=sizes.eos_token_id,
            max_position_embeddings=sizes.n_positions,
            num_hidden_layers=sizes.n_layer,
            hidden_size=sizes.n_embd,
        )
        self._try_out()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def missing(self) -> list[str]:
        """What the module lacks of ``CONTRACT``."""
        return [name for name in CONTRACT if not hasattr(self.own, name)]

    def forward(self, ids: Tensor, **_of_caches: object) -> SimpleNamespace:
        """``logits`` (n, T, vocabulary) of ids (n, T)."""
        return SimpleNamespace(logits=self.own(ids))

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def looks(self) -> dict[str, object]:
        """The settings of the architecture that it was made with."""
        names = ("n_layer", "n_head", "n_embd", "n_inner")
        return {
            **{name: getattr(self.sizes, name) for name in names},
            "no_dropout": not self.sizes.dropout,
            "pad_vocab_to": self.sizes.vocab_size,
        }

    @torch.no_grad()
    def _try_out(self) -> None:
        """``InputError`` if it is no model that can be trained."""
        name, parameters = self.source.name, list(self.own.named_parameters())
        if not parameters:
            raise InputError(f"{name}: the model has no parameters to train")
        if broken := [key for key, p in parameters if not p.isfinite().all()]:
            raise InputError(f"{name}: parameters are not finite numbers, such as {broken[0]}")
        ids = torch.arange(2 * _TRIED).view(2, _TRIED) % self.sizes.vocab_size
        logits = self._tried(self.own, ids)
        wanted = (*ids.shape, self.sizes.vocab_size)
        if (
            not isinstance(logits, Tensor)
            or logits.shape != wanted
            or not logits.is_floating_point()
        ):
            found = type(logits).__name__
            if isinstance(logits, Tensor):
                found = f"{tuple(logits.shape)} {str(logits.dtype).removeprefix('torch.')}"
            raise InputError(
                f"{name}: of ids {tuple(ids.shape)} the model must give logits {wanted} of floats, "
                f"it gives {found}"
            )
        if not self.missing:
            start, blocks = self._tried(lambda ids: (self.own.embed(ids), self.own.blocks), ids)
            with self.source.saying("embed and blocks are not as analyses need them"):
                self.config.hidden_size = start.shape[-1]
                self.config.num_hidden_layers = len(blocks)

    def _tried(self, run: Callable[[Tensor], object], ids: Tensor) -> object:
        """What ``run`` gives when nothing is trained; no random number is used up."""
        training = self.training
        self.eval()
        with torch.random.fork_rng(devices=[]), self.source.saying("the model cannot be run"):
            found = run(ids)
        self.train(training)
        return found

    @torch.no_grad()
    def check(self, length: int, *, several: bool) -> None:
        """``InputError`` if it cannot be run on sequences of ``length`` tokens.

        With ``several`` tokens to produce, of which each is read before the next, also if its
        logits at a position depend on later tokens: it would read what it is to produce.
        """
        ids = torch.arange(length, device=self.device)[None] % self.sizes.vocab_size
        before = self._tried(self.own, ids)
        ids[:, -1] = (ids[:, -1] + 1) % self.sizes.vocab_size
        if several and not same(before[:, :-1], self._tried(self.own, ids)[:, :-1]):
            raise InputError(
                f"{self.source.name}: the model's logits at a position depend on later tokens, and "
                "these data have loss at several positions, so that it would read what it is to "
                "produce; make it causal"
            )

    def save_pretrained(self, folder: str | Path, **_of_transformers: object) -> None:
        """Write weights, by the module's own names, sizes, and the source."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        whole = {"memory_format": torch.contiguous_format}  # which views may not have
        kept = {names[0]: tensor.cpu().clone(**whole) for names, tensor in _tensors(self.own)}
        save_file(kept, folder / _WEIGHTS)
        (folder / SOURCE).write_bytes(self.source.content)
        about = {"model_type": self.config.model_type, "model_file": self.source.name}
        about |= {"model_file_sha256": self.source.sha256, **asdict(self.sizes)}
        files.write_json(folder / "config.json", about)

    def fill(self, weights: Mapping[str, Tensor], where: object) -> None:
        """Take over weights by the module's own names, of which those of one tensor are one.

        ``InputError`` if names or shapes are others, or if they are not finite.
        """
        own = _tensors(self.own)
        shapes = {name: tuple(tensor.shape) for names, tensor in own for name in names}
        given = {names: [n for n in names if n in weights] for names, _ in own}
        lacking = [names[0] for names, there in given.items() if not there]
        extra = [name for name in weights if name not in shapes]
        other = [
            f"{name} {tuple(tensor.shape)} and not {shapes[name]}"
            for name, tensor in weights.items()
            if tensor.shape != shapes.get(name, tensor.shape)
        ]
        floats = {name: t.is_floating_point() for names, t in own for name in names}
        kinds = [
            f"{name} in {str(tensor.dtype).removeprefix('torch.')}"
            for name, tensor in weights.items()
            if tensor.is_floating_point() != floats.get(name, tensor.is_floating_point())
        ]
        apart = [
            " and ".join(there)
            for there in given.values()
            if any(not torch.equal(weights[there[0]], weights[name]) for name in there[1:])
        ]
        of_file = f"build(config) of {self.source.name}"
        for names, what, whereas in (
            (lacking, "lack", f"which {of_file} makes"),
            (extra, "have", f"which {of_file} does not make"),
            (other, "have", f"as {of_file} makes it"),
            (kinds, "have", f"which {of_file} makes of another kind (floats, or integers)"),
            (apart, "have different", f"which {of_file} makes one tensor"),
        ):
            if names:
                shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
                raise InputError(f"the weights of {where} {what} {shown}, {whereas}")
        with torch.no_grad():
            for names, tensor in own:
                tensor.copy_(weights[given[names][0]])
        broken = [name for name, p in self.own.named_parameters() if not p.isfinite().all()]
        if broken:
            raise InputError(f"the weights in {where} are not finite numbers, such as {broken[0]}")


def same(first: Tensor, second: Tensor) -> bool:
    """Whether the same computation gave both, up to rounding."""
    return torch.allclose(first.float(), second.float(), 1e-4, 1e-5)


def _tensors(module: nn.Module) -> list[tuple[tuple[str, ...], Tensor]]:
    """Each tensor of a module's state once, with all of its names."""
    found: dict[tuple, tuple[list[str], Tensor]] = {}
    for name, tensor in module.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
        found.setdefault(place, ([], tensor))[0].append(name)
    return [(tuple(names), tensor) for names, tensor in found.values()]


def recorded(model: nn.Module) -> dict[str, str]:
    """What tells a model of one file from that of another, in a run's settings; else nothing."""
    return {"model_file_sha256": model.source.sha256} if isinstance(model, OwnModel) else {}


def build(source: Source, sizes: ModelSizes, device: torch.device) -> OwnModel:
    """A new model of a file, of torch's global random state; ``InputError`` if it is none."""
    return OwnModel(source.build(sizes), sizes, source).to(device)


def load(folder: Path, device: torch.device, *, trusted: bool) -> OwnModel:
    """The model of a checkpoint that has its own source.

    ``InputError`` if it is not ``trusted``, if its source is not what was saved, and as ``build``
    and ``OwnModel.fill``.
    """
    file, config = folder / SOURCE, files.read_json(folder / "config.json", dict)
    if not trusted:
        raise InputError(
            f"{folder} holds Python code, {file}, that is run when the model is loaded; "
            "read that file, and give `trust_code` if you trust it"
        )
    with files.looking_into(folder / "config.json", "the configuration of a model file"):
        sizes = ModelSizes(**{name: config[name] for name in ModelSizes.__dataclass_fields__})
        name, recorded = str(config["model_file"]), config["model_file_sha256"]
    source = Source(name, files.read_text(file).encode())
    saved = Seq2SeqArgs.saved_files(folder, SOURCE)
    if source.sha256 != recorded or not saved.get(SOURCE, True):
        raise InputError(
            f"{file} is not the code that the model was saved with (its SHA-256 is another), so it "
            "is not run, `trust_code` or not"
        )
    model = build(source, sizes, torch.device("cpu"))
    model.fill(read_weights(folder / _WEIGHTS), folder)
    return model.to(device)


def read_weights(file: Path) -> dict[str, Tensor]:
    """A plain state dict: ``.safetensors``, or what ``torch.save(model.state_dict(), file)`` wrote.

    No code in it is run. ``InputError`` if it holds anything else.
    """
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (SafetensorError, OSError, ValueError) as error:
            why = " ".join(str(error).split())
            raise InputError(f"{file} is not a whole file of weights ({why})") from error
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names no common base for unreadable files
        raise InputError(
            f"{file} is not a state dict: a .safetensors file, or what "
            "torch.save(model.state_dict(), FILE) writes, with nothing but tensors in it"
        ) from error
    plain = isinstance(found, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in found.items()
    )
    if not plain:
        raise InputError(f"{file} holds something else than tensors by name, as a state dict has")
    return dict(found)
