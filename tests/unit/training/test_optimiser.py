"""Optimisers get every option of the recipe; narrow number formats act and are refused in time."""

from __future__ import annotations

import pytest
import torch

from erray.config import parse_recipe
from erray.errors import UserError
from erray.training.loop import TrainingLoop
from erray.training.optimiser import Precision, make_optimiser

SGD = {"lr": 0.01, "momentum": 0.8, "dampening": 0.1, "nesterov": False, "weight_decay": 0.02}
ADAM = {"lr": 0.01, "eps": 1e-6, "amsgrad": True, "weight_decay": 0.02}


def settings(**optimiser):
    return parse_recipe({"train": {"optimiser": optimiser}}).train.optimiser


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"name": "sgd", **SGD}, lambda p: torch.optim.SGD(p, **SGD)),
        (
            {"name": "adam", "beta1": 0.8, "beta2": 0.95, **ADAM},
            lambda p: torch.optim.Adam(p, betas=(0.8, 0.95), **ADAM),
        ),
        (
            {"name": "adamw", "beta1": 0.8, "beta2": 0.95, **ADAM},
            lambda p: torch.optim.AdamW(p, betas=(0.8, 0.95), **ADAM),
        ),
    ],
)
def test_the_steps_are_torchs_with_the_same_options(given, expected):
    def weights_after(make):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimiser = make(model)
        for step in range(5):
            optimiser.zero_grad()
            x = torch.arange(6.0).reshape(2, 3) * (1 if step % 2 else -0.1)
            model(x).square().sum().backward()
            optimiser.step()
        return model.weight

    found = weights_after(lambda model: make_optimiser(model, settings(**given)))
    torch.testing.assert_close(
        found, weights_after(lambda model: expected(model.parameters())), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize(
    ("optimiser", "message"),
    [
        ({"name": "adam", "momentum": 0.5}, "momentum is read by sgd only, not by adam"),
        ({"name": "adamw", "dampening": 0.5}, "dampening is read by sgd only"),
        ({"name": "adamw", "nesterov": False}, "nesterov is read by sgd only"),
        ({"name": "sgd", "amsgrad": True}, "amsgrad is read by adam and adamw only, not by sgd"),
        ({"name": "sgd", "eps": 1e-3}, "eps is read by adam and adamw only"),
        ({"name": "sgd", "beta1": 0.5}, "beta1 is read by adam and adamw only"),
        ({"name": "sgd", "momentum": 0.0}, "set nesterov to false"),
        ({"name": "sgd", "dampening": 0.5}, "set nesterov to false"),
    ],
)
def test_what_an_optimiser_does_not_read_is_refused(optimiser, message):
    with pytest.raises(UserError, match=message):
        settings(**optimiser)


def test_fp16_needs_a_gpu(make_job):
    with pytest.raises(UserError, match="fp16 needs a GPU, found the CPU"):
        TrainingLoop(make_job(precision="fp16"))


def test_bf16_computes_narrow_and_keeps_wide_weights(make_job):
    loop = TrainingLoop(make_job(precision="bf16", epochs=2, optimiser={"lr": 0.01}))
    seen, head = set(), loop.model.head

    def look(module, arguments, result):
        if loop.model.training:
            seen.add(result.dtype)

    head.register_forward_hook(look)
    narrow = list(loop.run())
    assert seen == {torch.bfloat16}
    assert {x.dtype for x in loop.model.parameters()} == {torch.float32}
    wide = list(TrainingLoop(make_job(epochs=2, optimiser={"lr": 0.01})).run())
    assert narrow[-1]["train_loss"] == pytest.approx(wide[-1]["train_loss"], rel=0.02)
    assert narrow[-1]["train_loss"] != wide[-1]["train_loss"]


def scaled(parameter):
    """A scaler as a GPU has it; the scaler of torch works on the CPU too."""
    precision = Precision("float32", torch.device("cpu"))
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    return precision, torch.optim.SGD([parameter], lr=0.5)


def test_a_scaled_step_is_the_plain_one():
    parameter = torch.nn.Parameter(torch.tensor([3.0]))
    precision, optimiser = scaled(parameter)
    precision.backward(parameter.square().sum())
    assert parameter.grad.item() == 6 * 1024
    precision.unscale(optimiser)
    assert parameter.grad.item() == 6
    precision.step(optimiser)
    assert parameter.item() == 0


def test_an_overflow_lowers_the_scale_which_explains_it_down_to_one():
    parameter = torch.nn.Parameter(torch.tensor([3.0]))
    precision, optimiser = scaled(parameter)
    explained = []
    for _ in range(12):
        optimiser.zero_grad()
        precision.backward(parameter.sum() * float("inf"))
        precision.unscale(optimiser)
        explained.append(precision.skip())
    assert parameter.item() == 3
    assert explained == [True] * 10 + [False] * 2

    again, _ = scaled(parameter)
    again.load_state_dict(precision.state_dict())
    assert again.scaler.get_scale() == precision.scaler.get_scale() == 1024 / 2**12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 needs a GPU")
def test_fp16_learns_on_a_gpu(make_job):
    loop = TrainingLoop(make_job(precision="fp16", epochs=6, optimiser={"lr": 0.02}), device="cuda")
    history = list(loop.run())
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
