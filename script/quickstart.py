"""All five stages on one CPU: two data sizes of a small 2-hop world, side by side.

Each stage is one of the repository's commands, shown as it is run; the last step gathers their
numbers into summary.json, a table and a self-contained report.html.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from coverage_principle.cli import run, table

#: What differs between the presets: the world, the model, the length of training.
PRESETS = {
    "small": {
        "num_tokens": 20,
        "sizes": (1600, 2500),
        "test_size_for_type": 2000,
        "n_layer": 2,
        "n_head": 4,
        "n_embd": 128,
        "train_batch_size": 256,
        "max_steps": 2500,
        "eval_steps": 250,
        "warmup_steps": 200,
        "learning_rate": 1.2e-3,
        "weight_decay": 0.3,
    },
    "tiny": {
        "num_tokens": 8,
        "sizes": (100, 160),
        "test_size_for_type": 200,
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 32,
        "train_batch_size": 64,
        "max_steps": 60,
        "eval_steps": 20,
        "warmup_steps": 10,
        "learning_rate": 1.2e-3,
        "weight_decay": 0.3,
    },
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quickstart.sh",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--preset",
        choices=sorted(PRESETS),
        default="small",
        help="small: shows the effects, two to four minutes on 2 cores; tiny: half a minute, shows "
        "only that everything runs (default: small)",
    )
    add("--seed", type=int, default=42, help="of data, initial weights and order (default: 42)")
    add(
        "--output_dir",
        default=None,
        help="where everything goes (default: results/quickstart in the repository)",
    )
    return parser


def main(arguments: argparse.Namespace) -> None:
    from stages import Pipeline

    from coverage_principle.paths import relative_to_root, repository_root
    from coverage_principle.reporting.quickstart import collect, summary_table, write_report

    preset = PRESETS[arguments.preset]
    default = repository_root() / "results" / "quickstart"
    folder = Path(arguments.output_dir or default).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    worlds = [World(size, preset, arguments.seed, folder) for size in preset["sizes"]]
    pipeline = Pipeline(folder)

    print(f"[1/5] data: two training sets of one world of {preset['num_tokens']} tokens")
    for world in worlds:
        pipeline.run(world.generate())
    print("\n[2/5] coverage: how firmly the unseen compositions are covered")
    for world in worlds:
        pipeline.run(world.coverage())
    print("\n[3/5] training: one model on each, side by side")
    pipeline.run_together(
        [world.train() for world in worlds],
        {world.train().name: world.progress for world in worlds},
    )
    print("\n[4/5] circuit analysis: cosine clustering and causal tracing")
    for world in worlds:
        pipeline.run(world.collapse())
        pipeline.run(world.trace())
    print("\n[5/5] report")
    stages = [s for w in worlds for s in w.all_stages()]
    summary = collect(
        {world.size: world.files() for world in worlds},
        settings={"preset": arguments.preset, "seed": arguments.seed, **preset},
        commands=[stage.shown() for stage in stages],
        seconds={stage.name: pipeline.seconds(stage.name) for stage in stages},
    )
    report = write_report(summary, folder)
    header, rows = summary_table(summary)
    print(f"\n{table(header, rows)}\n")
    for sentence in summary["findings"]:
        print(f"- {sentence}")
    print(f"\nsummary: {relative_to_root(folder / 'summary.json')}")
    print(f"report:  {relative_to_root(report)}")


class World:
    """The stages of one training-set size, and where their outputs lie."""

    def __init__(self, size: int, preset: dict, seed: int, folder: Path) -> None:
        self.size, self.preset, self.seed = size, preset, seed
        self.name = f"twohop.{preset['num_tokens']}.{size}.diff-f12.inf"
        self.data = folder / "data" / self.name
        self.sweep = folder / "k_sweep_results"
        self.run_dir = folder / "runs" / self.name
        self.circuits = folder / "circuits"

    def _stage(self, name: str, command: list, output: Path, *after: str):
        from stages import Stage

        parts = tuple(str(part) for part in command)
        return Stage(f"{name} {self.size}", parts, output, tuple(f"{a} {self.size}" for a in after))

    def generate(self):
        p = self.preset
        return self._stage(
            "generate",
            [
                "dataset_generation/twohop.py",
                "--num_tokens",
                p["num_tokens"],
                "--max_train_data_num",
                self.size,
                "--test_size_for_type",
                p["test_size_for_type"],
                "--seed",
                self.seed,
                "--output_dir",
                self.data.parent,
                "--overwrite",
            ],
            self.data / "metadata.json",
        )

    def coverage(self):
        return self._stage(
            "coverage",
            [
                "determine_coverage.py",
                "--data_dir",
                self.data,
                "--min_evidence",
                1,
                "--k_sweep",
                "--output_dir",
                self.sweep,
            ],
            self.data / "test_annotated.json",
            "generate",
        )

    def train(self):
        p = self.preset
        flags = [
            (f"--{key}", p[key])
            for key in (
                "n_layer",
                "n_head",
                "n_embd",
                "train_batch_size",
                "max_steps",
                "eval_steps",
                "warmup_steps",
                "learning_rate",
                "weight_decay",
            )
        ]
        return self._stage(
            "train",
            [
                "main.py",
                "--data_dir",
                self.data,
                "--output_dir",
                self.run_dir,
                "--model_name_or_path",
                "gpt2",
                "--init_weights",
                "--add_tokens",
                "--do_train",
                "--evaluate_during_training",
                "--resume",
                "--overwrite_output_dir",
                "--device",
                "cpu",
                "--scheduler",
                "constant_schedule_with_warmup",
                "--manual_seed",
                self.seed,
                *(part for flag in flags for part in flag),
            ],
            self.run_dir / "final_checkpoint",
            "generate",
            "coverage",
        )

    def collapse(self):
        return self._stage(
            "cluster",
            [
                "circuit_analysis/hierarchical/2-hop/collapse_analysis_2-hop.py",
                "--ckpt",
                self.run_dir / "final_checkpoint",
                "--layer_pos_pairs",
                "all",
                "--save_dir",
                self.circuits / "cosine",
                "--atomic_idx",
                1,
                "--mode",
                "residual",
                "--device",
                "cpu",
                "--overwrite",
            ],
            self.files()["collapse"],
            "train",
        )

    def trace(self):
        return self._stage(
            "trace",
            [
                "circuit_analysis/hierarchical/2-hop/causal_tracing_2-hop.py",
                "--model_dir",
                self.run_dir,
                "--step_list",
                "final_checkpoint",
                "--save_dir",
                self.circuits / "tracing",
                "--metric_type",
                "rank",
                "--device",
                "cpu",
            ],
            self.files()["tracing"],
            "train",
        )

    def all_stages(self):
        return [self.generate(), self.coverage(), self.train(), self.collapse(), self.trace()]

    def files(self) -> dict[str, Path]:
        cosine = self.circuits / "cosine" / "residual" / self.name / "f1" / "final_checkpoint"
        return {
            "metadata": self.data / "metadata.json",
            "k_sweep": self.sweep / f"{self.name}.json",
            "run": self.run_dir,
            "collapse": cosine / "metrics.json",
            "tracing": self.circuits / "tracing" / f"{self.name}_residual_diff_f1_rank.json",
        }

    def progress(self) -> tuple[int, int, str]:
        """Steps done, all steps, and the latest accuracies, read from the run's metrics."""
        step, accuracy = 0, ""
        metrics = self.run_dir / "metrics.jsonl"
        if metrics.exists():
            for line in metrics.read_text(encoding="utf-8").splitlines():
                event = json.loads(line) if line.endswith("}") else {}
                step = event.get("step", step)
                if "type_0" in event.get("eval", {}):
                    accuracy = f"type_0 {event['eval']['type_0']['answer_accuracy']:.2f}"
        return step, self.preset["max_steps"], accuracy


if __name__ == "__main__":
    run(build_parser(), main)
