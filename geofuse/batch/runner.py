"""Work through a plan: several scenes at once, each in a process of its own, every result written down as it comes."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

from geofuse.batch import fingerprint
from geofuse.batch.plan import BatchPlan, Scene
from geofuse.batch.scene_process import NotStarted, Processes, SceneFailed, run_scene
from geofuse.batch.summary import BatchSummary, SceneResult, results_before
from geofuse.errors import GeofuseError, OutputError, UsageError
from geofuse.methods.base import Report, silent
from geofuse.threads import choose_threads

_LOG = logging.getLogger(__name__)
_LOOK_UP_S = 1.0  # a signal that another thread got is seen by then
Forget = Callable[[str], None]
"""Takes the name of a stage of which no more will be reported."""


def _no_matter(stage: str) -> None:
    """Forget nothing."""


def run_batch(
    plan: BatchPlan,
    command: Sequence[str],
    *,
    jobs: int = 1,
    resume: bool = False,
    report: Report = silent,
    forget: Forget = _no_matter,
) -> BatchSummary:
    """Run the scenes of a plan and return what became of each; a scene that fails raises nothing.

    Parameters
    ----------
    plan
        What to run.
    command
        How to start ``geofuse``; the arguments of ``geofuse run`` are appended.
    jobs
        How many scenes at once. Each gets its share of the threads, which can change the last bits of a result.
    resume
        Keep what an earlier batch finished and still holds: same options, same inputs, outputs still there. A scene that was
        stopped in the middle goes on from its finished tiles.
    report, forget
        Told of progress: of the stage ``scenes``, and of the stages of each scene that takes long.

    Raises
    ------
    UsageError
        If ``jobs`` is less than 1.
    OutputError
        If the folder for outputs cannot be made or the summary cannot be written.
    KeyboardInterrupt
        On Ctrl-C, after the running scenes have ended; the summary tells what is finished.
    """
    if jobs < 1:
        raise UsageError(f"{jobs} jobs; expected 1 or more")
    try:
        plan.roots.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {plan.roots.out}: {error.strerror}; choose another --out-dir") from None
    work = _Work(plan, command, min(jobs, len(plan.scenes)), results_before(plan) if resume else None, report, forget)
    try:
        work.through()
    except BaseException:
        work.processes.stop()
        raise
    finally:
        work.pool.shutdown(wait=True, cancel_futures=True)
        work.gather()
        work.write()
    return work.summary()


class _Work:
    """The state of a batch while it runs."""

    def __init__(
        self,
        plan: BatchPlan,
        command: Sequence[str],
        jobs: int,
        before: dict[str, SceneResult] | None,
        report: Report,
        forget: Forget,
    ) -> None:
        self.plan, self.command, self.resume = plan, command, before is not None
        self.before = before = before or {}
        self.report, self.forget = report, forget
        threads = str(max(1, choose_threads().count // jobs))
        self.environment = {**os.environ, "GEOFUSE_THREADS": threads, "OMP_NUM_THREADS": threads}
        self.pool = ThreadPoolExecutor(jobs, "scene")
        self.processes = Processes()
        self.futures: dict[Future[SceneResult], Scene] = {}
        self.began = time.monotonic()
        self._writing = threading.Lock()
        # What was finished before stands in the summary until its turn comes, so that an interrupt loses nothing.
        self.results = {
            scene.name: before[scene.name]
            if scene.name in before and before[scene.name].is_finished
            else SceneResult(scene.name, "waiting", str(scene.output), str(scene.log))
            for scene in plan.scenes
        }

    def through(self) -> None:
        """Run every scene, those that need another's prior after it."""
        waiting = list(self.plan.scenes)
        ended: set[str] = set()
        self.report("scenes", 0, len(waiting))
        while waiting or self.futures:
            for scene in [scene for scene in waiting if scene.needs is None or scene.needs in ended]:
                waiting.remove(scene)
                self.futures[self.pool.submit(self._settle, scene)] = scene
            done, _ = wait(self.futures, timeout=_LOOK_UP_S, return_when=FIRST_COMPLETED)
            for future in done:
                scene = self.futures.pop(future)
                self.results[scene.name] = future.result()
                ended.add(scene.name)
                self._say(self.results[scene.name])
                self.report("scenes", len(ended), len(self.plan.scenes))
            if done:
                self.write()

    def gather(self) -> None:
        """Take the results of the scenes that were told to end."""
        for future, scene in self.futures.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                self.results[scene.name] = future.result()

    def summary(self) -> BatchSummary:
        """Return what became of each scene so far."""
        scenes = tuple(self.results[scene.name] for scene in self.plan.scenes)
        seconds = time.monotonic() - self.began
        return BatchSummary(self.plan.source, self.plan.summary_path, scenes, seconds, self.plan.notes)

    def write(self) -> None:
        """Write the summary."""
        with self._writing:
            self.summary().write()

    def _settle(self, scene: Scene) -> SceneResult:
        """Keep a scene that is done already, or run it; called in a thread of the pool."""
        before = self.before.get(scene.name)
        note = None
        if before is not None and before.state != "waiting":
            note = self._why_again(scene, before)
            if note is None:
                return replace(before, state="kept", note=None)
        result = SceneResult(scene.name, "failed", str(scene.output), str(scene.log), note=note)
        if scene.needs is not None and not self.results[scene.needs].is_finished:
            return replace(result, cause=f"starts from the prior of {scene.needs}, which is not finished")
        began = time.monotonic()
        try:
            made_from = fingerprint.take(scene)
            run = self._run(scene)
        except NotStarted:
            return self.results[scene.name]
        except (SceneFailed, GeofuseError, OSError) as error:
            told = "interrupted" if self.processes.stopped else "failed"
            return replace(result, state=told, cause=" ".join(str(error).split()), seconds=time.monotonic() - began)
        return replace(result, state="done", run=run, fingerprint=made_from, seconds=time.monotonic() - began)

    def _why_again(self, scene: Scene, before: SceneResult) -> str | None:
        """Say why a scene of an earlier batch is run again; None if it need not be."""
        if not before.is_finished:
            return f"{before.state} before"
        return fingerprint.missing_output(scene) or fingerprint.changes(scene, before.fingerprint or {})

    def _run(self, scene: Scene) -> dict[str, object]:
        """Run a scene, passing on the progress of what takes long."""
        stages: set[str] = set()

        def follow(stage: str, done: int, total: int) -> None:
            stages.add(f"{scene.name}: {stage}")
            self.report(f"{scene.name}: {stage}", done, total)
            if done >= total:
                self.forget(f"{scene.name}: {stage}")

        try:
            return run_scene(scene, self.command, self.environment, self.processes, follow, resume=self.resume)
        finally:
            for stage in stages:
                self.forget(stage)

    def _say(self, result: SceneResult) -> None:
        """Say at once what became of a scene."""
        if result.state == "failed":
            _LOG.warning("%s failed: %s", result.name, result.cause)
        elif result.note:
            _LOG.info("%s was run again: %s", result.name, result.note)
        else:
            _LOG.info("%s: %s", result.name, result.state)
