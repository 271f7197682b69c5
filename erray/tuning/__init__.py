"""A search space and a job to a study and its best settings: Ray Tune runs, Optuna remembers."""

from erray.tuning.search import search
from erray.tuning.space import Space, load_space
from erray.tuning.study import Study
from erray.tuning.trial import trial_job

__all__ = ["Space", "Study", "load_space", "search", "trial_job"]
