"""Cuts against every smaller set of training items, by hand, and as a user asks for them."""

from __future__ import annotations

import itertools
import json
import shutil

import numpy as np
import pytest

from coverage_principle.coverage import (
    CoverageSettings,
    covered_without,
    cut_lines,
    cuts,
    dataset_coverage,
    find_cut,
    matched_control,
    without,
)
from coverage_principle.data import load_dataset
from coverage_principle.errors import InputError
from coverage_principle.experiments.claims import cuts as claim
from coverage_principle.tasks import TASKS
from tests.oracles import coverage_bruteforce as oracle
from tests.test_coverage import make_dataset

COMMAND = "determine_coverage.py"


def tiny_world(seed):
    """A few items with answers at random, so that removal often ends a contradiction."""
    rng = np.random.default_rng(seed)
    graph = TASKS["twohop"]
    tokens, answers = int(rng.integers(2, 4)), int(rng.integers(1, 3))
    items = list(itertools.product(range(tokens), repeat=3))
    rng.shuffle(items)
    known = {tuple(map(int, item)): int(rng.integers(answers)) for item in items}
    count = min(int(rng.integers(4, 11)), len(items) - 1)
    train = dict(list(known.items())[:count])
    test = dict(list(known.items())[count : count + int(rng.integers(1, 8))])
    return train, test, tokens, make_dataset(graph, 3, train, test)


def is_covered(train, test, tokens, item, k, scope):
    """By definition: along substitutions of single fragments, or of fragments of one class."""
    positions = oracle.all_slot_sets(3)
    if scope == "domain":
        return oracle.domain_cutoffs(train, tokens, positions)[item] >= k
    return item in oracle.covered_at(train, test, positions, k)


def smallest_size(train, test, tokens, item, k, scope, most):
    """The size of the smallest cut, by trying every set of fewer than ``most`` items; or most."""
    for size in range(most):
        for gone in itertools.combinations(train, size):
            left = {x: answer for x, answer in train.items() if x not in gone}
            if not left or not is_covered(left, test, tokens, item, k, scope):
                return size
    return most


def cases(seeds, scope):
    """Covered items of tiny worlds: (train, test, tokens, coverage, item, k)."""
    for seed in seeds:
        train, test, tokens, dataset = tiny_world(seed)
        k = 1 + seed % 2
        coverage = dataset_coverage(dataset, CoverageSettings(min_evidence=k, scope=scope))
        chosen = np.flatnonzero(coverage.covered(k))
        if len(chosen):
            row = coverage.test_rows[chosen[seed % len(chosen)]]
            item = tuple(dataset.test.inputs[row].tolist())
            yield train, test, tokens, coverage, item, k


#: Worlds in which a smallest cut ends a contradiction, and so makes a chain that it must break too.
CONTRADICTED = (160, 472, 482, 570)


@pytest.mark.parametrize(
    ("scope", "seeds"), [("dataset", (*range(80), *CONTRADICTED)), ("domain", range(30))]
)
def test_no_smaller_set_uncovers(scope, seeds):
    tried = 0
    for train, test, tokens, coverage, item, k in cases(seeds, scope):
        cut = find_cut(coverage, item)
        gone = [list(train)[row] for row in cut.rows]
        left = {x: answer for x, answer in train.items() if x not in gone}
        assert not left or not is_covered(left, test, tokens, item, k, scope)
        least = smallest_size(train, test, tokens, item, k, scope, len(cut.rows))
        assert cut.lower_bound <= least == len(cut.rows) == cut.lower_bound
        tried += 1
    assert tried > len(seeds) / 4


def test_bounds_hold_when_the_search_ends_early(monkeypatch):
    """After one or two programs the cut may be too large and the bound too small, never wrong."""
    loose = 0
    for rounds in (1, 2):
        monkeypatch.setattr(cuts, "_ROUNDS", rounds)
        for train, test, tokens, coverage, item, k in cases(range(25), "dataset"):
            cut = find_cut(coverage, item)
            assert not covered_without(coverage, cut.rows, [item])[0]
            for row in cut.rows:  # no single item is superfluous
                others = set(cut.rows) - {row}
                assert covered_without(coverage, others, [item])[0]
            least = smallest_size(train, test, tokens, item, k, "dataset", len(cut.rows))
            assert cut.lower_bound <= least <= len(cut.rows)
            loose += not cut.smallest
    assert loose > 3


def by_hand(extra=()):
    """(0, 0) and (1, 1) agree in the contexts 1, 2 and 3; (1, 1) reaches context 0."""
    train = {(0, 0, c): c for c in (1, 2, 3)} | {(1, 1, c): c for c in (0, 1, 2, 3)}
    train |= dict(extra)
    return make_dataset(TASKS["twohop"], 6, train, {(0, 0, 0): 0}), list(train)


