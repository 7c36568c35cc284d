"""Many runs: settings as data, carried out once, on this machine or on a cluster."""

from simpletransformers.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "commands": "start_command stop_command",
        "execution": "Progress Interrupted Workplace execute",
        "launchers": "LocalLauncher make_launcher",
        "ledger": "Ledger",
        "points": "sweep_points write_points",
        "results": "Results read_results",
        "settings": "ClaimSettings LauncherSettings OwnModelSettings PlotSettings RunSettings "
        "StageCommand",
        "shared_coverage": "way_in_parts",
        "slurm": "SlurmLauncher",
        "spec": "Spec make_spec read_spec",
        "stages": "STAGES Stage analyses",
        "sweep": "Sweep",
    },
)
