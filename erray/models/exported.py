"""A model as one program of plain operations (``torch.export``), to run without this package."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from erray.models.fusion import FusionModel


def export_program(model: FusionModel) -> ExportedProgram:
    """Return ``model`` for inference, for any number of clips and ticks.

    ``program.module()(streams, present, valid_BT)`` gives the model's logits in eval mode; weights
    and normalisers are in it. ``torch.export.save`` and ``load`` keep it as one file.
    """
    was_training = model.training
    try:
        with torch.no_grad():
            return torch.export.export(
                model.eval(), _example(model), dynamic_shapes=_dynamic_shapes(model)
            )
    finally:
        model.train(was_training)


def _example(model: FusionModel) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    device = next(model.parameters()).device
    shape_BT = (2, 3)  # torch.export takes a 1 for a constant
    everywhere_BT = torch.ones(shape_BT, dtype=torch.bool, device=device)
    streams = {
        name: torch.zeros(*shape_BT, width, device=device) for name, width in model.streams.items()
    }
    return streams, {name: everywhere_BT.clone() for name in streams}, everywhere_BT


def _dynamic_shapes(model: FusionModel) -> tuple[object, ...]:
    any_shape = {0: Dim("clips"), 1: Dim("ticks")}
    per_stream = dict.fromkeys(model.streams, any_shape)
    return per_stream, per_stream, any_shape
