"""Claim a: accuracy against training data and time; out of the domain it stays flat (2-hop)."""

from claim_command import reproduce

if __name__ == "__main__":
    reproduce("accuracy_by_data", __doc__)
