"""Claim c: required training data against |X| for 2-hop, parallel 2-hop and 3-hop."""

from claim_command import reproduce

if __name__ == "__main__":
    reproduce("data_scaling", __doc__)
