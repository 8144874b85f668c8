"""How good a fused image is: against its reference, or against the two images it was made from."""

from geofuse.evaluate.no_reference import NoReferenceEvaluation, evaluate_against_pair, evaluate_without_reference
from geofuse.evaluate.reference import Evaluation, common_part, evaluate, evaluate_scenes, pair_bands, turned_like
from geofuse.evaluate.tables import json_number

__all__ = [
    "Evaluation",
    "NoReferenceEvaluation",
    "common_part",
    "evaluate",
    "evaluate_against_pair",
    "evaluate_scenes",
    "evaluate_without_reference",
    "json_number",
    "pair_bands",
    "turned_like",
]
