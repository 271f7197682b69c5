"""Typed configuration: a recipe file plus overrides, checked before anything runs.

A recipe is YAML with the sections of :class:`Recipe`. Every field has a default, so that a recipe
states only what differs; unknown keys and wrong types are refused with the valid ones listed.
"""

from erray.config.corpus import Corpus
from erray.config.extraction import Extract, Faces, Media, Pool, Transcribe
from erray.config.load import (
    fingerprint,
    load_recipe,
    parse_recipe,
    recipe_names,
    with_settings,
)
from erray.config.recipe import (
    Predict,
    Recipe,
    Repeat,
    Report,
    Smoothing,
    Tracking,
    Tune,
)
from erray.config.section import Section
from erray.config.training import Loss, Model, Optimiser, Percent, Schedule, Select, Train

__all__ = [
    "Corpus",
    "Extract",
    "Faces",
    "Loss",
    "Media",
    "Model",
    "Optimiser",
    "Percent",
    "Pool",
    "Predict",
    "Recipe",
    "Repeat",
    "Report",
    "Schedule",
    "Section",
    "Select",
    "Smoothing",
    "Tracking",
    "Train",
    "Transcribe",
    "Tune",
    "fingerprint",
    "load_recipe",
    "parse_recipe",
    "recipe_names",
    "with_settings",
]
