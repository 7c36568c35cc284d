"""Claim j: whether models lose an item without the training items that cover it (2-hop)."""

from claim_command import reproduce

if __name__ == "__main__":
    reproduce("cuts", __doc__)
