"""Which items each step trains on: a pure function of (seed, step), the same on any machine."""

from __future__ import annotations

import numpy as np
import torch


class DataOrder:
    """An endless stream of shuffled epochs, cut into batches; epochs' ends fall inside batches.

    Step s (from 0) takes items ``s * batch`` to ``(s + 1) * batch`` of the stream, so no partial
    batch exists and none is dropped, and a run can start at any step without replaying the ones
    before it. The permutation of an epoch depends on the seed and the epoch's number alone.
    """

    def __init__(
        self, items: int, batch: int, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        self.items = items
        self.batch = min(batch, items)
        self._seed = seed
        self._device = torch.device(device)
        self._epochs: dict[int, torch.Tensor] = {}

    def epoch(self, step: int) -> float:
        """Epochs done before step ``step``."""
        return step * self.batch / self.items

    def indices(self, step: int) -> torch.Tensor:
        """``(batch,)`` int64 item numbers of a step, on the device."""
        start = step * self.batch
        parts = []
        while start < (step + 1) * self.batch:
            epoch, offset = divmod(start, self.items)
            stop = min(self.items, offset + (step + 1) * self.batch - start)
            parts.append(self._permutation(epoch)[offset:stop])
            start += stop - offset
        return torch.cat(parts)

    def _permutation(self, epoch: int) -> torch.Tensor:
        if epoch not in self._epochs:
            # SeedSequence's mix of seed and epoch: nearby pairs give unrelated streams.
            mixed = np.random.SeedSequence([self._seed, epoch]).generate_state(1, np.uint64)[0]
            generator = torch.Generator().manual_seed(int(mixed >> 1))
            self._epochs = {e: p for e, p in self._epochs.items() if e == epoch - 1}
            order = torch.randperm(self.items, generator=generator)
            if self._device.type == "cuda":
                order = order.pin_memory()  # without this the host waits for the copy
            self._epochs[epoch] = order.to(self._device, non_blocking=True)
        return self._epochs[epoch]
