"""Checkpoints of the published code (arXiv 2407.12927): which model one holds, and its names here.

A published state dict of a fusion has, besides what a model here needs, tensors that mean nothing
to it: the face encoder (``spatial.visual.*``), both convolutions of every temporal block under a
second name (``conv1`` is ``net.0``, ``conv2`` is ``net.4``), and layers that are never used (CAN's
``conv_c``, MT's ``fuse.reduce_feats_dim``). ``fusion_tensors`` leaves them out. It has neither the
normalisers nor the vectors for absence: they keep what a new model has, which changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from erray.errors import UserError
from erray.models.cross_attention import CrossAttentionModel
from erray.models.fusion import FusionModel

_BACKBONE = "spatial.visual."
_SECOND_NAME = re.compile(r"^(temporal\.[^.]+\.network\.\d+)\.(conv[12])\.")
_FIRST_NAMES = {"conv1": "net.0", "conv2": "net.4"}
_UNUSED: dict[str, tuple[str, ...]] = {"can": ("conv_c.",), "mt": ("fuse.reduce_feats_dim.",)}
_NOT_PUBLISHED = re.compile(r"(^|\.)(normaliser|absent|absent_leader)\.")
_SIGNS = {
    "lfan": "fusion.layers.self_attn.o_proj.weight",
    "can": "fuse.weights.weight",
    "jmt": "fuse.jr_encoder.layers.0.attention.in_proj_weight",
    "mt": "fuse.CA_va.in_proj_weight",
}
"""Model to a tensor that tells it from those below it."""
_ENCODER_LAYER = {
    "attention.in_proj.": "attention.in_proj_",
    "attention.out_proj.": "attention.out_proj.",
    "norm1.": "layer_norm1.",
    "linear1.": "feed_forward.0.",
    "linear2.": "feed_forward.2.",
    "norm2.": "layer_norm2.",
}
_ATTENTION = {"in_proj.": "in_proj_", "out_proj.": "out_proj."}
_HEAD = {
    "head.linear.": "fc1.",
    "head.offset": "fc1.bias",
    "head.bn.": "bn1.",
    "head.out.": "fc2.",
}
_LFAN = {
    "fusion.norm.": "fusion.layers.norm1.",
    "fusion.": "fusion.layers.self_attn.",
    "head.": "regressor.",
}


class PublishedModel(NamedTuple):
    """What a published state dict shows of its model."""

    name: str
    """Name in ``erray.models.MODELS``."""
    streams: dict[str, int]
    """Published stream name to width, in the model's order; LFAN's leader comes first."""
    options: dict[str, Any]
    """Options of ``erray.models.make_model``. No tensor shows LFAN's ``num_heads``: not among them.

    Those that give JMT and MT the published axis and read-out are.
    """
    num_classes: int


def describe_published(state_dict: Mapping[str, Tensor]) -> PublishedModel:
    """Tell model, streams and sizes by the names and shapes of a published state dict.

    Raises:
        UserError: the names or shapes are of none of the four models.
    """
    tensors = fusion_tensors(state_dict)
    name = _model_of(tensors)
    streams, channels, kernel_sizes = {}, {}, set()
    for stream in dict.fromkeys(n.split(".")[1] for n in tensors if n.startswith("temporal.")):
        shapes = _weight_shapes(tensors, stream)
        streams[stream] = shapes[0][1]
        channels[stream] = [shape[0] for shape in shapes]
        kernel_sizes |= {shape[2] for shape in shapes}
    if len(kernel_sizes) != 1:
        raise UserError(
            f"not a published checkpoint: expected one kernel size in all temporal blocks, found "
            f"{', '.join(map(str, sorted(kernel_sizes))) or 'none'}"
        )
    options: dict[str, Any] = {"channels": channels, "kernel_size": kernel_sizes.pop()}
    if name in ("jmt", "mt"):
        if len(streams) != 2:
            raise UserError(f"a published {name} has 2 streams, found {', '.join(streams)}")
        options |= {"fusion_axis": "published", "readout": "last"}
    options["modal_dim"] = _modal_dim(name, tensors, len(streams))
    last = "regressor.weight" if name == "lfan" else "fc2.weight"
    return PublishedModel(name, streams, options, _shape(tensors, last, 2)[0])


def fusion_tensors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that a model here needs, under their published names.

    A convolution that is there under its second name only gets its first.

    Raises:
        UserError: two names of one convolution hold different values.
    """
    kept: dict[str, Tensor] = {}
    for name, x in state_dict.items():
        first = _SECOND_NAME.sub(lambda m: f"{m[1]}.{_FIRST_NAMES[m[2]]}.", name)
        if first in kept and not kept[first].equal(x):
            raise UserError(f"{name} and {first} mean the same tensor, but their values differ")
        if not name.startswith(_BACKBONE):
            kept.setdefault(first, x)
    unused = _UNUSED.get(_model_of(kept), ())
    return {name: x for name, x in kept.items() if not name.startswith(unused)}


