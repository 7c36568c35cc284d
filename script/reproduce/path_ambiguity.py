"""Claim f: a slot with two paths to the answer (non-tree) against 2-hop at equal data."""

from claim_command import reproduce

if __name__ == "__main__":
    reproduce("path_ambiguity", __doc__)
