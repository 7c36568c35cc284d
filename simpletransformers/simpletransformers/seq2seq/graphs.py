"""A training step recorded once as a CUDA graph and then replayed: one launch instead of hundreds.

Pays where a step is so small that launching its kernels takes longer than running them. Steps are
static by construction: every one has the same number of rows, and nothing in it reads a value back
to the host.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from simpletransformers.errors import InputError

#: Steps that run as usual before the recording: lazily made buffers and compiled code come first.
_WARM_UP = 3

Compute = Callable[[torch.Tensor], None]


def check(device: torch.device, world: int, precision: str) -> None:
    """``InputError`` where a step cannot be recorded."""
    for wanted, given in (
        (device.type == "cuda", f"a GPU, but the device is {device}"),
        (world == 1, f"a single process, but there are {world}"),
        (precision != "fp16", "precision bf16 or fp32, but it is fp16"),
    ):
        if not wanted:
            raise InputError(f"`cuda_graphs` needs {given}; omit it")


class GraphedStep:
    """Calls ``compute`` with ``(batch,)`` int64 row numbers; records it and replays the recording.

    ``compute`` must leave no gradients behind, so that the recording allocates its own.
    """

    def __init__(self, compute: Compute, batch: int, device: torch.device) -> None:
        self._compute = compute
        self._rows = torch.zeros(batch, dtype=torch.int64, device=device)
        self._calls = 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, rows: torch.Tensor) -> None:
        self._rows.copy_(rows)
        self._calls += 1
        if self._calls <= _WARM_UP:
            on_side_stream(self._compute, self._rows)
            return
        if self._replay is None:
            self._replay = record(self._compute, self._rows)
        self._replay()


def on_side_stream(compute: Compute, rows: torch.Tensor) -> None:
    """Run as a recording will: not on the default stream, which cannot be recorded."""
    current, side = torch.cuda.current_stream(rows.device), torch.cuda.Stream(rows.device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        compute(rows)
    current.wait_stream(side)


def record(compute: Compute, rows: torch.Tensor) -> Callable[[], None]:
    """Record without running; the function that runs the recording on what ``rows`` holds then."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        compute(rows)
    return graph.replay
