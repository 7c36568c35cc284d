"""Looped models: against a plain GPT-2 whose blocks are called one after the other, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from coverage_principle import load_run
from coverage_principle.circuits import LoadedModel, patch_runs
from coverage_principle.data import read_json
from simpletransformers.errors import InputError
from simpletransformers.seq2seq import Seq2SeqModel, architecture
from simpletransformers.seq2seq.architecture import architecture_of, load_model
from simpletransformers.seq2seq.light import LightGPT2
from tests.test_trainer import TOKENS, losses, pairs, tiny_model

BLOCKS = 2  # of ``tiny_model``
IDS = torch.randint(0, 7, (6, 4), generator=torch.Generator().manual_seed(1))


def disturbed(**changes) -> Seq2SeqModel:
    """A new model whose biases and norms do something."""
    model = tiny_model(no_dropout=True, **changes)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def plain_of(model: Seq2SeqModel) -> torch.nn.Module:
    """An ordinary GPT-2 of the same weights, one loop of blocks."""
    plain = tiny_model(no_dropout=True).model
    wanted = {name: model.model.state_dict()[name] for name in plain.state_dict()}
    plain.load_state_dict(wanted)
    return plain


def by_hand(plain, ids, loops: int, injected: bool) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The stream after each block, layer 0 first, and the logits."""
    body, length = plain.transformer, ids.shape[1]
    start = body.wte(ids) + body.wpe(torch.arange(length))
    mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]
    states = [start]
    for loop in range(loops):
        state = states[-1] + start if injected and loop else states[-1]
        for block in body.h:
            state = state + block.attn(block.ln_1(state), attention_mask=mask)[0]
            state = state + block.mlp(block.ln_2(state))
            states.append(state)
    return states, plain.lm_head(body.ln_f(state))


def close(first, second) -> bool:
    return torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("injected", [False, True])
@pytest.mark.parametrize("loops", [1, 2, 3, 4])
def test_a_looped_model_runs_one_stack_of_blocks_so_often(tmp_path, loops, injected):
    model = disturbed(loops=loops, inject_input=injected)
    plain, own = plain_of(model), model.model.eval()
    states, logits = by_hand(plain, IDS, loops, injected)
    assert own.num_parameters() == plain.num_parameters()
    assert close(own(IDS).logits, logits)
    model.save(tmp_path)
    assert len(load_file(tmp_path / "model.safetensors")) == len(plain.state_dict()) - 1  # tied
    assert ("architecture_loops" in read_json(tmp_path / "config.json")) == (loops > 1)
    light = load_model(tmp_path, to_run=True).eval()
    assert isinstance(light, LightGPT2) and close(light(IDS).logits, logits)
    for network in map(architecture_of, (own, light)):
        network.check(IDS)
        assert (network.loops, network.layers) == (loops, loops * BLOCKS)
        assert close(network.logits_at(IDS, range(4)), logits)
        found = network.run(IDS, [("residual", layer) for layer in range(network.layers + 1)])
        assert all(map(close, found.values(), states))
    again = Seq2SeqModel("gpt2", tmp_path, device="cpu")
    assert close(again.model.eval()(IDS).logits, logits)
    assert (again.args.loops, again.args.n_layer) == (loops, BLOCKS)


def test_the_step_of_training_is_that_of_the_plain_forward():
    model = disturbed(loops=3, inject_input=True)
    plain, own = plain_of(model).double().train(), model.model.double().train()
    (by_hand(plain, IDS, 3, True)[1][:, [1, 3]] ** 2).sum().backward()
    expected = {name: parameter.grad.clone() for name, parameter in plain.named_parameters()}
    for logits in (architecture_of(own).logits_at(IDS, [1, 3]), own(IDS).logits[:, [1, 3]]):
        own.zero_grad()
        (logits**2).sum().backward()
        found = {name: parameter.grad for name, parameter in own.named_parameters()}
        assert found.keys() == expected.keys()
        assert all(torch.allclose(found[name], expected[name], atol=1e-9) for name in expected)


