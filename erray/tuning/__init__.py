"""A search space and a job to a study and its best settings: Ray Tune runs, Optuna remembers.

``erray.tuning.search`` runs one; it is not imported here, because a space needs no Ray.
"""

from erray.tuning.ledger import FAILED, INTERRUPTED
from erray.tuning.length import at_full_length, trial_recipe
from erray.tuning.space import Space, load_space, space_names
from erray.tuning.study import Study
from erray.tuning.trial import trial_job

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "Space",
    "Study",
    "at_full_length",
    "load_space",
    "space_names",
    "trial_job",
    "trial_recipe",
]
