"""Models and states come back as they were; whatever is damaged or foreign is refused unread."""

import ast
import hashlib
import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

import erray
from erray.checkpoint import (
    DESCRIPTION,
    STATE_MAGIC,
    SUMS,
    WEIGHTS,
    ModelDescription,
    load_model,
    load_state,
    save_model,
    save_state,
)
from erray.errors import UserError
from erray.labels import CEXPR_7

STREAMS = {"hog": 6, "logmel": 4}


@pytest.fixture
def description():
    return ModelDescription(
        model="lfan",
        options={"channels": {"hog": [5, 4], "logmel": [3]}, "leader": "logmel"},
        streams=STREAMS,
        labels="cexpr7",
        class_names=CEXPR_7.names,
        features={"hog": "0123456789abcdef", "logmel": "fedcba9876543210"},
        window=300,
        hop=200,
        clip_rule="mean_logits",
        clock_hz=12.5,
    )


def fresh_model(description, seed=0):
    torch.manual_seed(seed)
    model = description.build()
    model.fit_normaliser("hog", torch.randn(6), torch.rand(6) + 0.5)
    return model.eval()


def logits(model):
    generator = torch.Generator().manual_seed(0)
    x = {name: torch.randn(2, 5, width, generator=generator) for name, width in STREAMS.items()}
    everywhere_BT = torch.ones(2, 5, dtype=torch.bool)
    with torch.no_grad():
        return model(x, dict.fromkeys(x, everywhere_BT), everywhere_BT)


@pytest.fixture
def folder(tmp_path, description):
    save_model(tmp_path / "best", fresh_model(description), description)
    return tmp_path / "best"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def rewrite(folder, *, weights=None, change=None):
    """Alter a model and make all hashes right again, as somebody with intent would."""
    weights = (folder / WEIGHTS).read_bytes() if weights is None else weights
    content = json.loads((folder / DESCRIPTION).read_text())
    content |= {**(change or {}), "weights_sha256": sha256(weights)}
    text = json.dumps(content).encode()
    (folder / WEIGHTS).write_bytes(weights)
    (folder / DESCRIPTION).write_bytes(text)
    (folder / SUMS).write_text(f"{sha256(weights)}  {WEIGHTS}\n{sha256(text)}  {DESCRIPTION}\n")


class Canary:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_model_comes_back(folder, description):
    model, read = load_model(folder)
    assert read == description
    assert read.erray_version == erray.__version__
    assert torch.equal(logits(model), logits(fresh_model(description)))
    assert not model.training
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {name for name, _ in fresh_model(description).named_parameters()}
    assert all(x.device.type == "cpu" for x in model.state_dict().values())


def test_the_page_opens_a_model(folder, capsys):
    page = (Path(__file__).parents[2] / "docs" / "registry.md").read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert code is not None
    exec(code[1].replace("runs/demo/training/fusion/model", str(folder)), {})
    assert set(ast.literal_eval(capsys.readouterr().out)) == set(CEXPR_7.names)


def test_the_sums_are_those_of_the_files(folder):
    assert sorted(file.name for file in folder.iterdir()) == sorted([WEIGHTS, DESCRIPTION, SUMS])
    for line in (folder / SUMS).read_text().splitlines():
        digest, name = line.split("  ")
        assert sha256((folder / name).read_bytes()) == digest


def test_a_loaded_model_saves_the_same_bytes(folder, tmp_path):
    model, description = load_model(folder)
    save_model(tmp_path / "copy", model, description)
    for name in (WEIGHTS, DESCRIPTION, SUMS):
        assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes()


def test_saving_replaces_and_leaves_nothing_behind(folder, description):
    save_model(folder, fresh_model(description, seed=1), description)
    assert torch.equal(logits(load_model(folder)[0]), logits(fresh_model(description, seed=1)))
    assert [entry.name for entry in folder.parent.iterdir()] == ["best"]


