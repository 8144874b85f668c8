"""Training networks on scenes: pairs, patches, the loop with its checkpoints, and what it writes."""

from geofuse.training.checkpoint import load_checkpoint, save_checkpoint
from geofuse.training.history import History
from geofuse.training.loop import Keeping, Recipe, TrainingOptions, train
from geofuse.training.scenes import Batch, PatchSampler, Scales, TrainingScene

__all__ = [
    "Batch",
    "History",
    "Keeping",
    "PatchSampler",
    "Recipe",
    "Scales",
    "TrainingOptions",
    "TrainingScene",
    "load_checkpoint",
    "save_checkpoint",
    "train",
]
