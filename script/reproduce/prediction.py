"""Claim k: how well coverage, graded or not, tells which unseen items a model answers."""

from claim_command import reproduce

if __name__ == "__main__":
    reproduce("prediction", __doc__)