@pytest.mark.parametrize("killed_at", range(1, 7))
def test_killed_at_any_moment_one_whole_model_remains(folder, description, monkeypatch, killed_at):
    """Each of the writes and renames in turn is the moment of death."""
    steps = 0

    def dying(call):
        def step(*args, **kwargs):
            nonlocal steps
            steps += 1
            if steps == killed_at:
                raise KeyboardInterrupt
            return call(*args, **kwargs)

        return step

    old = logits(fresh_model(description))
    new = fresh_model(description, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr("erray.checkpoint._write_through", dying(erray.checkpoint._write_through))
        patch.setattr("pathlib.Path.rename", dying(type(folder).rename))
        patch.setattr("shutil.rmtree", dying(lambda *args, **kwargs: None))
        with pytest.raises(KeyboardInterrupt):
            save_model(folder, new, description)
    found = logits(load_model(folder)[0])
    assert torch.equal(found, logits(new) if killed_at == 6 else old)
    save_model(folder, new, description)  # and the next save is not in its way
    assert torch.equal(logits(load_model(folder)[0]), logits(new))


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION, SUMS])
@pytest.mark.parametrize("damage", ["missing", "cut", "bit"])
def test_damage_is_refused_by_name(folder, name, damage, monkeypatch):
    data = bytearray((folder / name).read_bytes())
    if damage == "missing":
        (folder / name).unlink()
    elif damage == "cut":
        (folder / name).write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 3] ^= 1
        (folder / name).write_bytes(data)
    monkeypatch.setattr(safetensors.torch, "load", pytest.fail)  # nothing is read before the check
    with pytest.raises(UserError, match=r"no |damaged"):
        load_model(folder)


def test_pickled_weights_are_refused_and_never_run(folder, tmp_path):
    canary = tmp_path / "canary"
    rewrite(folder, weights=pickle.dumps(Canary(canary), protocol=2))
    with pytest.raises(UserError, match="expected a safetensors file"):
        load_model(folder)
    torch.save({"weights": Canary(canary)}, tmp_path / "zip.pt")
    rewrite(folder, weights=(tmp_path / "zip.pt").read_bytes())
    with pytest.raises(UserError, match="expected a safetensors file"):
        load_model(folder)
    assert not canary.exists()