def test_add_recurrence_is_two_loops_to_the_bit(tmp_path):
    for name, changes in {"old": {"add_recurrence": True}, "new": {"loops": 2}}.items():
        tiny_model(**changes).train_model(pairs(40), None, tmp_path / name)
    old, new = (tmp_path / name / "final_checkpoint" for name in ("old", "new"))
    stored = [(folder / "model.safetensors").read_bytes() for folder in (old, new)]
    assert stored[0] == stored[1]
    config = read_json(old / "config.json")  # as it always was
    assert config["architecture_switches"] == ["add_recurrence"]
    assert config["n_layer"] == 2 * BLOCKS and "architecture_loops" not in config
    assert Seq2SeqModel("gpt2", old, device="cpu").args.loops == 2
    tiny_model(add_recurrence=True, loops=2)
    with pytest.raises(InputError, match="`add_recurrence` is `loops` 2, not 3; omit one"):
        tiny_model(add_recurrence=True, loops=3)


@pytest.mark.parametrize("changes", [{}, {"add_recurrence": True}, {"loops": 3}])
@pytest.mark.parametrize("injected", [False, True])
def test_loops_of_evaluation_are_as_many_as_asked_for(tmp_path, changes, injected):
    model = disturbed(**changes, inject_input=injected)
    plain = plain_of(model)
    model.save(tmp_path)
    for loops in (1, 2, 5):
        expected = by_hand(plain, IDS, loops, injected)[1]
        for to_run in (False, True):
            loaded = load_model(tmp_path, to_run=to_run, eval_loops=loops).eval()
            assert isinstance(loaded, LightGPT2) == to_run
            assert close(loaded(IDS).logits, expected)
            architecture_of(loaded).check(IDS)
    # What the arguments say is how the model was trained.
    trained = {name: True for name in changes if name == "add_recurrence"}
    again = Seq2SeqModel("gpt2", tmp_path, args=trained, to_train=False, eval_loops=5, device="cpu")
    assert again.args.loops == model.args.loops or not model.args.loops
    assert again.predict(["<t_1><t_2>"], new_tokens=1)


def test_a_run_goes_on_with_its_own_loops_only(tmp_path):
    looped = {"loops": 3, "inject_input": True, "save_steps": 5}
    tiny_model(**looped, max_steps=5).train_model(pairs(40), None, tmp_path / "run")
    with pytest.raises(InputError, match="loops was 3, is 2"):
        tiny_model(**{**looped, "loops": 2}, resume=True).train_model(
            pairs(40), None, tmp_path / "run"
        )
    for name in ("run", "whole"):
        tiny_model(**looped, resume=True, max_steps=9).train_model(pairs(40), None, tmp_path / name)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_run_of_a_version_that_knew_no_loops_goes_on(tmp_path):
    tiny_model(max_steps=5).train_model(pairs(40), None, tmp_path)
    file = tmp_path / "resume_state" / "state.pt"
    state = torch.load(file, weights_only=True)
    for name in ("loops", "inject_input"):
        del state["settings"][name]
    torch.save(state, file)
    with pytest.raises(InputError, match="loops was None, is 2"):
        tiny_model(max_steps=8, resume=True, loops=2).train_model(pairs(40), None, tmp_path)
    tiny_model(max_steps=8, resume=True).train_model(pairs(40), None, tmp_path)
    assert len(losses(tmp_path)) == 8