def test_a_pair_with_spare_evidence_and_a_single_end():
    dataset, train = by_hand()
    coverage = dataset_coverage(dataset, CoverageSettings(min_evidence=2))
    cut = find_cut(coverage, (0, 0, 0))
    assert [train[row] for row in cut.rows] == [(1, 1, 0)] and cut.smallest
    # With a second end, breaking the pair is as cheap as removing both: two contexts of three.
    both = {(2, 2, c): c for c in (0, 1, 2, 3)}
    dataset, train = by_hand(both)
    cut = find_cut(dataset_coverage(dataset, CoverageSettings(min_evidence=2)), (0, 0, 0))
    assert len(cut.rows) == 2 and cut.smallest
    dataset, train = by_hand(both | {(3, 3, c): c for c in (0, 1, 2, 3)})
    coverage = dataset_coverage(dataset, CoverageSettings(min_evidence=2))
    cut = find_cut(coverage, (0, 0, 0))
    assert {train[row][:2] for row in cut.rows} == {(0, 0)} and len(cut.rows) == 2
    lines = cut_lines(coverage, cut)
    assert lines[0].endswith(
        "is not covered at k = 2 without 2 training items (removing fewer is not enough):"
    )
    assert "evidence of its (x1, x2), at x3=" in lines[2]


def test_removal_can_make_fragments_equivalent():
    """(4, 4) gives 5 in context 1 and contradicts (0, 0); without that item it would cover it."""
    hidden = {(4, 4, c): c for c in (0, 2, 3)} | {(4, 4, 1): 5}
    dataset, train = by_hand(hidden)
    coverage = dataset_coverage(dataset, CoverageSettings(min_evidence=2))
    cut = find_cut(coverage, (0, 0, 0))
    assert [train[row] for row in cut.rows] == [(1, 1, 0)]
    taken = [train.index((1, 1, 0)), train.index((4, 4, 1))]
    assert covered_without(coverage, taken, [(0, 0, 0)]) == [True]


def test_a_control_holds_the_same_fragments_and_leaves_the_item_covered():
    spare = {(1, 1, 4): 4, (1, 1, 5): 5}
    dataset, train = by_hand(spare)
    coverage = dataset_coverage(dataset, CoverageSettings(min_evidence=2))
    cut = find_cut(coverage, (0, 0, 0))
    seen = set()
    for seed in range(20):
        control = matched_control(coverage, [cut], seed)
        assert control == matched_control(coverage, [cut], seed)
        assert len(control.rows) == 1 == control.matched
        (other,) = control.rows
        assert train[other][:2] == (1, 1) and other not in cut.rows
        assert covered_without(coverage, control.rows, [(0, 0, 0)]) == [True]
        seen.add(other)
    assert len(seen) > 2
    left = without(dataset, cut.rows).train
    assert len(left) == len(train) - 1 == len(left.records) == len(left.numbers)
    few = {(0, 0, 1): 1, (1, 1, 0): 0, (1, 1, 1): 1}
    small = make_dataset(TASKS["twohop"], 3, few, {(0, 0, 0): 0})
    coverage = dataset_coverage(small)
    with pytest.raises(InputError, match="no control"):
        matched_control(coverage, [find_cut(coverage, (0, 0, 0))], 0)


def test_the_items_of_a_group_are_uncovered_together_and_covered_with_its_control(small_dataset):
    dataset = load_dataset(small_dataset)
    coverages = [dataset_coverage(dataset, CoverageSettings(min_evidence=k)) for k in (1, 2)]
    eligible = claim.eligible_items(coverages[1], np.arange(len(dataset.test)) % 2 == 0)
    inside = [row for row in eligible.tolist() if dataset.test.types[row] == "type_0"]
    assert inside == eligible.tolist() and not any(row % 2 for row in inside)
    groups = claim.choose(coverages, eligible, 2, 2)
    rows = [row for group in groups for row, _ in group]
    assert [len(group) for group in groups] == [2, 2] and len({*rows}) == 4 and {*rows} <= {*inside}
    items = [tuple(dataset.test.inputs[row].tolist()) for row, _ in groups[0]]
    train = list(map(tuple, dataset.train.inputs.tolist()))
    f1, f2 = dataset.tables()
    for place, coverage in enumerate(coverages):
        cuts_of = [own[place] for _, own in groups[0]]
        gone = {row for cut in cuts_of for row in cut.rows}
        control = matched_control(coverage, cuts_of, 0)
        assert len(control.rows) == len(gone) and gone.isdisjoint(control.rows)
        assert not any(covered_without(coverage, gone, items))
        assert all(covered_without(coverage, control.rows, items))
        left = [x for row, x in enumerate(train) if row not in gone]
        firsts, seconds = {x[:2] for x in left}, {(int(f1[x[:2]]), x[2]) for x in left}
        assert claim.still_seen(dataset, groups[0], gone) == [
            x[:2] in firsts and (int(f1[x[:2]]), x[2]) in seconds for x in items
        ]
        assert claim.holding(dataset, groups[0], gone) == [
            sum(x[:2] == y[:2] for y in left) for x in items
        ]