@pytest.mark.parametrize("header", [b"", b"\xff" * 8, (2**40).to_bytes(8, "little"), b"\2" * 40])
def test_a_bad_safetensors_header_is_refused(folder, header):
    rewrite(folder, weights=header)
    with pytest.raises(UserError, match="expected a safetensors file"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hook": "os.system"}, "no option 'hook'; valid options: model, options"),
        ({"model": "gpt"}, "no model named 'gpt'; expected one of: .*lfan"),
        ({"options": {"depth": 3}}, "no option 'depth'"),
        ({"window": "300"}, "window: .*'300'"),
        ({"labels": "basic7"}, "label set 'basic7'"),
        ({"clip_rule": "vote"}, "clip_rule must be one of majority"),
        ({"temperature": 0.0}, "temperature must be a number above 0, found 0.0"),
        ({"temperature": float("inf")}, "temperature"),
        ({"features": {"hog": "0"}}, "do not match streams"),
        ({"streams": {"hog": 6, "logmel": 9}}, "logmel.* should be .*, found"),
        ({"streams": {"hog": 10**12, "logmel": 4}}, "hog.* should be .*1000000000000"),
        ({"options": {"leader": "hog"}}, "tensors missing|should be"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(folder, change, message):
    rewrite(folder, change=change)
    with pytest.raises(UserError, match=message):
        load_model(folder)


def test_missing_fields_are_named(folder):
    content = json.loads((folder / DESCRIPTION).read_text())
    del content["window"]
    text = json.dumps(content).encode()
    (folder / DESCRIPTION).write_bytes(text)
    weights = (folder / WEIGHTS).read_bytes()
    (folder / SUMS).write_text(f"{sha256(weights)}  {WEIGHTS}\n{sha256(text)}  {DESCRIPTION}\n")
    with pytest.raises(UserError, match="window is missing"):
        load_model(folder)


def test_a_model_from_before_there_were_temperatures_has_1(folder, description):
    content = json.loads((folder / DESCRIPTION).read_text())
    assert content.pop("temperature") == 1.0
    text = json.dumps(content).encode()
    (folder / DESCRIPTION).write_bytes(text)
    weights = (folder / WEIGHTS).read_bytes()
    (folder / SUMS).write_text(f"{sha256(weights)}  {WEIGHTS}\n{sha256(text)}  {DESCRIPTION}\n")
    assert load_model(folder)[1] == description


def test_tensors_that_do_not_fit_are_refused(folder):
    tensors = safetensors.torch.load_file(folder / WEIGHTS)
    bias = tensors["head.bias"]
    for altered, message in [
        ({**tensors, "head.bias": bias[:-1].clone()}, "head.bias should be .*7.*found .*6"),
        ({**tensors, "head.bias": bias.double()}, "head.bias should be torch.float32"),
        ({**tensors, "extra": bias.clone()}, r"1 unknown \(extra\)"),
        ({k: x for k, x in tensors.items() if k != "head.bias"}, r"1 .*missing \(head.bias\)"),
    ]:
        rewrite(folder, weights=safetensors.torch.save(altered))
        with pytest.raises(UserError, match=message):
            load_model(folder)


def test_a_description_must_match_the_label_set(description):
    with pytest.raises(UserError, match="label set 'cexpr7' with classes Joy"):
        replace(description, class_names=("Joy", *CEXPR_7.names[1:]))


STATE = {
    "epoch": 3,
    "lr": 0.1,
    "name": "lfan",
    "best": None,
    "done": False,
    "order": [3, 1, 2],
    "rng": torch.get_rng_state(),
    "optimiser": {
        "state": {0: {"momentum_buffer": torch.arange(6.0)}},
        "groups": [{"betas": (0.9, 1)}],
    },
}


def test_a_state_comes_back(tmp_path):
    path = tmp_path / "states" / "last.pt"
    save_state(path, {"epoch": 2})
    save_state(path, STATE)
    state = load_state(path)
    torch.testing.assert_close(state.pop("rng"), STATE["rng"])
    momentum = state["optimiser"]["state"][0].pop("momentum_buffer")
    assert momentum.tolist() == [0, 1, 2, 3, 4, 5]
    assert state["optimiser"]["groups"] == [{"betas": (0.9, 1)}]
    assert {k: v for k, v in state.items() if k != "optimiser"} == {
        k: v for k, v in STATE.items() if k not in {"optimiser", "rng"}
    }
    assert [entry.name for entry in path.parent.iterdir()] == ["last.pt"]


def test_a_killed_write_leaves_the_state_before(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_state(path, {"epoch": 2})

    def die(descriptor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", die)
        with pytest.raises(KeyboardInterrupt):
            save_state(path, {"epoch": 3})
    assert load_state(path) == {"epoch": 2}
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


def test_damaged_states_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_state(path, STATE)
    data = path.read_bytes()
    monkeypatch.setattr(torch, "load", pytest.fail)  # nothing is read before the check
    for size in (0, 5, len(STATE_MAGIC) + 20, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(UserError, match=r"damaged|is not a training state"):
            load_state(path)
    for position in range(0, len(data), 97):
        altered = bytearray(data)
        altered[position] ^= 4
        path.write_bytes(altered)
        with pytest.raises(UserError, match=r"damaged|is not a training state"):
            load_state(path)
    with pytest.raises(UserError, match="no training state"):
        load_state(tmp_path / "none.pt")


def test_a_pickle_in_a_state_never_runs(tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "last.pt"
    torch.save({"epoch": Canary(canary)}, tmp_path / "plain.pt")
    for payload in ((tmp_path / "plain.pt").read_bytes(), pickle.dumps(Canary(canary), protocol=2)):
        path.write_bytes(payload)
        with pytest.raises(UserError, match="is not a training state"):
            load_state(path)
        path.write_bytes(STATE_MAGIC + sha256(payload).encode() + b"\n" + payload)
        with pytest.raises(UserError, match="more than plain values"):
            load_state(path)
    assert not canary.exists()


def test_what_could_not_be_read_back_is_not_written(tmp_path):
    with pytest.raises(TypeError, match=r"state\['a'\]\[1\] must be .*found Canary"):
        save_state(tmp_path / "last.pt", {"a": [1, Canary(tmp_path)]})
    assert list(tmp_path.iterdir()) == []
