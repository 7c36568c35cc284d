"""Coverage of worlds of entities against phi, found before any training.

phi is the number of training compositions for each in-domain fact. The training sets are those that
``dataset_generation/grokked.py`` writes for the same settings, and *all* held-out in-domain
compositions are counted, by the fragment ``(h, r1)`` and its true values
(``counting.in_domain_coverage``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from coverage_principle.coverage.counting import in_domain_coverage
from coverage_principle.coverage.measured import Counts, Measured
from coverage_principle.coverage.settings import OF_ENTITIES, PhiSettings
from coverage_principle.data import draw_entities


class CoverageByPhi:
    """Counts of any world and phi, at every k; ``file`` keeps them (``Measured``)."""

    def __init__(self, settings: PhiSettings, file: Path) -> None:
        self.settings = settings
        own = {name: getattr(settings, name) for name in OF_ENTITIES}
        self._measured = Measured(file, {"task": "composition", **own})
        #: ``{(entities, phi): {seed: counts}}``
        self.counts: dict[tuple[int, float], dict[int, Counts]] = {}

    @property
    def ks(self) -> range:
        """Every k at which something can be covered: a fragment has ``out_degree`` contexts."""
        return range(1, max(self.settings.out_degree, *self.settings.k) + 1)

    def find(
        self, num_entities: int, seed: int, told: Callable[[float], None] = lambda _: None
    ) -> None:
        """Count one world at every phi; ``told`` is called with each phi to be measured.

        ``InputError`` if there are fewer compositions than a phi asks for.
        """

        def measure(phi: float, ks: Sequence[int]) -> Counts:
            told(phi)
            world = draw_entities(self.settings.world(num_entities, phi, seed))
            return in_domain_coverage(world.graph, world.values, world.train(seed), ks)

        for phi in sorted(self.settings.phi, reverse=True):  # what is refused is refused at once
            place = f"{num_entities}/{seed}", f"{phi:g}"
            counts = self._measured.counts(*place, self.ks, partial(measure, phi))
            self.counts.setdefault((num_entities, phi), {})[seed] = counts


def phi_name(settings: PhiSettings) -> str:
    """What tells files of other worlds apart."""
    return f"r-{settings.num_relations}_d-{settings.out_degree}_ood-{settings.ood_ratio:g}"


def median_cutoff(counts: Counts) -> int:
    """The median k-cutoff: the largest k at which at least half of the items are covered; or 0."""
    return max((k for k in counts.covered if counts.share(k) >= 0.5), default=0)
