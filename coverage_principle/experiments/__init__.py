"""Many runs: settings as data, carried out once, on this machine or on a cluster."""

from coverage_principle.experiments.commands import start_command, stop_command
from coverage_principle.experiments.execution import Interrupted, Workplace, execute
from coverage_principle.experiments.launchers import LocalLauncher, Progress
from coverage_principle.experiments.ledger import Ledger
from coverage_principle.experiments.settings import RunSettings, StageCommand
from coverage_principle.experiments.slurm import SlurmLauncher
from coverage_principle.experiments.spec import Spec, read_spec
from coverage_principle.experiments.sweep import Sweep

__all__ = [
    "Interrupted",
    "Ledger",
    "LocalLauncher",
    "Progress",
    "RunSettings",
    "SlurmLauncher",
    "Spec",
    "StageCommand",
    "Sweep",
    "Workplace",
    "execute",
    "read_spec",
    "start_command",
    "stop_command",
]
