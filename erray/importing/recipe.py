"""The recipe that an imported model belongs to: what really ran, under erray's names."""

from __future__ import annotations

from typing import Any

from erray.config import Recipe, load_recipe, parse_recipe, with_settings
from erray.errors import UserError
from erray.importing.checkpoint_file import STREAM_OF_MODALITY, PublishedCheckpoint
from erray.importing.config_file import PublishedConfig
from erray.importing.settings import (
    CORPORA,
    corpus_kind,
    published_labels,
    split_of,
    train_settings,
)

_FREE_OPTIONS = ("fusion_axis", "readout")
"""Options of JMT and MT that any weights fit."""


def imported_recipe(
    config: PublishedConfig,
    checkpoint: PublishedCheckpoint,
    *,
    source: str | None = None,
    overrides: list[str] | None = None,
) -> Recipe:
    """Return the recipe that the imported model belongs to.

    It is ``source`` (a packaged recipe or a file) where one is given, else made of ``config``; then
    come the overrides, the model of the checkpoint, and the backbone inside it as ``ir50``'s
    weights unless the recipe names others.

    Raises:
        UserError: ``config`` or the recipe do not fit the checkpoint, or say too little.
    """
    require_agreement(config, checkpoint)
    if source is None:
        recipe = parse_recipe(
            _recipe_data(config, checkpoint), source=str(config.path), overrides=overrides
        )
    else:
        recipe = load_recipe(source, overrides)
    missing = [name for name in checkpoint.streams if name not in recipe.streams]
    if missing:
        raise UserError(
            f"{checkpoint.path} eats streams {', '.join(checkpoint.streams)}, the recipe has no "
            f"{', '.join(missing)}: add them to its streams"
        )
    settings: dict[str, Any] = {
        "model.name": checkpoint.model,
        "model.options": _model_options(config, checkpoint, recipe),
    }
    if checkpoint.has_backbone and "weights" not in recipe.streams.get("ir50", {"weights": None}):
        settings["streams.ir50.weights"] = str(checkpoint.path)
    recipe = with_settings(recipe, settings)
    _require_labels(config, checkpoint, recipe)
    return recipe


def require_agreement(config: PublishedConfig, checkpoint: PublishedCheckpoint) -> None:
    """Refuse a config that says another model than the tensors do.

    Raises:
        UserError: names the option, its value, and what the checkpoint holds.
    """
    claims: dict[str, tuple[Any, Any]] = {}
    name = config.names("model_name")
    if name is not None:
        claims["model_name"] = (name.lower(), checkpoint.model)
    if config.modalities is not None:
        claims["modality"] = (list(map(_stream, config.modalities)), list(checkpoint.streams))
    if checkpoint.model == "lfan":
        for option, ours in (("modal_dim", "modal_dim"), ("tcn_kernel_size", "kernel_size")):
            if option in config.given and ours in checkpoint.options:
                claims[option] = (config[option], checkpoint.options[ours])
    for option, (said, found) in claims.items():
        if said != found:
            raise UserError(
                f"{config.path} has {option} {_plain(said)}, the tensors of {checkpoint.path} are "
                f"those of {_plain(found)}: take the config.yml of this checkpoint"
            )


def _recipe_data(config: PublishedConfig, checkpoint: PublishedCheckpoint) -> dict[str, Any]:
    kind = corpus_kind(config)
    if kind is None:
        raise UserError(
            f"{config.path} has no dataset_name: give one of {', '.join(CORPORA)}, or a recipe "
            f"with -r"
        )
    corpus: dict[str, Any] = {"kind": kind, "labels": published_labels(config)}
    train = train_settings(config)
    if kind == "cexpr":
        # other folds than the published ones would put clips of its train split into test
        corpus |= {"protocol": "published", "fold": config["fold_to_run"]}
        train["select"] = {"level": "frame"}
    encoders: dict[str, dict[str, Any]] = {"vggish": {"align": "published"}}
    return {
        "name": f"imported-{checkpoint.model}-{checkpoint.sha256[:8]}",
        "seed": config["seed"],
        "corpus": corpus,
        "streams": {name: encoders.get(name, {}) for name in checkpoint.streams},
        "train": train,
        "tracking": {
            "experiment": "erray-imported",
            "model_name": f"imported-{kind}-{checkpoint.model}",
        },
        "predict": {"split": split_of(config)},
    }


def _require_labels(
    config: PublishedConfig, checkpoint: PublishedCheckpoint, recipe: Recipe
) -> None:
    labels, published = recipe.corpus.label_set, published_labels(config)
    if len(labels) != checkpoint.num_classes:
        raise UserError(
            f"{checkpoint.path} has {checkpoint.num_classes} classes, the label set {labels.name} "
            f"has {len(labels)}: set corpus.labels, or use_other_class in {config.path}"
        )
    if recipe.corpus.labels is None and published not in (None, labels.name):
        raise UserError(
            f"{config.path} has dataset_name {config['dataset_name']} with labels {published}, the "
            f"recipe's corpus has {labels.name}: set corpus.labels to the model's"
        )


def _model_options(
    config: PublishedConfig, checkpoint: PublishedCheckpoint, recipe: Recipe
) -> dict[str, Any]:
    """The checkpoint's options; the recipe may add to them, and choose what is no size."""
    given, options = recipe.model, dict(checkpoint.options)
    if checkpoint.model == "lfan":
        # no tensor shows the heads, nor that the stream listed first leads
        options |= {"num_heads": config["num_heads"], "leader": next(iter(checkpoint.streams))}
    if "name" in given.model_fields_set and given.name != checkpoint.model:
        raise UserError(
            f"{checkpoint.path} holds a {checkpoint.model}, the recipe has model.name "
            f"{given.name}: remove the recipe's model"
        )
    for name, value in given.options.items():
        if name in options and name not in _FREE_OPTIONS and value != options[name]:
            raise UserError(
                f"{checkpoint.path} and its config.yml have {name} {options[name]}, the recipe has "
                f"model.options.{name} {value}: remove it"
            )
    return options | given.options


def _stream(modality: str) -> str:
    if modality not in STREAM_OF_MODALITY:
        raise UserError(
            f"erray has no encoder for the published stream {modality!r}; it knows "
            f"{', '.join(STREAM_OF_MODALITY)}"
        )
    return STREAM_OF_MODALITY[modality]


def _plain(value: Any) -> str:
    return "+".join(value) if isinstance(value, list) else str(value)
