"""Averaged weights follow their formula, and are what is validated and kept."""

from __future__ import annotations

import torch

from erray.training.averaging import WeightAverage
from erray.training.loop import TrainingLoop


def test_the_average_by_its_formula(make_job):
    model = make_job().make_model()
    average = WeightAverage(model, 0.3)
    expected = model.head.bias.detach().clone()
    for step in range(8):
        with torch.no_grad():
            model.head.bias += step + 1
        model.encoders["hog"].bn.running_mean += 1
        average.update(model)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.head.bias.detach()
    torch.testing.assert_close(average.model.head.bias, expected)
    assert torch.equal(
        average.model.encoders["hog"].bn.running_mean, model.encoders["hog"].bn.running_mean
    )
    assert not any(x.requires_grad for x in average.model.parameters())
    assert all(x.requires_grad for x in model.parameters())


def test_what_is_scored_and_kept_is_the_average(make_job):
    """With a decay near 1 the average lags far behind the last step's weights."""
    loop = TrainingLoop(make_job(epochs=1, average_decay=0.999, optimiser={"lr": 0.05}))
    list(loop.run())
    kept, last = loop.best.weights, loop.model.state_dict()
    averaged = loop.average.model.state_dict()
    assert all(torch.equal(kept[name], averaged[name]) for name in kept)
    assert not torch.equal(kept["head.weight"], last["head.weight"])
    bn = "encoders.hog.bn.running_var"
    assert torch.equal(kept[bn], last[bn])


def test_training_itself_is_not_changed(make_job):
    plain, averaged = (
        TrainingLoop(make_job(epochs=2, **settings)) for settings in ({}, {"average_decay": 0.9})
    )
    losses = [[row["train_loss"] for row in loop.run()] for loop in (plain, averaged)]
    assert losses[0] == losses[1]
