"""docs/extending.md: its Python is run from outside the package, and what it adds is used."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from coverage_principle import circuits
from coverage_principle.data import load_dataset, read_json
from coverage_principle.experiments import LocalLauncher, Sweep
from coverage_principle.experiments.claims import CLAIMS, write_result
from coverage_principle.experiments.ledger import write_csv
from coverage_principle.experiments.report import make_report
from simpletransformers.seq2seq import Seq2SeqModel, architectures
from simpletransformers.seq2seq.architecture import architecture_of
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def extended():
    """Every block of Python of the page, run once; taken back afterwards."""
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "docs/extending.md", "exec"), {"__name__": "extension"})
    yield
    del circuits.METRICS["climb"], circuits.LENS_READOUTS["second"]
    del architectures._registered["averager"], CLAIMS["coverage_by_data"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_dataset):
    """A run of the toy architecture, with checkpoints at steps 20 and 40."""
    dataset, folder = load_dataset(small_dataset), tmp_path_factory.mktemp("averager") / "run"
    args = {
        "n_layer": 2,
        "n_head": 4,
        "n_embd": 32,
        "max_steps": 40,
        "train_batch_size": 32,
        "save_steps": 20,
    }
    args |= {"learning_rate": 3e-3, "warmup_steps": 0}
    vocabulary = dataset.codec.vocabulary
    model = Seq2SeqModel("averager", "gpt2", args, vocabulary, init_weights=True, device="cpu")
    before = model.eval_model(dataset.test.records)["train_inferred"]["loss"]
    model.train_model(dataset.train.records, dataset.test.records, folder)
    assert model.eval_model(dataset.test.records)["train_inferred"]["loss"] < before
    return folder


def test_a_toy_architecture_is_trained_and_read_back(run, small_dataset):
    dataset = load_dataset(small_dataset)
    loaded = circuits.open_checkpoint(run / "final_checkpoint", dataset.codec)
    ids = loaded.encode(dataset.test.inputs[:5])
    loaded.network.check(ids)  # from every layer on, and with the last position alone
    again = Seq2SeqModel("averager", run / "final_checkpoint", device="cpu")
    assert type(architecture_of(again.model)).__name__ == "Averager"
    with torch.no_grad():
        assert torch.equal(again.model(ids).logits, loaded.model(ids).logits)
    states = circuits.collect_states(loaded, dataset.test.inputs[:5], [circuits.Site(0, 1)])
    embedded = again.model.tokens(ids[:, 1]) + again.model.places.weight[1]
    (state,) = states.values()
    assert np.allclose(state, embedded.detach().numpy(), atol=1e-6)


def test_a_toy_metric_is_measured_on_the_toy_architecture(run, small_dataset, tmp_path):
    where = {"model_dir": str(run), "data_dir": str(small_dataset), "save_dir": str(tmp_path)}
    settings = circuits.TraceSettings(**where, metric="climb", device="cpu")
    file, results = circuits.run_trace(settings)
    raw = np.load(file.with_suffix(".npz"))
    assert set(results["checkpoints"]) == {"checkpoint-20", "checkpoint-40", "final_checkpoint"}
    for checkpoint, splits in results["checkpoints"].items():
        ranks = raw[f"{checkpoint}/t/rank/before"][:, 1] - raw[f"{checkpoint}/t/rank/after"][..., 1]
        member = raw["member/id_test"]
        for cell in splits["id_test"]["cells"]:
            mean = ranks[cell["layer"] - 1, cell["position"], member].mean()
            assert cell["unfiltered"]["climb"]["mean"] == pytest.approx(mean)


def test_a_toy_readout_is_read_from_the_toy_architecture(run, small_dataset, tmp_path):
    where = {"model_dir": str(run), "data_dir": str(small_dataset), "save_dir": str(tmp_path)}
    file, results = circuits.run_lens(circuits.LensSettings(**where, device="cpu"))
    raw = np.load(file.with_suffix(".npz"))
    for cell in results["checkpoints"]["final_checkpoint"]["id_test"]:
        value = results["values"].index(cell["value"])
        ranks = raw["final_checkpoint/rank"][cell["layer"], cell["position"], :, value]
        assert cell["second"] == pytest.approx((ranks[raw["member/id_test"]] < 2).mean())


def test_a_toy_claim_is_carried_out_and_reported(tmp_path):
    claim = CLAIMS["coverage_by_data"]
    assert list(CLAIMS)[-1] == claim.name
    launcher = LocalLauncher(tmp_path, 2)
    sweep = Sweep(tmp_path, launcher)
    numbers = claim.collect(sweep, "tiny")
    launcher.close()
    folder = tmp_path / claim.name
    write_result(claim, numbers, folder, scale="tiny", command="none", sweep=sweep)
    write_csv(folder / "table_9.csv", [["of an earlier result"]])
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ZeroDivisionError):  # nothing is written of a result that is not whole

        def other_picture(_, stem):
            stem.with_suffix(".png").write_bytes(b"another")
            return [stem.with_suffix(".png")]

        broken = replace(claim, tables=lambda _: 1 / 0, draw=other_picture)
        write_result(broken, numbers, folder, scale="cpu", command="none", sweep=sweep)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    write_result(claim, numbers, folder, scale="tiny", command="none", sweep=sweep)
    assert {*before} - {*folder.iterdir()} == {folder / "table_9.csv"}
    for size, one in numbers["sizes"].items():
        sweeps = list((tmp_path / "worlds").glob(f"*/k_sweep_results/twohop.8.{size}.*inf.json"))
        assert one["covered"] == read_json(sweeps[0])["2"][1]
    assert "From 40 to 80 items, coverage goes from" in (folder / "README.md").read_text()
    assert "More data covers more" in make_report(tmp_path).read_text(encoding="utf-8")
