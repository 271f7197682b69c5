"""One step: accumulated batches are one large batch; a compiled model takes the same steps."""

from __future__ import annotations

import functools

import pytest
import torch

from erray.errors import UserError
from erray.training.loop import TrainingLoop


class NoNorm(torch.nn.Module):
    """In the place of the batch norms, whose statistics are of one batch."""

    def forward(self, x_BCT, mask_BT):
        return x_BCT


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss": {"level": "both", "class_weights": "inverse"}, "max_grad_norm": 0.2},
        {"modality_dropout": 0.4, "optimiser": {"name": "adamw"}},
    ],
)
def test_accumulated_batches_are_one_large_batch(make_job, settings):
    """Batches of 3, 3 and 2 windows of different lengths against one of 9, with uneven ends."""
    loops = [
        TrainingLoop(make_job(dropout=0.0, epochs=2, hop=16, **sizes, **settings))
        for sizes in ({"batch_size": 9}, {"batch_size": 3, "accumulate": 3})
    ]
    for loop in loops:
        for encoder in loop.model.encoders.values():
            encoder.bn = NoNorm()
    rows = [list(loop.run()) for loop in loops]
    losses = [[row["train_loss"] for row in history] for history in rows]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert losses[0][0] != losses[0][1]
    for name, x in loops[0].model.state_dict().items():
        torch.testing.assert_close(loops[1].model.state_dict()[name], x, atol=1e-5, rtol=1e-5)


def test_a_compiled_model_takes_the_same_steps(make_job, monkeypatch):
    """Traced as for any compiler, but run by torch: no minutes for a compiler, which may lack."""
    compiled = []

    def traced(model, **options):
        compiled.append(options)
        return torch_compile(model, backend="eager", **options)

    torch_compile = torch.compile
    monkeypatch.setattr(torch, "compile", traced)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    job = functools.partial(make_job, dropout=0.0, epochs=1, hop=40, window=40)
    rows = [next(TrainingLoop(job(compile=flag)).run()) for flag in (False, True)]
    assert compiled == [{"dynamic": True}]
    assert rows[1]["train_loss"] == pytest.approx(rows[0]["train_loss"], abs=1e-5)
    scores = [{k: v for k, v in row.items() if k.startswith("val_")} for row in rows]
    assert scores[0] == scores[1]


def test_without_a_compiler_there_is_one_line(make_job, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="expected the command no-such-compiler, found none"):
        TrainingLoop(make_job(compile=True))
    TrainingLoop(make_job())
