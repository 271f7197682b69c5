"""A published checkpoint (arXiv 2407.12927): its config.yml to a recipe, its tensors to a model.

The facts about its options and tensors are those of the published code; none of that code is here.
"""

from erray.importing.checkpoint_file import PublishedCheckpoint, read_checkpoint
from erray.importing.config_file import PublishedConfig, read_config
from erray.importing.recipe import imported_recipe
from erray.importing.settings import leftovers

__all__ = [
    "PublishedCheckpoint",
    "PublishedConfig",
    "imported_recipe",
    "leftovers",
    "read_checkpoint",
    "read_config",
]
