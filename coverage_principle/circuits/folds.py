"""Folds by fragment: what a probe is tested on shares no fragment with what it was trained on.

A value is a function of its fragment, so a probe that has seen a fragment can know it by heart.
"""

from __future__ import annotations

import numpy as np


def fragment_folds(fragments: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold, from 0 to ``folds`` - 1, of each row of ``fragments`` (n, slots): (n,) int64.

    Equal fragments have equal folds. Fragments are dealt out at random, by ``seed``: no fold has
    two more of them than another. Which fold a fragment is in depends on the set of all fragments,
    not on the order or number of their rows.
    """
    _, own = np.unique(fragments, axis=0, return_inverse=True)
    own = own.reshape(-1)  # numpy 2.0 gave it another shape
    count = int(own.max(initial=-1)) + 1
    return np.random.default_rng(seed).permutation(np.arange(count) % folds)[own]
