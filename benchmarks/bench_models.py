"""Parameters, multiply-accumulates and latency of every fusion model at the published widths.

Streams 512, 128, 768 wide (face, voice, words), and 512, 128 alone for JMT and MT, whose published
layout that is; 7 classes, default options. Multiply-accumulates are those of convolutions and
matrix products, half of what torch's flop counter counts in one pass over a clip of 300 ticks,
divided by 300: in JMT and MT they grow with the clip's length. Latency is the CPU time of
one pass in eval mode on one thread, all ticks present: others on the machine disturb it little.

    .venv/bin/python benchmarks/bench_models.py [--repeats N] [--save]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from measure import arguments, cpu_s, report, summary
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from erray.models import MODELS, make_model
from erray.models.fusion import FusionModel

THREE = {"face": 512, "voice": 128, "words": 768}
TWO = {"face": 512, "voice": 128}
LAYOUTS = [(name, THREE) for name in MODELS] + [("jmt", TWO), ("mt", TWO)]
PUBLISHED = {
    ("lfan", 3): 5_002_503,
    ("can", 3): 5_818_439,
    ("jmt", 2): 3_739_463,
    ("mt", 2): 3_375_687,
}
"""Trainable parameters of the published modules by model and number of streams."""
NUM_CLASSES = 7
NUM_TICKS = 300
BATCHES = (1, 16)


def main() -> None:
    options = arguments(__doc__)
    torch.manual_seed(0)
    models = [(name, make_model(name, widths, NUM_CLASSES, {}).eval()) for name, widths in LAYOUTS]
    times = latencies([model for _, model in models], repeats=options.repeats)
    claims = [
        describe(name, model) | {"latency_cpu_ms": by_batch}
        for (name, model), by_batch in zip(models, times, strict=True)
    ]
    content = {"repeats": options.repeats, "ticks": NUM_TICKS, "models": claims}
    report("models", content, save=options.save)


def describe(name: str, model: FusionModel) -> dict[str, Any]:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(*inputs(model.streams, 1))
    return {
        "model": name,
        "streams": model.streams,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "published_parameters": PUBLISHED.get((name, len(model.streams))),
        "million_macs_per_tick": round(counter.get_total_flops() / 2 / NUM_TICKS / 1e6, 3),
    }


def latencies(models: list[FusionModel], *, repeats: int) -> list[dict[str, dict[str, float]]]:
    """CPU milliseconds of a pass for every model, by clips in the batch; models take turns."""
    found: list[dict[int, list[float]]] = [{size: [] for size in BATCHES} for _ in models]
    for round_ in range(repeats + 1):
        for model, by_batch in zip(models, found, strict=True):
            for size in BATCHES:
                batch = inputs(model.streams, size)
                start_s = cpu_s()
                with torch.no_grad():
                    model(*batch)
                if round_ > 0:  # the first round warms up
                    by_batch[size].append(1000 * (cpu_s() - start_s))
    return [
        {f"{size} clips": summary(values) for size, values in by_batch.items()}
        for by_batch in found
    ]


def inputs(
    widths: Mapping[str, int], num_clips: int
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    everywhere_BT = torch.ones(num_clips, NUM_TICKS, dtype=torch.bool)
    x = {name: torch.randn(num_clips, NUM_TICKS, width) for name, width in widths.items()}
    return x, dict.fromkeys(x, everywhere_BT), everywhere_BT


if __name__ == "__main__":
    main()
