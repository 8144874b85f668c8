"""Many scenes in one go: a manifest checked whole, each scene in a process of its own, what is finished kept."""

from geofuse.batch.houston import HoustonPlan, plan_houston
from geofuse.batch.manifest import Row, read_manifest
from geofuse.batch.paths import Roots
from geofuse.batch.plan import BatchPlan, OptionForm, Scene, make_plan
from geofuse.batch.runner import run_batch
from geofuse.batch.summary import BatchSummary, SceneResult

__all__ = [
    "BatchPlan",
    "BatchSummary",
    "HoustonPlan",
    "OptionForm",
    "Roots",
    "Row",
    "Scene",
    "SceneResult",
    "make_plan",
    "plan_houston",
    "read_manifest",
    "run_batch",
]
