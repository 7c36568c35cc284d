"""Claim b: accuracy by k-cutoff over training, and how well it predicts answers (2-hop)."""

from claim_command import reproduce

if __name__ == "__main__":
    reproduce("accuracy_by_k_cutoff", __doc__)
