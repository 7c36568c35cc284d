"""One slot set weighed in parts: as ``functional_equivalence`` does it, within a stated memory.

Items are read in chunks, and each is put on disk as the numbers of its fragment and its context,
and its answer (``Spill``). There they lie in a grid of cells: blocks of fragments by blocks of
contexts. Every pair of fragments lies in one pair of blocks of fragments, and whatever is about a
context (pairs that are counted rather than made, contradictions in a class) in one block of
contexts. So two blocks are in memory at a time, besides what grows with the number of fragments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from coverage_principle.coverage.counted import CountedClasses
from coverage_principle.coverage.equivalence import Equivalence, PairTally
from coverage_principle.coverage.evidence import Observations, consistent_pairs
from coverage_principle.coverage.in_parts.budget import Parts
from coverage_principle.coverage.in_parts.items import StoredItems
from coverage_principle.coverage.in_parts.spill import Spill
from coverage_principle.coverage.noise import PairNoise
from coverage_principle.data import evaluate
from coverage_principle.data.space import decode_rows, encode_rows, sizes_at
from coverage_principle.errors import InputError
from coverage_principle.tasks import TaskGraph
