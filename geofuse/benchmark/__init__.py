"""Compare methods on the same inputs: scenes made into pairs by Wald's protocol, or real pairs without a reference."""

from geofuse.benchmark.plan import BenchmarkPlan, MethodChoice, PairSource, SceneSource
from geofuse.benchmark.results import BenchmarkResult
from geofuse.benchmark.runs import run_benchmark

__all__ = ["BenchmarkPlan", "BenchmarkResult", "MethodChoice", "PairSource", "SceneSource", "run_benchmark"]
