"""Checkpoints of ours read without transformers, whose import takes longer than most analyses.

``LightGPT2`` and ``LightTokenizer`` hold what a checkpoint's files say, under the names that
transformers gives it, for whoever only runs the model. They are made of what ``Seq2SeqModel`` saved
and nobody changed since, and only where every entry has one meaning; for anything else the readers
give None, and transformers reads it, or refuses it, as it always did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from simpletransformers import files
from simpletransformers.seq2seq.args import Seq2SeqArgs

WEIGHTS = "model.safetensors"
#: What a text of our tokenizers is cut into, and how their description says so.
TOKEN = "<[^<>]+>"
CUT = {"type": "Split", "pattern": {"Regex": TOKEN}, "behavior": "Isolated", "invert": False}


def as_saved(saved: Mapping[str, bool], *names: str) -> bool:
    """Whether these files are what was saved, by what ``Seq2SeqArgs.saved_files`` says."""
    return all(saved.get(name, False) for name in names)


class LightGPT2(nn.Module):
    """GPT-2 with the parameters and submodules of ``GPT2LMHeadModel``, uninitialised.

    ``config`` is the content of ``config.json``, and more names for its sizes. ``forward`` is the
    plain textbook form, which ``Layered.check`` compares with the blocks that analyses run.
    """

    base_model_prefix = "transformer"
    _keys_to_ignore_on_load_unexpected = ()

    def __init__(self, config: Mapping[str, object]) -> None:
        super().__init__()
        width, layers = config["n_embd"], config["n_layer"]
        sizes = {"num_hidden_layers": layers, "hidden_size": width}
        sizes |= {"num_attention_heads": config["n_head"]}
        sizes |= {"max_position_embeddings": config["n_positions"]}
        self.config = SimpleNamespace(**{**config, **sizes})
        self.transformer = nn.Module()
        self.transformer.wte = _Table(config["vocab_size"], width)
        self.transformer.wpe = _Table(config["n_positions"], width)
        self.transformer.drop = nn.Dropout(config["embd_pdrop"])
        self.transformer.h = nn.ModuleList(_Block(config) for _ in range(layers))
        self.transformer.ln_f = _norm(config)

    @property
    def device(self) -> torch.device:
        return self.transformer.wte.weight.device

    def get_output_embeddings(self) -> nn.Module:
        return self.transformer.wte

    def forward(self, ids: Tensor, **_of_caches: object) -> SimpleNamespace:
        """``logits`` (n, T, vocabulary) of ids (n, T); nothing is cached."""
        body = self.transformer
        hidden = body.wte.weight[ids] + body.wpe.weight[: ids.shape[1]]
        for block in body.h:
            hidden = block(hidden, self.config.n_head)
        return SimpleNamespace(logits=body.ln_f(hidden) @ body.wte.weight.T)


class _Table(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))


class _Linear(_Table):
    """``Conv1D`` of transformers: its weight is (inputs, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden @ self.weight + self.bias


def _norm(config: Mapping[str, object]) -> nn.LayerNorm:
    return nn.LayerNorm(config["n_embd"], eps=config["layer_norm_epsilon"])


class _Attention(nn.Module):
    def __init__(self, config: Mapping[str, object]) -> None:
        super().__init__()
        width = config["n_embd"]
        self.c_attn, self.c_proj = _Linear(width, 3 * width), _Linear(width, width)
        self.attn_dropout = nn.Dropout(config["attn_pdrop"])
        self.resid_dropout = nn.Dropout(config["resid_pdrop"])

    def forward(self, hidden: Tensor, heads: int) -> Tensor:
        parts = self.c_attn(hidden).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        later = torch.ones_like(scores, dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(later, float("-inf")).softmax(-1) @ value
        return self.c_proj(mixed.transpose(1, 2).flatten(2))


class _MLP(nn.Module):
    def __init__(self, config: Mapping[str, object]) -> None:
        super().__init__()
        width = config["n_embd"]
        inner = config["n_inner"] or 4 * width
        self.c_fc, self.c_proj = _Linear(width, inner), _Linear(inner, width)
        self.dropout = nn.Dropout(config["resid_pdrop"])

    def forward(self, hidden: Tensor) -> Tensor:
        return self.c_proj(functional.gelu(self.c_fc(hidden), approximate="tanh"))


class _Block(nn.Module):
    def __init__(self, config: Mapping[str, object]) -> None:
        super().__init__()
        self.ln_1, self.attn = _norm(config), _Attention(config)
        self.ln_2, self.mlp = _norm(config), _MLP(config)

    def forward(self, hidden: Tensor, heads: int) -> Tensor:
        hidden = hidden + self.attn(self.ln_1(hidden), heads)
        return hidden + self.mlp(self.ln_2(hidden))


def filled(model: LightGPT2 | None, folder: Path) -> LightGPT2 | None:
    """The model with the stored weights; None for None, or if one has no place of its shape there.

    A place that is not in the file keeps what it had.
    """
    own = {} if model is None else model.state_dict()
    with safe_open(folder / WEIGHTS, "pt") as stored:
        for name in stored.keys():  # noqa: SIM118 - a file of weights is no dictionary
            tensor = stored.get_tensor(name)
            if name not in own or own[name].shape != tensor.shape:
                return None
            own[name].copy_(tensor)
    return model


def drawn(model: LightGPT2) -> LightGPT2:
    """The model with weights as GPT-2 begins with, of torch's global random state."""
    config = model.config
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif ".ln_" not in name:
                into_stream = (2 * config.n_layer) ** 0.5 if "c_proj" in name else 1
                parameter.normal_(0, config.initializer_range / into_stream)
    return model


class LightTokenizer:
    """The word-level tokenizer of ``tokenizer.json``, with what we use of transformers' own."""

    def __init__(self, backend: Tokenizer, end_token: str, pad_token: str) -> None:
        self.backend_tokenizer, self.eos_token, self.pad_token = backend, end_token, pad_token
        self.eos_token_id = backend.token_to_id(end_token)
        self.pad_token_id = backend.token_to_id(pad_token)

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    def __call__(self, texts: list[str], add_special_tokens: bool) -> dict[str, list[list[int]]]:
        encoded = self.backend_tokenizer.encode_batch(texts, add_special_tokens=add_special_tokens)
        return {"input_ids": [one.ids for one in encoded]}

    def get_vocab(self) -> dict[str, int]:
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)

    def convert_ids_to_tokens(self, ids: int | Sequence[int]) -> str | None | list[str | None]:
        """The token of an id, or of each; None for a row of padding."""
        name_of = self.backend_tokenizer.id_to_token
        return name_of(ids) if isinstance(ids, int) else [name_of(i) for i in ids]


def read_tokenizer(folder: Path) -> LightTokenizer | None:
    """The tokenizer saved in a folder; None where transformers has to read it."""
    names = "tokenizer.json", "tokenizer_config.json"
    if not as_saved(Seq2SeqArgs.saved_files(folder, *names), *names):
        return None
    content, settings = (files.read_json(folder / name, dict) for name in names)
    end, pad = settings.get("eos_token"), settings.get("pad_token")
    plain = (
        settings.get("tokenizer_class") == "PreTrainedTokenizerFast"
        and content["model"]["type"] == "WordLevel"
        and content["pre_tokenizer"] == CUT
        and not any(content[part] for part in ("truncation", "padding", "normalizer", "decoder"))
        and [token["content"] for token in content["added_tokens"]] == [end, pad]
        and {end, pad} <= set(content["model"]["vocab"])
    )
    return LightTokenizer(Tokenizer.from_file(str(folder / names[0])), end, pad) if plain else None
