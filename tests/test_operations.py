"""The hand-written operations of training on a CPU, against plain autograd and against chance."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.stats import binom, binomtest
from torch.nn import functional

from simpletransformers.seq2seq import operations
from simpletransformers.seq2seq.operations import Half
from tests.test_training_steps import Operations

ROWS, WIDTH, HEADS = 3, 8, 2
WHOLE = Half(torch.float64, 1e-5, 0.0, HEADS, 0.5)


def values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def layers(inner: int, *, norm: bool):
    """Norm, inner and outer layer of half a block whose inner layer has so many outputs."""
    back = WIDTH if inner == 3 * WIDTH else inner
    pairs = [(values(WIDTH, inner), values(inner)), (values(back, WIDTH), values(WIDTH))]
    return [(values(WIDTH), values(WIDTH)) if norm else None, *pairs]


def plain_attention(state, norm, inner, outer, half, factors):
    normed = functional.layer_norm(state, (WIDTH,), *norm, half.eps) if norm else state
    parts = (normed @ inner[0] + inner[1]).view(*state.shape[:2], 3, HEADS, -1)
    query, key, value = parts.permute(2, 0, 3, 1, 4)
    hidden = torch.ones(query.shape[2], query.shape[2]).triu(1).bool()
    scores = (query @ key.transpose(-1, -2) * half.scale).masked_fill(hidden, -torch.inf)
    wanted = list(range(state.shape[1]) if half.wanted is None else half.wanted)
    shares = scores.softmax(-1)[:, :, wanted] * next(factors).permute(0, 3, 1, 2)
    mixed = (shares @ value).transpose(1, 2).reshape(ROWS, len(wanted), WIDTH)
    return state[:, wanted] + (mixed @ outer[0] + outer[1]) * next(factors)


def plain_mlp(state, norm, inner, outer, half, factors):
    normed = functional.layer_norm(state, (WIDTH,), *norm, half.eps) if norm else state
    active = functional.gelu(normed @ inner[0] + inner[1], approximate="tanh")
    return state + (active @ outer[0] + outer[1]) * next(factors)


CASES = [
    *(("attention", length, wanted) for length in (3, 7) for wanted in (None, (2,), (0, 2))),
    ("mlp", 3, None),
]


@pytest.mark.parametrize(("name", "length", "wanted"), CASES)
@pytest.mark.parametrize("norm", [True, False])
def test_half_a_block_and_its_derivatives_are_those_of_plain_operations(
    name, length, wanted, norm, monkeypatch
):
    """In double precision, under the same dropout."""
    torch.manual_seed(0)
    half = replace(WHOLE, rate=0.3, attention_rate=0.2, wanted=wanted)
    state, parts = values(ROWS, length, WIDTH), layers(24 if name == "attention" else 11, norm=norm)
    drawn, draw = [], operations.mask
    monkeypatch.setattr(operations, "mask", lambda *a: drawn.append(draw(*a)) or drawn[-1])
    inputs = [state, *(tensor for pair in parts if pair for tensor in pair)]
    ours = getattr(operations, name)(state, *parts, half)
    weights = torch.randn_like(ours)
    our_gradients = torch.autograd.grad((ours * weights).sum(), inputs)
    plain = globals()[f"plain_{name}"](state, *parts, half, iter(drawn))
    assert len(drawn) == (2 if name == "attention" else 1)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    for mine, other in zip(
        our_gradients, torch.autograd.grad((plain * weights).sum(), inputs), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("length", [2, 6])
def test_derivatives_are_those_of_finite_differences(length):
    state, half = values(2, length, WIDTH), replace(WHOLE, rate=0.3, attention_rate=0.2)

    def run(operation, state, *tensors):
        torch.manual_seed(3)  # the same dropout every time
        pairs = list(zip(tensors[::2], tensors[1::2], strict=True))
        return operation(operations.dropout(state, 0.1), *pairs, half)

    for operation, inner in ((operations.attention, 24), (operations.mlp, 5)):
        tensors = [tensor for pair in layers(inner, norm=True) for tensor in pair]
        assert torch.autograd.gradcheck(
            lambda *given, operation=operation: run(operation, *given), (state, *tensors)
        )


@pytest.mark.parametrize(("length", "off"), [(3, 0.02), (7, 0.1)])
@pytest.mark.parametrize("automatic", [False, True])
def test_products_in_16_bits_are_near_those_in_32(length, off, automatic):
    """Also where torch itself would choose the types, as it does in training."""
    torch.manual_seed(1)
    for operation, inner in ((operations.attention, 24), (operations.mlp, 32)):
        state, parts = values(ROWS, length, WIDTH), layers(inner, norm=True)
        state, *parts = (
            [p.detach().float().requires_grad_() for p in x] if isinstance(x, tuple) else x
            for x in (state.detach().float().requires_grad_(), *parts)
        )
        found = []
        for dtype in (torch.float32, torch.bfloat16):
            with Operations() as seen:
                with torch.autocast("cpu", dtype, enabled=automatic and dtype != torch.float32):
                    result = operation(state, *parts, replace(WHOLE, dtype=dtype))
                gradient = torch.autograd.grad(result.square().sum(), [state, parts[1][0]])
            assert "addmm" in seen.names
            assert {part.dtype for part in (result, *gradient)} == {torch.float32}
            found.append((result, *gradient))
        for exact, rough in zip(*found, strict=True):
            assert 0 < (exact - rough).norm() / exact.norm() < off


# ------------------------------------------------------------------------------------- dropout


def test_dropout_has_the_probability_that_the_page_tells(monkeypatch):
    """Of all 16-bit numbers just 6,554 set a value to zero."""
    assert operations.chance(0.1) == 6554 / 65536
    every = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int16)
    monkeypatch.setattr(operations, "_random_numbers", lambda shape: every.view(shape))
    for rate, zeros in ((0.1, 6554), (0.5, 32768), (0.0, 0), (0.999999, 65535)):
        factors = operations.mask((256, 256), rate, torch.float64)
        assert (factors == 0).sum() == zeros
        kept = factors[factors > 0].unique()
        assert kept.tolist() == [1 / (1 - zeros / 65536)]
        assert factors.mean().item() == pytest.approx(1, abs=1e-12)  # nothing is scaled on average


def test_dropout_is_independent_from_value_to_value_and_from_place_to_place():
    torch.manual_seed(5)
    rate = operations.chance(0.1)
    first, second = (operations.mask((1000, 403), 0.1, torch.float32) == 0 for _ in range(2))
    assert binomtest(int(first.sum()), first.numel(), rate).pvalue > 1e-3
    flat = first.flatten()
    shifted = [(flat[:-by], flat[by:]) for by in (1, 2, 3, 4, 403)]
    for a, b in [(flat, second.flatten()), *shifted]:
        assert binomtest(int((a & b).sum()), len(a), rate**2).pvalue > 1e-3
    rows_with_40 = int(first.sum(1).eq(40).sum())
    assert binomtest(rows_with_40, 1000, float(binom.pmf(40, 403, rate))).pvalue > 1e-3


def test_random_numbers_are_spread_over_all_sixteen_bits():
    torch.manual_seed(6)
    numbers = operations._random_numbers((200_001,))
    for bit in range(16):
        ones = int(((numbers.int() >> bit) & 1).sum())
        assert binomtest(ones, len(numbers), 0.5).pvalue > 1e-3
