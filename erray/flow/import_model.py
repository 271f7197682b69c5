"""A published checkpoint to a registered model, and the recipe that it is used with."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from erray.checkpoint import ModelDescription, save_model
from erray.config import Recipe
from erray.encoders.vggish import VggishConfig
from erray.errors import UserError
from erray.flow.context import Flow
from erray.flow.registry import Decision, register_model
from erray.importing import PublishedCheckpoint, PublishedConfig, leftovers
from erray.models.fusion import FusionModel
from erray.registry import COMMIT_TAG, require_valid_names
from erray.run_record import code_commit
from erray.store import write_text
from erray.training.ingest import TRAIN

IMPORTED = "imported"
NORMALISERS = ("none", "train")


@dataclass(frozen=True)
class Import:
    """What is imported.

    Attributes:
        from_config: the recipe was made of ``config``.
        normaliser: ``none`` or ``train``; None: ``train``, or ``none`` where the published run did
            not normalise.
    """

    checkpoint: PublishedCheckpoint
    config: PublishedConfig
    from_config: bool
    normaliser: str | None = None

    def __post_init__(self) -> None:
        if self.normaliser not in (None, *NORMALISERS):
            raise UserError(f"--normaliser {self.normaliser}: expected {' or '.join(NORMALISERS)}")


def import_step(flow: Flow, given: Import) -> dict[str, Any]:
    """Write the recipe and the model into the run's folder, register the model.

    Returns:
        ``name``, ``version`` and ``alias`` of the model (None where it did not move), ``recipe``
        and ``folder`` (paths), what it is (``model``, ``streams``, ``classes``), ``normaliser``,
        and ``not_taken`` (option of the config to the reason that it shapes nothing).

    Raises:
        UserError: weights of an encoder that are missing, no features to normalise by, tensors that
            are not the model's.
    """
    tracking, checkpoint = flow.recipe.tracking, given.checkpoint
    require_valid_names(tracking.model_name, tracking.alias)
    model = checkpoint.build(flow.recipe.model.options)
    description = _description(flow, checkpoint)
    recipe_file = write_recipe(flow.recipe, flow.out / "imported.yaml")
    normaliser = _fit_normaliser(flow, given, model, recipe_file)
    for line in _warnings(flow.recipe, given, normaliser):
        flow.say(line)
    folder = flow.run(IMPORTED).model
    save_model(folder, model, description)
    registered = _register(flow, given, folder, normaliser)
    return {
        "name": tracking.model_name,
        "version": registered.version.version,
        "alias": registered.alias if registered.move else None,
        "recipe": str(recipe_file),
        "folder": str(folder),
        "model": checkpoint.model,
        "streams": dict(checkpoint.streams),
        "classes": list(description.class_names),
        "normaliser": normaliser,
        "not_taken": leftovers(given.config),
    }


def write_recipe(recipe: Recipe, path: Path) -> Path:
    """Write what differs from the defaults, under the recipe's own name.

    Raises:
        UserError: the folder cannot be written.
    """
    data = {"name": recipe.name} | recipe.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    write_text(path, text)
    return path


def _description(flow: Flow, checkpoint: PublishedCheckpoint) -> ModelDescription:
    recipe = flow.recipe
    return ModelDescription(
        model=checkpoint.model,
        options=recipe.model.options,
        streams=dict(checkpoint.streams),
        labels=flow.labels.name,
        class_names=flow.labels.names,
        features={name: flow.plan.fingerprints[name] for name in checkpoint.streams},
        window=recipe.train.window,
        hop=recipe.train.hop,
        clip_rule=recipe.train.clip_rule,
        clock_hz=recipe.corpus.clock_hz,
    )


def _fit_normaliser(flow: Flow, given: Import, model: FusionModel, recipe_file: Path) -> str:
    """Set the normaliser that is asked for; return its name."""
    default = "train" if given.config["calc_mean_std"] else "none"
    name = given.normaliser or default
    if name == "none":
        return name
    try:
        arrays = flow.arrays(TRAIN)
    except UserError as error:
        extract = shlex.join(["erray", "extract", "-r", str(recipe_file), "--out", str(flow.out)])
        raise UserError(
            f"the checkpoint does not hold the mean and std of its features: run `{extract}` and "
            f"import again, or pass --normaliser none ({error})"
        ) from None
    for stream in given.checkpoint.streams:
        mean_D, std_D = arrays.normaliser(stream)
        model.fit_normaliser(stream, torch.from_numpy(mean_D), torch.from_numpy(std_D))
    flow.say(f"normalised by the {len(arrays.clips)} clips of split {TRAIN} that have features")
    return name


def _warnings(recipe: Recipe, given: Import, normaliser: str) -> list[str]:
    lines = []
    if not given.from_config:
        lines.append("the recipe's own settings stand; config.yml was compared with the tensors")
    if normaliser == "none" and given.config["calc_mean_std"]:
        lines.append(
            "warning: the published run normalised its features, this model does not: its "
            "predictions will be wrong unless the features are normalised already"
        )
    if "vggish" in given.checkpoint.streams:
        align = recipe.streams["vggish"].get("align", VggishConfig.align)
        if align != "published":
            lines.append(
                f"warning: streams.vggish.align is {align}, the model was trained with published"
            )
    if recipe.model.options.get("fusion_axis") == "published":
        lines.append(
            "as published, the last attention sees all of a batch: windows are scored one at a "
            "time, so that a clip's logits depend on no other clip"
        )
    return lines


def _register(flow: Flow, given: Import, folder: Path, normaliser: str) -> Decision:
    """Make the folder a version of the model, below a run of its own."""
    tags = {
        "erray.run": IMPORTED,
        "erray.imported.file": given.checkpoint.path.name,
        "erray.imported.sha256": given.checkpoint.sha256,
        "erray.imported.normaliser": normaliser,
    }
    settings = flow.recipe.model_dump(mode="json")
    commit = code_commit()
    about = tags if commit is None else {**tags, COMMIT_TAG: commit}
    with flow.registry.run(flow.recipe.name, params=settings, tags=about) as run_id:
        flow.registry.log_dict(run_id, settings, "recipe.json")
        flow.registry.log_file(run_id, given.config.path)
        origin = f"published weights imported from `{given.checkpoint.path.name}`"
        decision = register_model(flow, run_id, folder, run=None, origin=origin, tags=tags)
    version = decision.version
    model = {"name": version.name, "version": version.version, "run": IMPORTED}
    flow.record.update(model={**model, "job": given.checkpoint.sha256})
    return decision
