"""A search space and a job to a study and its best settings: Ray Tune runs, Optuna remembers."""

from erray.tuning.ledger import INTERRUPTED
from erray.tuning.length import at_full_length, trial_recipe
from erray.tuning.search import search
from erray.tuning.space import Space, load_space, space_names
from erray.tuning.study import FAILED, Study
from erray.tuning.trial import trial_job

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "Space",
    "Study",
    "at_full_length",
    "load_space",
    "search",
    "space_names",
    "trial_job",
    "trial_recipe",
]
