"""Claim g: what generalises beyond coverage: properties of functions, shared operators."""

from claim_command import reproduce

if __name__ == "__main__":
    reproduce("mechanisms", __doc__)
