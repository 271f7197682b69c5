"""Published checkpoints read by their tensors alone, for all four models."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from erray.errors import UserError
from erray.importing.checkpoint_file import STREAM_OF_MODALITY, read_checkpoint
from tests.unit.importing.published_files import (
    all_tensors,
    cases,
    made_by_rule,
    outputs,
    write_checkpoint,
)

CASES, OUTPUTS = cases(), outputs()
LFAN = "lfan_vt"


@pytest.fixture
def one_thread():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


def built(checkpoint, **options):
    return checkpoint.build({**checkpoint.options, **options})


@pytest.mark.reference
@pytest.mark.parametrize("name", CASES)
def test_the_model_is_the_published_one(name, path, one_thread):
    case = CASES[name]
    checkpoint = read_checkpoint(write_checkpoint(path, all_tensors(case)))
    assert checkpoint.model == name.split("_")[0]
    assert checkpoint.num_classes == 7 and not checkpoint.has_backbone
    widths = {STREAM_OF_MODALITY[stream]: shape[-1] for stream, shape in case["inputs"].items()}
    assert list(checkpoint.streams.items()) == list(widths.items())
    given = {"num_heads", "fusion_axis"} & case["options"].keys()  # as config and recipe may
    model = built(checkpoint, **{option: case["options"][option] for option in given})
    x = {
        STREAM_OF_MODALITY[stream]: made_by_rule(f"input/{stream}", shape)
        for stream, shape in case["inputs"].items()
    }
    everywhere_BT = torch.ones(next(iter(x.values())).shape[:2], dtype=torch.bool)
    with torch.no_grad():
        logits_BTC = model(x, dict.fromkeys(x, everywhere_BT), everywhere_BT).numpy()
    assert np.abs(logits_BTC - OUTPUTS[name]).max() <= 1e-5


def test_the_face_encoder_inside_is_set_aside(path):
    tensors = all_tensors(CASES[LFAN])
    backbone = {"spatial.visual.backbone.input_layer.0.weight": torch.zeros(64, 3, 3, 3)}
    checkpoint = read_checkpoint(write_checkpoint(path, tensors | backbone))
    assert checkpoint.has_backbone
    assert not any(name.startswith("spatial") for name in checkpoint.tensors)
    assert not built(checkpoint).training


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_checkpoint_from_several_gpus_below_one_key_is_the_same_model(path, key):
    plain = read_checkpoint(write_checkpoint(path, all_tensors(CASES[LFAN])))
    tensors = {f"module.{name}": x for name, x in all_tensors(CASES[LFAN]).items()}
    wrapped = read_checkpoint(write_checkpoint(path.with_name("other.pt"), {key: tensors}))
    one, other = built(plain).state_dict(), built(wrapped).state_dict()
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_half_precision_is_read_as_float32(path):
    halves = {n: x.half() if x.dim() else x for n, x in all_tensors(CASES[LFAN]).items()}
    model = built(read_checkpoint(write_checkpoint(path, halves)))
    assert model.head.weight.dtype == torch.float32
    assert torch.equal(model.head.weight, halves["regressor.weight"].float())


class Canary:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["archive", "old", "bare", "below a key"])
def test_a_pickle_payload_is_one_line_and_never_runs(path, kind):
    canary = Canary(path.with_name("canary"))
    tensors = {**all_tensors(CASES[LFAN]), "more": canary}
    if kind == "bare":
        path.write_bytes(pickle.dumps(tensors, protocol=2))
    else:
        content = {"state_dict": tensors} if kind == "below a key" else tensors
        torch.save(content, path, _use_new_zipfile_serialization=kind != "old")
    with pytest.raises(UserError, match="expected named tensors alone") as info:
        read_checkpoint(path)
    assert "\n" not in str(info.value) and path.name in str(info.value)
    assert not canary.path.exists()
    torch.load(path, weights_only=False) if kind != "bare" else pickle.loads(path.read_bytes())
    assert canary.path.exists()  # it was alive


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no checkpoint", "expected named tensors alone"),
        (b"", "expected named tensors alone"),
        (torch.nn.Linear(2, 2), "expected named tensors alone"),
        ([torch.zeros(1)], "expected named tensors, found list"),
        ({"epoch": 3, "state_dict": {}}, "expected named tensors, found dict"),
        (None, "no checkpoint at"),
    ],
    ids=["text", "empty", "module", "list", "more than tensors", "nothing"],
)
def test_what_is_no_state_dict_is_one_line(path, content, message):
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=message) as info:
        read_checkpoint(path)
    assert "\n" not in str(info.value) and str(path) in str(info.value)


def broken(tensors, how):
    name = "bn.bert.bias"
    return {
        "missing": {n: x for n, x in tensors.items() if n != name},
        "unknown": tensors | {"temporal.bert.network.1.more": torch.zeros(2)},
        "shape": tensors | {"fusion.layers.norm1.bias": torch.zeros(2)},
        "nan": tensors | {name: torch.full_like(tensors[name], torch.nan)},
        "other model": {"layer.weight": torch.zeros(2, 2)},
        "no tensors": {},
    }[how]


@pytest.mark.parametrize("how", ["missing", "unknown", "shape", "nan", "other model", "no tensors"])
def test_tensors_of_another_model_are_one_line(path, how):
    write_checkpoint(path, broken(all_tensors(CASES[LFAN]), how))
    with pytest.raises(UserError) as info:
        built(read_checkpoint(path))
    assert "\n" not in str(info.value)
    named = {"missing": "bn.bert.bias", "unknown": "more", "shape": "norm1.bias", "nan": "finite"}
    assert named.get(how, "") in str(info.value)