# ------------------------------------------------------------------------------------- the command


@pytest.fixture
def folder(small_dataset, tmp_path):
    copy = tmp_path / "data" / small_dataset.name
    shutil.copytree(small_dataset, copy)
    return copy


def item_of(folder, k):
    """A test item that is covered at ``k`` and not at ``k + 1``."""
    coverage = dataset_coverage(load_dataset(folder), CoverageSettings(k_sweep=True))
    row = coverage.test_rows[np.flatnonzero(coverage.cutoffs == k)[0]]
    return coverage.dataset.test.records[row]["input_text"]


def test_the_command_cuts(folder, tmp_path, run_command, refused):
    item, file = item_of(folder, 2), tmp_path / "left.json"
    asked = ("--data_dir", folder, "--min_evidence", 2, "--cut", item)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    finished = run_command(COMMAND, *asked, "--cut_file", file)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(f"{item} is not covered at k = 2 without ")
    train = json.loads((folder / "train.json").read_text())
    for name, covered in ((file, False), (tmp_path / "left_control.json", True)):
        left = json.loads(name.read_text())
        assert len(left) < len(train) and all(record in train for record in left)
        other = tmp_path / name.stem / folder.name
        shutil.copytree(folder, other)
        (other / "train.json").write_text(name.read_text())
        annotated = dataset_coverage(load_dataset(other), CoverageSettings(min_evidence=2))
        records = {r["input_text"]: r["coverage"] for r in annotated.annotated()}
        assert records[item] is covered
    gone = [r["input_text"] for r in train if r not in json.loads(file.read_text())]
    assert all(f"  {text} -> <t_" in finished.stdout for text in gone)
    about = json.loads((tmp_path / "left.about.json").read_text())
    assert about["item"] == item and about["min_evidence"] == 2
    assert about["sha256"] == load_dataset(folder).digests
    assert [train[row]["input_text"] for row in about["removed"]] == gone
    assert len(about["control"]) == len(gone)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    first = file.read_bytes(), (tmp_path / "left_control.json").read_bytes()
    again = run_command(COMMAND, *asked, "--cut_file", file, "--cut_seed", 1)
    assert again.returncode == 0, again.stderr
    assert file.read_bytes() == first[0]
    inside = run_command(COMMAND, *asked, "--cut_file", folder / "train.json")
    refused(inside, "--cut_file", "lies in the data set's own folder")
    refused(
        run_command(COMMAND, *asked[:3], 3, *asked[4:]), "--cut", "not covered at --min_evidence 3"
    )


def test_what_cannot_be_cut_is_refused(folder, run_command, refused):
    dataset = load_dataset(folder)
    texts = {kind: r["input_text"] for r in dataset.test.records for kind in [r["type"]]}
    trained = dataset.train.records[0]["input_text"]
    for flags, words in (
        (("--cut", trained), ("--cut", "it is a training item")),
        (("--cut", texts["type_1"]), ("--cut", "is of type_1", "use --scope domain")),
        (("--cut", "<t_0>"), ("--cut", "has 1 token")),
    ):
        refused(run_command(COMMAND, "--data_dir", folder, *flags), *words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cut": "x", "explain": "y"}, "`cut` looks for .*; omit `explain`"),
        ({"cut": "x", "k_sweep": True}, "omit `k_sweep`"),
        ({"cut_file": "a.json"}, "give `cut` with it"),
        ({"cut": "x", "cut_file": "a.txt"}, "must end in .json"),
        ({"cut": "x", "cut_seed": 3}, "give `cut_file` with it"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given, words):
    with pytest.raises(InputError, match=words):
        CoverageSettings(**given)


def test_main_trains_on_what_a_cut_leaves(folder, tmp_path, run_command, refused):
    """As on a data set whose train.json holds just these records."""
    records = json.loads((folder / "train.json").read_text())[5:]
    file, other = tmp_path / "left.json", tmp_path / "other" / folder.name
    shutil.copytree(folder, other)
    for path in (file, other / "train.json"):
        path.write_text(json.dumps(records))
    small = "--do_train --init_weights --n_layer 1 --n_head 2 --n_embd 16 --max_steps 3"
    small = [*small.split(" "), "--device", "cpu"]
    losses = []
    given = (("--data_dir", folder, "--custom_train", file), ("--data_dir", other))
    for number, data in enumerate(given):
        run = tmp_path / f"run{number}"
        finished = run_command("main.py", *data, *small, "--output_dir", run)
        assert finished.returncode == 0, finished.stderr
        events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses.append([event["train_loss"] for event in events])
        about = json.loads((run / "run_config.json").read_text())["dataset"]
        assert about.get("custom_train", {}).get("path") == (None if number else str(file))
    assert losses[0] == losses[1] and losses[0]
    finished = run_command("main.py", *data, *small[1:], "--do_eval", "--custom_train", file)
    refused(finished, "--custom_train", "give --do_train")
