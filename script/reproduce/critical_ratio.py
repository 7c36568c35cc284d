"""Claim h: does coverage explain the critical ratio of "Grokked Transformers"?"""

from claim_command import reproduce

if __name__ == "__main__":
    reproduce("critical_ratio", __doc__)
