"""Claim e: required training data against |X| with and without chain of thought."""

from claim_command import reproduce

if __name__ == "__main__":
    reproduce("chain_of_thought", __doc__)
