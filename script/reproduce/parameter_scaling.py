"""Claim d: required training data against |X| for models of several sizes (2-hop)."""

from claim_command import reproduce

if __name__ == "__main__":
    reproduce("parameter_scaling", __doc__)