@pytest.mark.parametrize("injected", [False, True])
def test_patching_a_looped_model_is_that_of_hooks(injected):
    """One forward of transformers' own for each cell."""
    model = disturbed(loops=3, inject_input=injected).model.eval().requires_grad_(False)
    loaded = LoadedModel(model, torch.arange(len(TOKENS)))
    originals, sources = IDS[:3, :3], IDS[3:, :3]
    wanted = np.array([[[1, 2], [3, 4]]] * 3)  # two emitted values, so that runs are run on
    inputs = originals.numpy(), sources.numpy(), wanted
    blocks = model.transformer.h

    def best(logits):
        return logits[:, : len(TOKENS)].argmax(-1, keepdim=True)

    def emitted(prompts, hook=None):
        """Logits of both emitted tokens; the hook is removed then."""
        found, ids = [], prompts
        for _ in range(2):
            found.append(model(ids).logits[:, -1])
            ids = torch.cat([ids, best(found[-1])], dim=1)
        if hook is not None:
            hook.remove()
        return found

    def compare(trace_of, cell, expected):
        for value, logits in enumerate(expected):
            own = logits.gather(1, torch.as_tensor(wanted[:, value]))
            found = torch.as_tensor(trace_of[value].after["logit"][cell])
            assert torch.allclose(found, own, atol=1e-4)

    states = architecture_of(model).run(sources, [("residual", layer) for layer in range(7)])

    def putting(layer, position):
        """A hook that puts the source's stream at a layer; layer 0 is what the first loop reads."""

        def edit(hidden):
            hidden = hidden.clone()
            hidden[:, position] = states["residual", layer][:, position]
            return hidden

        def after(_block, _given, out):
            whole = isinstance(out, torch.Tensor)
            return edit(out) if whole else (edit(out[0]), *out[1:])

        if layer:
            return blocks[layer - 1].register_forward_hook(after)
        return blocks[0].register_forward_pre_hook(lambda _, given: (edit(given[0]), *given[1:]))

    traces = patch_runs(loaded, *inputs, layers=range(7))
    for layer in range(7):
        for position in range(3):
            expected = emitted(originals, putting(layer, position))
            compare(traces, (layer, position), expected)
    # The embedding's stream is the source's token, in every loop that it is brought into.
    traces = patch_runs(loaded, *inputs, stream="embedding")
    for position in range(3):
        mixed = originals.clone()
        mixed[:, position] = sources[:, position]
        expected, cell = emitted(mixed), (0, position)
        ids = torch.cat([originals, best(expected[0])], dim=1)
        ids[:, position] = mixed[:, position]
        compare(traces, cell, [expected[0], model(ids).logits[:, -1]])
    # A run patched with its own states is itself.
    for stream in ("residual", "post_mlp", "embedding"):
        (trace, _) = patch_runs(loaded, inputs[0], inputs[0], wanted, stream=stream)
        assert (trace.after["logit"] == trace.before["logit"]).all()


def test_types_that_have_no_loops_refuse_them(tmp_path):
    args = {"n_layer": 2, "n_head": 2, "n_embd": 16}
    new = {"new_tokens": TOKENS, "init_weights": True, "device": "cpu"}
    with pytest.raises(InputError, match="llama, whose blocks cannot be looped; omit `loops`"):
        Seq2SeqModel("llama", "gpt2", args={**args, "loops": 2}, **new)
    with pytest.raises(InputError, match="of a gpt2 only"):
        Seq2SeqModel("llama", "gpt2", args={**args, "inject_input": True}, **new)
    Seq2SeqModel("llama", "gpt2", args=args, **new).save(tmp_path)
    with pytest.raises(InputError, match="whose blocks cannot be looped; omit `eval_loops`"):
        load_model(tmp_path, eval_loops=2)


@pytest.mark.parametrize("loops", [0, 3, "two", None])
def test_a_configuration_with_broken_loops_is_refused(tmp_path, loops):
    tiny_model(loops=2).save(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**read_json(file), "architecture_loops": loops}))
    with pytest.raises(InputError, match="4 blocks in .* loops"):
        load_model(tmp_path)


def test_more_loops_than_memory_holds_are_refused(tmp_path, monkeypatch):
    tiny_model(loops=2).save(tmp_path)
    monkeypatch.setattr(architecture, "_memory", lambda _: 1 << 20)
    with pytest.raises(InputError, match="`loops` 900, .* parameters, which need .* GiB"):
        tiny_model(loops=900)
    with pytest.raises(InputError, match="`eval_loops` 900 of .* need .* GiB"):
        load_model(tmp_path, eval_loops=900)
    monkeypatch.undo()
    looped = load_model(tmp_path, to_run=True, eval_loops=60).eval()
    assert architecture_of(looped).check(IDS) is None
    with pytest.raises(InputError, match="`loops` 1001 is too large; it must be at most 1000"):
        tiny_model(loops=1001)


