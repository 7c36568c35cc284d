"""One process or many under torchrun: who am I, which device is mine, sums over all ranks."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from simpletransformers.errors import InputError
from simpletransformers.words import counted


@dataclass(frozen=True)
class Ranks:
    """This process among all: ``rank`` of ``world``, working on ``device``."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of ``tensor`` over all ranks, on every rank."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true on at least one rank; every rank has to ask."""
        if self.world == 1:
            return flag
        return bool(self.sum(torch.tensor(int(flag), device=self.device)).item())

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            dist.barrier()

    def first(self, work: Callable[[], object]) -> None:
        """Let the first rank do ``work`` while the others wait.

        What it raises is raised there, and ``InputError`` on the others, which else would wait for
        a process that has ended.
        """
        failed = None
        if self.is_main:
            try:
                work()
            except Exception as error:
                failed = error
        if self.any(failed is not None):
            raise failed or InputError("the first process cannot go on; it says why")


def choose_device(request: str = "auto") -> torch.device:
    """The device named ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` is this rank's GPU if there is one, else the CPU. ``InputError`` if the device is not
    there.
    """
    if request == "auto":
        request = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", request):
        raise InputError(f"`device` {request} is not known; use auto, cpu, cuda, cuda:N or mps")
    device = torch.device(request)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    gpus, mps = torch.cuda.device_count(), int(torch.backends.mps.is_available())
    there = {"cpu": 1, "cuda": gpus, "mps": mps}[device.type]
    if (device.index or 0) >= there:
        seen = f"{there} of its kind" if there else "no GPU"
        raise InputError(f"`device` {device} was asked for, but torch sees {seen}; use cpu")
    return device


def describe_device(device: torch.device) -> str:
    """The device in words: a GPU's model, or the number of threads of a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type + (
        f", {counted(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else ""
    )


@contextmanager
def process_group(device: torch.device) -> Iterator[Ranks]:
    """Join torchrun's process group for the time of the block; without torchrun, be alone."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield Ranks(0, 1, device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    already = dist.is_initialized()
    if not already:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), world, device)
    finally:
        if not already:
            dist.destroy_process_group()


def gather_random_states(ranks: Ranks) -> list[dict[str, torch.Tensor]]:
    """The generators' states of every rank, in order, on every rank."""
    state = {"cpu": torch.get_rng_state()}
    if ranks.device.type == "cuda":
        state["device"] = torch.cuda.get_rng_state(ranks.device)
    if ranks.world == 1:
        return [state]
    gathered = {}
    for name, mine in state.items():
        table = torch.zeros(ranks.world, len(mine), dtype=torch.int64, device=ranks.device)
        table[ranks.rank] = mine.to(ranks.device)
        gathered[name] = ranks.sum(table).to("cpu", torch.uint8)
    return [{name: gathered[name][rank] for name in state} for rank in range(ranks.world)]


def set_random_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Put this rank's generators back."""
    # Copies: torch reads a state from the start of its memory, but a rank's is a row of a table.
    torch.set_rng_state(state["cpu"].clone())
    if "device" in state:
        torch.cuda.set_rng_state(state["device"].clone(), device)
