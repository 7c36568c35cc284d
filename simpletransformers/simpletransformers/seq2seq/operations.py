"""What a CPU computes in a training step of a GPT-2, with the derivatives written by hand.

Beside its matrix products a step on a few tokens consists of many small operations, each of which
moves megabytes. Here each half of a block is one operation of autograd, of few passes:

- Attention over a few tokens is a broadcast product and a sum, not a matrix product for each head.
- Dropout compares 16 random bits a value with a threshold: the probability is a whole multiple of
  1/65,536 (0.1 is 6,554/65,536 = 0.100006), and what is kept is divided by just what it is kept by.
- GELU is ``x * sigmoid(2u)``, the same function as its form with tanh, whose derivative needs no
  other transcendental function.

Where weights are to be multiplied in 16 bits (``dtype``), matrix products and what goes into them
have that type, and everything else is in the type of the states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from simpletransformers.seq2seq.architecture import pick

#: Tokens up to which broadcast products are faster than matrix products of each item and head.
FEW = 4
_LEVELS = 1 << 16
#: GELU's 2u is x * (_LINEAR + _CUBIC * x^2).
_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR

#: Weight and bias.
Pair = tuple[Tensor, Tensor]


def chance(rate: float) -> float:
    """The probability with which dropout of a ``rate`` below 1 sets a value to zero."""
    return min(round(rate * _LEVELS), _LEVELS - 1) / _LEVELS


def mask(shape: Sequence[int], rate: float, dtype: torch.dtype) -> Tensor:
    """Random factors of dropout: 0 with probability ``chance(rate)``, else 1 / (1 - it)."""
    share, factors = chance(rate), torch.empty(shape, dtype=dtype)
    torch.ge(_random_numbers(shape), int(share * _LEVELS) - _LEVELS // 2, out=factors)
    return factors.div_(1 - share)


def _random_numbers(shape: Sequence[int]) -> Tensor:
    """Independent int16, each of the 65,536 as likely; drawn by fours."""
    count = math.prod(shape)
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(1 << 63), None)
    return words.view(torch.int16)[:count].view(shape)


class _Dropout(Function):
    @staticmethod
    def forward(ctx, state, rate):
        factors = mask(state.shape, rate, state.dtype)
        ctx.save_for_backward(factors)
        return state * factors

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0], None


def dropout(state: Tensor, rate: float) -> Tensor:
    return _Dropout.apply(state, rate) if rate else state


@dataclass(frozen=True)
class Half:
    """How half a block computes: ``rate`` is that of the dropout before the residual stream.

    ``dtype`` is that of matrix products, ``eps`` the layer norm's. What follows is of attention
    alone: ``scale`` multiplies the scores, ``attention_rate`` is the dropout of the shares, and
    only the positions ``wanted`` come out (None: all).
    """

    dtype: torch.dtype
    eps: float
    rate: float
    heads: int = 1
    scale: float = 1.0
    attention_rate: float = 0.0
    wanted: Sequence[int] | None = None


@torch.autocast("cpu", enabled=False)  # the types are given; derivatives know of no others
def attention(state: Tensor, norm: Pair | None, inner: Pair, outer: Pair, half: Half) -> Tensor:
    """The residual stream after a block's attention, ``(rows, wanted, width)``.

    ``state`` is ``(rows, positions, width)``; ``inner`` makes queries, keys and values of the
    normed state, ``outer`` what is added; weights are (inputs, outputs), ``norm`` None is no norm.
    """
    return _Attention.apply(state, *(norm or (None, None)), *inner, *outer, half)


def mlp(state: Tensor, norm: Pair | None, inner: Pair, outer: Pair, half: Half) -> Tensor:
    """The residual stream after a block's MLP with the tanh form of GELU; as ``attention``."""
    return _MLP.apply(state, *(norm or (None, None)), *inner, *outer, half)