@pytest.fixture(scope="module")
def looped_run(run_command, small_dataset, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "looped"
    sizes = "--n_layer 1 --n_head 2 --n_embd 16 --loops 2 --inject_input --max_steps 5"
    finished = run_command(
        *("main.py", "--data_dir", small_dataset, "--init_weights", "--do_train", *sizes.split()),
        *("--device", "cpu", "--evaluate_during_training", "--output_dir", run),
    )
    assert finished.returncode == 0, finished.stderr
    return run


def test_main_evaluates_with_other_loops(run_command, refused, small_dataset, looped_run, tmp_path):
    command = ("main.py", "--data_dir", small_dataset, "--model_name_or_path")
    command += (looped_run / "final_checkpoint",)
    plain = run_command(*command, "--do_eval")
    several = run_command(*command, "--do_eval", "--eval_loops", "1", "2", "4")
    assert several.returncode == 0, several.stderr
    assert several.stdout.splitlines()[1].split()[2:] == ["1", "loop", "2", "loops", "4", "loops"]
    own = run_command(*command, "--do_eval", "--eval_loops", "2")
    assert own.stdout == plain.stdout
    for line in plain.stdout.splitlines()[2:-1]:  # the same scores stand in the table
        assert line.split("  ")[0] in several.stdout
    done = run_command(*command, "--do_predict", "--eval_loops", "3", "--prediction_dir", tmp_path)
    assert done.returncode == 0 and (tmp_path / "all_items.json").exists()
    refused(run_command(*command, "--do_predict", "--eval_loops", "1", "2"), "--do_predict writes")
    refused(run_command(*command, "--do_eval", "--loops", "3"), "--loops 3 is not what")
    both = ("--add_recurrence", "--loops", "3", "--init_weights", "--do_eval")
    refused(run_command(*command, *both), "--add_recurrence is --loops 2, not 3")
    zero = run_command(*command, "--do_eval", "--eval_loops", "0")
    refused(zero, "--eval_loops", status=2)
    card = (looped_run / "README.md").read_text()
    assert "| loops | 2 |" in card and "without `loops` and `inject_input`" in card


@pytest.mark.parametrize(
    "script", ["trace", "lens", "interchange", "cluster", "probe", "subspace", "heads"]
)
def test_analyses_say_loop_and_block(run_command, looped_run, tmp_path, script):
    command = f"circuit_analysis/{script}.py", "--save_dir", tmp_path, "--max_items", "20"
    which = ("--model_dir", looped_run, "--step_list", "final_checkpoint")
    few = ("--layer_pos_pairs", "[(1,1),(2,1),(3,1)]") if script == "probe" else ()
    several = run_command(*command, *which, "--eval_loops", "3", *few)
    assert several.returncode == 0, several.stderr
    assert " (3.1) " in several.stdout and "layer 3 (3.1): loop 3, block 1" in several.stdout
    name = "metrics.json" if script == "cluster" else "*_loops3.json"
    (file,) = tmp_path.rglob(name)
    results = read_json(file)
    assert (results["num_layers"], results["loops"], results["settings"]["eval_loops"]) == (3, 3, 3)
    cells = list(cells_of(results))
    assert {(c["layer"], c["loop"], c["block"]) for c in cells if c["layer"]} == {
        (1, 1, 1),
        (2, 2, 1),
        (3, 3, 1),
    }
    assert all((c["loop"], c["block"]) == (0, 0) for c in cells if not c["layer"])


def cells_of(part):
    """Whatever has a layer in a result file."""
    if isinstance(part, dict) and "layer" in part:
        yield part
    elif isinstance(part, dict | list):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from cells_of(inner)


def test_a_notebook_asks_a_looped_run(looped_run):
    run, twice = load_run(looped_run, device="cpu", eval_loops=4), load_run(looped_run)
    assert "gpt2 of 2 layers (2 loops)" in repr(run)
    items = ["<t_1><t_2><t_3>"]
    assert np.array_equal(run.hidden_states(items, 2, 1), twice.hidden_states(items, 2, 1))
    assert run.hidden_states(items, 4, 1).shape == (1, 16)
    records = run.trace("diff_f1", max_items=10, progress=False).to_records()
    assert {(r["layer"], r["loop"], r["block"]) for r in records} == {
        (layer, layer, 1) for layer in range(1, 5)
    }
    probed = run.probe("b", pairs=[(4, "x2")], permutations=1, progress=False)
    assert probed.results["settings"]["eval_loops"] == 4