def published_names(model: FusionModel) -> dict[str, str]:
    """Name of every tensor in ``model.state_dict()`` that is published to its published name.

    JMT and MT are published for two streams: the first is the visual one and as wide as
    ``modal_dim`` behind its encoder, the second is narrower.
    """
    return {
        name: _encoder_name(name) if name.startswith("encoders.") else _fusion_name(model, name)
        for name in model.state_dict()
        if not _NOT_PUBLISHED.search(name)
    }


def _encoder_name(name: str) -> str:
    _, stream, part, rest = name.split(".", 3)
    for second, first in _FIRST_NAMES.items():
        rest = rest.replace(f"{second}.", f"{first}.")
    return f"{part}.{stream}.{rest}"


def _fusion_name(model: FusionModel, name: str) -> str:
    for ours, theirs in _prefixes(model).items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise AssertionError(f"no published name for {name} of {type(model).__name__}")


def _prefixes(model: FusionModel) -> dict[str, str]:
    """Beginnings of names to published ones; the first that fits counts."""
    if isinstance(model, CrossAttentionModel):
        return _cross_attention_prefixes(model) | _HEAD
    if "fusion.gate.weight" in model.state_dict():
        attn = {f"fusion.proj.{s}.": f"fuse.attn.{i}." for i, s in enumerate(model.streams)}
        return attn | {"fusion.gate.": "fuse.weights."} | _HEAD
    return _LFAN


def _cross_attention_prefixes(model: CrossAttentionModel) -> dict[str, str]:
    assert len(model.streams) == 2, list(model.streams)
    _, second = model.streams
    parts = {
        "joint.": "fuse.reduce_feats_dim.",
        f"proj.{second}.": "fuse.augment_audio_feats_dim.",
    }
    encoders = {
        "layers.0.": "fuse.visual_encoder.layers.0.",
        "layers.1.": "fuse.audio_encoder.layers.0.",
        "layers.2.": "fuse.jr_encoder.layers.0.",
        "slot_layer.": "fuse.final_encoder.layers.0.",
    }
    attentions = {"slot_attention.": "fuse.final_self_attention."}
    source = ("v", "a", "jr")
    for i, (query, context) in enumerate(model.pairs):
        attentions[f"cross.{i}."] = f"fuse.CA_{source[query]}{source[context]}."
    for group, inner in ((encoders, _ENCODER_LAYER), (attentions, _ATTENTION)):
        for ours, theirs in group.items():
            parts |= {ours + x: theirs + y for x, y in inner.items()}
    return parts


def _model_of(tensors: Mapping[str, Tensor]) -> str:
    for name, sign in _SIGNS.items():
        if sign in tensors:
            return name
    raise UserError(
        f"not a published checkpoint of {', '.join(_SIGNS)}: expected one of the tensors "
        f"{', '.join(_SIGNS.values())}, found none of them among {len(tensors)}"
    )


def _weight_shapes(tensors: Mapping[str, Tensor], stream: str) -> list[tuple[int, ...]]:
    """Shape [out, in, kernel] of the first convolution of every level."""
    pattern = re.compile(rf"temporal\.{re.escape(stream)}\.network\.(\d+)\.")
    levels = sorted({int(found[1]) for name in tensors if (found := pattern.match(name))})
    return [
        _shape(tensors, f"temporal.{stream}.network.{level}.net.0.weight_v", 3) for level in levels
    ]


def _modal_dim(name: str, tensors: Mapping[str, Tensor], num_streams: int) -> int:
    width = _shape(tensors, _SIGNS[name], 2)[1]
    return width // num_streams if name in ("lfan", "can") else width


def _shape(tensors: Mapping[str, Tensor], name: str, num_axes: int) -> tuple[int, ...]:
    if name not in tensors or tensors[name].ndim != num_axes:
        found = list(tensors[name].shape) if name in tensors else "none"
        raise UserError(
            f"not a published checkpoint: expected {name} with {num_axes} axes, found {found}"
        )
    return tuple(tensors[name].shape)
