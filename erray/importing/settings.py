"""What the options of a published config.yml mean for a recipe, and which mean nothing and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from erray.errors import UserError
from erray.importing.config_file import LEFTOVERS, NO_EFFECT, PublishedConfig

CORPORA = {"MELD": "meld", "C-EXPR-DB": "cexpr"}
"""Published data set to corpus kind."""
_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
_CLIP_RULES = {"LOGITS": "mean_logits", "PROB": "mean_probabilities", "VOTE": "majority"}
"""A word in the name of the published rule to erray's rule."""
_LFAN_ONLY = ("num_heads", "modal_dim", "tcn_kernel_size")
_OPTIMISERS = {
    "SGD": {
        "opt__momentum": "momentum",
        "opt__dampening": "dampening",
        "opt__nesterov": "nesterov",
    },
    "ADAM": {
        "opt__beta1": "beta1",
        "opt__beta2": "beta2",
        "opt__eps_adam": "eps",
        "opt__amsgrad": "amsgrad",
    },
}
_SCHEDULES = {
    "STEP": {"opt__gamma": "gamma", "opt__step_size": "step_size"},
    "MYSTEP": {
        "opt__gamma": "gamma",
        "opt__step_size": "step_size",
        "opt__min_lr": "min_lr",
    },
    "MULTISTEP": {"opt__gamma": "gamma", "opt__milestone": "milestones"},
    "COSINE": {"opt__t_max": "t_max", "opt__min_lr": "min_lr"},
    "MYCOSINE": {"num_epochs": "max_epochs", "opt__min_lr": "min_lr"},
    "MYWARMUP": {
        "min_num_epochs": "min_epochs",
        "opt__factor": "factor",
        "opt__patience": "patience",
        "opt__min_lr": "min_lr",
    },
}
_WORKING_SCHEDULES = ("STEP", "MYSTEP")
_NOT_READ = "not read by the optimiser or schedule of this run"


def train_settings(config: PublishedConfig) -> dict[str, Any]:
    """Return the recipe's ``train`` section.

    Raises:
        UserError: a value that the option does not have.
    """
    return {
        "epochs": config["num_epochs"],
        # the published code never stopped early
        "patience": config["num_epochs"],
        "window": config["window_length"],
        "hop": config["hop_length"],
        "batch_size": config["train_batch_size"],
        "percent": {"train": config["train_p"], "val": config["valid_p"]},
        "precision": "fp16" if config["amp"] else "float32",
        "clip_rule": _clip_rule(config),
        "optimiser": _optimiser(config),
        "schedule": _schedule(config),
    }


def leftovers(config: PublishedConfig) -> dict[str, str]:
    """Return the given options that shape nothing, each with the reason."""
    name = config["opt__name_lr_scheduler"].upper()
    read = {
        *_OPTIMISERS.get(config["opt__name_optimizer"].upper(), {}),
        *(_SCHEDULES.get(name, {}) if config["opt__lr_scheduler"] else ()),
    }
    unread = {o for table in (_OPTIMISERS, _SCHEDULES) for group in table.values() for o in group}
    unread -= {*read, "num_epochs"}
    reasons = LEFTOVERS | dict.fromkeys(unread, _NOT_READ)
    if "min_num_epochs" in unread:
        reasons["min_num_epochs"] = NO_EFFECT
    if not config["opt__lr_scheduler"]:
        reasons["opt__name_lr_scheduler"] = _NOT_READ
    elif name not in _WORKING_SCHEDULES:
        reasons["opt__name_lr_scheduler"] = "did not work as published, the recipe has its formula"
    if config["model_name"] and config["model_name"].lower() != "lfan":
        reasons |= dict.fromkeys(_LFAN_ONLY, "only LFAN read it")
    if corpus_kind(config) == "meld":
        reasons["fold_to_run"] = "MELD has one split"
        reasons["use_other_class"] = "MELD has no class Other"
    return {name: reasons[name] for name in config.given if name in reasons}


def published_labels(config: PublishedConfig) -> str | None:
    """Name of the label set that ``dataset_name`` and ``use_other_class`` mean, None without."""
    kind = corpus_kind(config)
    if kind == "meld":
        return "basic7"
    if kind == "cexpr":
        return "cexpr8" if config["use_other_class"] else "cexpr7"
    return None


def _optimiser(config: PublishedConfig) -> dict[str, Any]:
    """The section; its rate is the one that really ran, the default of the published code."""
    name = _one_of(config, "opt__name_optimizer", _OPTIMISERS)
    return {
        "name": name.lower(),
        "lr": 1e-3,
        "weight_decay": config["opt__weight_decay"],
        **{ours: config[option] for option, ours in _OPTIMISERS[name].items()},
    }


def _schedule(config: PublishedConfig) -> dict[str, Any]:
    if not config["opt__lr_scheduler"]:
        return {"name": "constant"}
    name = _one_of(config, "opt__name_lr_scheduler", _SCHEDULES)
    options = {ours: config[option] for option, ours in _SCHEDULES[name].items()}
    if "milestones" in options:
        given = options["milestones"]
        if not re.fullmatch(r"\d+([-+, ]+\d+)*", given):
            raise UserError(
                f"{config.path}: expected opt__milestone as epochs with - between them, found "
                f"{given!r}"
            )
        options["milestones"] = [int(number) for number in re.findall(r"\d+", given)]
    return {"name": name.lower(), "options": options}


def _clip_rule(config: PublishedConfig) -> str:
    given = config["case_best_model"]
    for word, rule in _CLIP_RULES.items():
        if word in given.upper():
            return rule
    raise UserError(
        f"{config.path}: expected case_best_model with one of {', '.join(_CLIP_RULES)} in its "
        f"name, found {given!r}"
    )


def corpus_kind(config: PublishedConfig) -> str | None:
    """Corpus kind of ``dataset_name``, None where that is not given."""
    if config.names("dataset_name") is None:
        return None
    return CORPORA[_one_of(config, "dataset_name", CORPORA)]


def split_of(config: PublishedConfig) -> str:
    """The split that ``eval_set`` means."""
    return _SPLITS[_one_of(config, "eval_set", _SPLITS)]


def _one_of(config: PublishedConfig, option: str, choices: Mapping[str, Any]) -> str:
    """The choice that the option's value means; letter case and _ for - do not matter."""
    given = config[option].replace("_", "-").lower()
    for choice in choices:
        if choice.lower() == given:
            return choice
    raise UserError(
        f"{config.path}: expected {option} to be one of {', '.join(choices)}, found "
        f"{config[option]!r}"
    )