class _Attention(Function):
    @staticmethod
    def forward(ctx, state, scale, shift, weight, bias, out_weight, out_bias, half):
        rows, length, width = state.shape
        normed, *moments = _norm(state, scale, shift, half.eps)
        states = normed.to(half.dtype).view(-1, width)
        weight, out_weight = weight.to(half.dtype), out_weight.to(half.dtype)
        bias, out_bias = bias.to(half.dtype), out_bias.to(half.dtype)
        if half.wanted is None:
            asking, residual = states, state
            parts = torch.addmm(bias, states, weight).to(state.dtype)
            query, key, value = parts.view(rows, length, 3, half.heads, -1).unbind(2)
        else:
            asking = pick(states.view(state.shape), half.wanted).reshape(-1, width)
            residual = pick(state, half.wanted)
            query = torch.addmm(bias[:width], asking, weight[:, :width]).to(state.dtype)
            query = query.view(rows, -1, half.heads, width // half.heads)
            parts = torch.addmm(bias[width:], states, weight[:, width:]).to(state.dtype)
            key, value = parts.view(rows, length, 2, half.heads, -1).unbind(2)
        scores = _products(query, key).mul_(half.scale)
        wanted = tuple(half.wanted or range(length))
        if (hidden := _hidden(wanted, length, state.dtype)) is not None:
            scores += hidden
        shares = scores.softmax(2)
        factors = dropped = None
        if half.attention_rate:
            factors = mask(shares.shape, half.attention_rate, state.dtype)
            dropped = shares * factors
        mixed = _mixture(shares if dropped is None else dropped, value)
        mixed = mixed.reshape(-1, width).to(half.dtype)
        added = torch.addmm(out_bias, mixed, out_weight)
        result, kept = _add(residual, added.view(residual.shape), half.rate)
        ctx.save_for_backward(
            *(state, scale, shift, *moments, states, asking, weight, query, key, value),
            *(shares, factors, dropped, mixed, out_weight, kept),
        )
        ctx.half = half
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        state, scale, shift, mean, deviation, states, asking, weight, *rest = ctx.saved_tensors
        query, key, value, shares, factors, dropped, mixed, out_weight, kept = rest
        half, width, dtype = ctx.half, state.shape[-1], state.dtype
        added = _dropped(gradient, kept).to(half.dtype).view(-1, width)
        of_out = (mixed.t() @ added).to(dtype), added.sum(0).to(dtype)
        of_mixed = (added @ out_weight.t()).to(dtype).view(query.shape)
        of_shares = _products(of_mixed, value)
        if factors is not None:
            of_shares *= factors
        of_scores = of_shares.mul_(shares)
        of_scores.addcmul_(shares, of_scores.sum(2, keepdim=True), value=-1).mul_(half.scale)
        across = of_scores.transpose(1, 2)
        weights = (shares if dropped is None else dropped).transpose(1, 2)
        own = 1 if half.wanted is None else 0  # the query is a part of what the states give
        parts = torch.empty(*key.shape[:2], 2 + own, *key.shape[2:], dtype=dtype)
        _mixture(across, query, parts[:, :, own])
        _mixture(weights, of_mixed, parts[:, :, own + 1])
        if own:
            _mixture(of_scores, key, parts[:, :, 0])
            parts = parts.view(len(states), -1).to(half.dtype)
            of_weight, of_bias = (states.t() @ parts).to(dtype), parts.sum(0).to(dtype)
            of_states = (parts @ weight.t()).to(dtype).view(state.shape)
        else:
            parts = parts.view(len(states), -1).to(half.dtype)
            asked = _mixture(of_scores, key).reshape(len(asking), -1).to(half.dtype)
            of_weight = torch.empty(weight.shape, dtype=dtype)
            of_weight[:, :width] = asking.t() @ asked
            of_weight[:, width:] = states.t() @ parts
            of_bias = torch.cat([asked.sum(0), parts.sum(0)]).to(dtype)
            of_states = (parts @ weight[:, width:].t()).to(dtype).view(state.shape)
            more = (asked @ weight[:, :width].t()).view(gradient.shape)
            _add_at(of_states, half.wanted, more)
        of_state, *of_norm = _norm_backward(of_states, state, scale, shift, mean, deviation)
        if half.wanted is None:
            of_state += gradient
        else:
            _add_at(of_state, half.wanted, gradient)
        return of_state, *of_norm, of_weight, of_bias, *of_out, None


class _MLP(Function):
    @staticmethod
    def forward(ctx, state, scale, shift, weight, bias, out_weight, out_bias, half):
        normed, *moments = _norm(state, scale, shift, half.eps)
        states = normed.to(half.dtype).view(-1, state.shape[-1])
        weight, out_weight = weight.to(half.dtype), out_weight.to(half.dtype)
        inner = torch.addmm(bias.to(half.dtype), states, weight)
        active, slope = _gelu(inner.to(state.dtype))
        active, slope = active.to(half.dtype), slope.to(half.dtype)
        added = torch.addmm(out_bias.to(half.dtype), active, out_weight)
        result, kept = _add(state, added.view(state.shape), half.rate)
        ctx.save_for_backward(
            *(state, scale, shift, *moments, states, weight, active, slope, out_weight, kept)
        )
        ctx.half = half
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        state, scale, shift, mean, deviation, states, weight, active, slope, *rest = (
            ctx.saved_tensors
        )
        (out_weight, kept), dtype = rest, state.dtype
        added = _dropped(gradient, kept).to(ctx.half.dtype).view(len(states), -1)
        of_out = (active.t() @ added).to(dtype), added.sum(0).to(dtype)
        inner = (added @ out_weight.t()).mul_(slope)
        of_inner = (states.t() @ inner).to(dtype), inner.sum(0).to(dtype)
        of_states = (inner @ weight.t()).to(dtype).view(state.shape)
        of_state, *of_norm = _norm_backward(of_states, state, scale, shift, mean, deviation)
        return of_state.add_(gradient), *of_norm, *of_inner, *of_out, None


def _gelu(x: Tensor) -> tuple[Tensor, Tensor]:
    """GELU in its tanh form, and its derivative; few passes, as each moves all of it."""
    steep = (x * x).mul_(_CUBIC).add_(_LINEAR)
    gate = (steep * x).sigmoid_()
    value = x * gate
    # The derivative is gate + value * (1 - gate) * (_LINEAR + 3 * _CUBIC * x^2).
    steep.mul_(3).sub_(2 * _LINEAR).mul_(value)
    return value, gate.add_(steep.addcmul_(steep, gate, value=-1))


def _norm(state: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float):
    """The layer norm with its means and reciprocal deviations, or the state itself without one."""
    if scale is None:
        return state, None, None
    return torch.native_layer_norm(state, state.shape[-1:], scale, shift, eps)


def _norm_backward(gradient, state, scale, shift, mean, deviation):
    """Gradients of the state, which may be written to, and of ``scale`` and ``shift``."""
    if scale is None:
        return gradient, None, None
    return torch.ops.aten.native_layer_norm_backward(
        gradient, state, state.shape[-1:], mean, deviation, scale, shift, [True, True, True]
    )


def _add(residual: Tensor, added: Tensor, rate: float) -> tuple[Tensor, Tensor | None]:
    """The residual stream with what dropout leaves of ``added``, and dropout's factors."""
    if not rate:
        return residual + added, None
    factors = mask(residual.shape, rate, residual.dtype)
    return torch.addcmul(residual, added.to(residual.dtype), factors), factors


def _dropped(gradient: Tensor, factors: Tensor | None) -> Tensor:
    return gradient if factors is None else gradient * factors


def _products(first: Tensor, second: Tensor) -> Tensor:
    """``(n, p, q, heads)``: of ``(n, p, heads, size)`` with ``(n, q, heads, size)``, by head."""
    if second.shape[1] > FEW:
        return torch.einsum("nphd,nqhd->npqh", first, second)
    return (first[:, :, None] * second[:, None]).sum(-1)


def _mixture(shares: Tensor, values: Tensor, into: Tensor | None = None) -> Tensor:
    """``(n, p, heads, size)``: values ``(n, q, heads, size)`` in shares ``(n, p, q, heads)``."""
    if shares.shape[2] > FEW:
        mixed = torch.einsum("npqh,nqhd->nphd", shares, values)
        return mixed if into is None else into.copy_(mixed)
    wide = shares[..., None].expand(*shares.shape, values.shape[-1]).contiguous()
    mixed = torch.mul(wide[:, :, 0], values[:, 0:1], out=into)
    for place in range(1, values.shape[1]):
        mixed.addcmul_(wide[:, :, place], values[:, place : place + 1])
    return mixed


@cache
def _hidden(wanted: tuple[int, ...], length: int, dtype: torch.dtype) -> Tensor | None:
    """What hides later positions from softmax, to be added to scores; None if there are none."""
    if min(wanted) == length - 1:
        return None
    later = torch.arange(length) > torch.tensor(wanted)[:, None]
    hidden = torch.zeros(later.shape, dtype=dtype).masked_fill_(later, torch.finfo(dtype).min)
    return hidden[..., None]


def _add_at(tensor: Tensor, positions: Sequence[int], added: Tensor) -> None:
    for number, position in enumerate(positions):
        tensor[:, position] += added[:, number]
