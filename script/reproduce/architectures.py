"""Claim i: how much more data GPT-2, Llama, Mamba and others need than a pattern matcher does."""

from claim_command import reproduce

from coverage_principle.experiments import OwnModelSettings

if __name__ == "__main__":
    reproduce("architectures", __doc__, OwnModelSettings)
