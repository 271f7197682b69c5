"""The file of a published checkpoint: its tensors, what model they are of, and that model filled.

Nothing in the file is run: torch's ``weights_only`` reader takes tensors alone. The published name
of a stream becomes the name of the encoder that makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erray.encoders.weights import check_tensors, read_torch, sha256_of
from erray.errors import UserError
from erray.models import make_model
from erray.models.fusion import FusionModel
from erray.models.published import describe_published, fusion_tensors, published_names

STREAM_OF_MODALITY = {"video": "ir50", "vggish": "vggish", "bert": "bert"}
"""Stream name in a published checkpoint to erray's."""
_BACKBONE = "spatial.visual."


@dataclass(frozen=True)
class PublishedCheckpoint:
    """What a published checkpoint holds, by its tensors alone.

    Attributes:
        model: name in ``erray.models.MODELS``.
        streams: stream name to width, in the model's order.
        options: of the model, as far as names and shapes show them.
        has_backbone: the file also holds the face encoder, as ``spatial.visual.*``.
        tensors: those of the fusion, by published names with erray's stream names in them.
    """

    path: Path
    sha256: str
    model: str
    streams: Mapping[str, int]
    options: Mapping[str, Any]
    num_classes: int
    has_backbone: bool
    tensors: Mapping[str, Tensor] = field(repr=False)

    def build(self, options: Mapping[str, Any]) -> FusionModel:
        """Return the model with ``options`` and the checkpoint's weights, in eval mode.

        Its normalisers are the identity: a published checkpoint does not hold their numbers.

        Raises:
            UserError: tensors that are missing, unknown, of another shape or not finite.
        """
        model = make_model(self.model, self.streams, self.num_classes, options)
        state, names = model.state_dict(), published_names(model)
        expected = {theirs: state[ours] for ours, theirs in names.items()}
        check_tensors(self.path, expected, self.tensors)
        for theirs, x in self.tensors.items():
            if not bool(torch.isfinite(x).all()):
                raise UserError(f"{self.path}: {theirs} holds numbers that are not finite")
        model.load_state_dict(state | {o: self.tensors[theirs] for o, theirs in names.items()})
        return model.eval()


def read_checkpoint(path: Path) -> PublishedCheckpoint:
    """Read a published checkpoint.

    Raises:
        UserError: no such file, a file that is no state dict, or tensors of no model that erray has
            a name map for.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}: expected the model.pt of a published run")
    sha256 = sha256_of(path)
    tensors = read_torch(path, sha256)
    try:
        # the model's streams are named after their encoders
        fusion = fusion_tensors({_ours(name): x for name, x in tensors.items()})
        model, streams, options, num_classes = describe_published(fusion)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    unknown = sorted(set(streams) - set(STREAM_OF_MODALITY.values()))
    if unknown:
        raise UserError(
            f"{path} has streams {', '.join(unknown)}, which no encoder of erray makes; expected "
            f"some of {', '.join(STREAM_OF_MODALITY)}"
        )
    return PublishedCheckpoint(
        path=path.absolute(),
        sha256=sha256,
        model=model,
        streams=streams,
        options=options,
        num_classes=num_classes,
        has_backbone=any(name.startswith(_BACKBONE) for name in tensors),
        tensors=fusion,
    )


def _ours(name: str) -> str:
    return ".".join(STREAM_OF_MODALITY.get(part, part) for part in name.split("."))
