"""Retrains the embedded models from seeds: `python -m clip_unlearn.sandbox.train [--only sandbox ...]`."""

import argparse
import json
import logging
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import torch

from clip_unlearn.files.atomic import write_json
from clip_unlearn.sandbox.training.jobs import (
    ORACLE_CLASSES,
    ORACLE_SEEDS,
    Plan,
    convert,
    train_conv,
    train_student,
    train_teacher,
)  # fmt: skip
from clip_unlearn.sandbox.world import digest

log = logging.getLogger(__name__)

_ORACLES: Final = {f"oracle-{name}-{seed}": (name, seed) for name in ORACLE_CLASSES for seed in ORACLE_SEEDS}
NAMES: Final = ("sandbox", "sandbox-conv", "sandbox-openclip", *_ORACLES)
"""Every model this command can make."""


def main(arguments: list[str] | None = None) -> int:
    """Train what the command line asks for and return the exit status."""
    chosen = _parser().parse_args(arguments)
    _start_worker()
    plan = Plan(weights=chosen.weights, cache=chosen.cache)
    started = time.monotonic()
    plan.pool("train", plan.pictures_per_cell)
    plan.pool("audit", plan.audit_per_cell)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(chosen.jobs, mp_context=context, initializer=_start_worker) as workers:
        figures = _train(plan, tuple(chosen.only or NAMES), workers)
    _save(plan, figures, time.monotonic() - started, chosen.jobs)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m clip_unlearn.sandbox.train", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"any of: {', '.join(NAMES)}")
    parser.add_argument("--weights", type=Path, default=Path(__file__).parent / "weights", help="folder to write to")
    cache = Path(tempfile.gettempdir()) / "clip-unlearn-sandbox"
    parser.add_argument("--cache", type=Path, default=cache, help="folder for pictures and teachers, reused if present")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, one thread each")
    return parser


def _start_worker() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(message)s", stream=sys.stderr)
    for noisy in ("httpx", "transformers", "open_clip"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    torch.set_num_threads(1)


def _train(plan: Plan, wanted: tuple[str, ...], workers: Executor) -> dict[str, Any]:
    """Return the figures of each trained model; a teacher is trained once, before the models that need it."""
    students = {name: ("", 0) for name in wanted if name == "sandbox"}
    students |= {name: key for name, key in _ORACLES.items() if name in wanted}
    needed = dict.fromkeys(
        [*([""] if "sandbox-conv" in wanted else []), *(without for without, _ in students.values())]
    )
    teachers = {without: workers.submit(train_teacher, plan, without) for without in needed}
    figures: dict[str, Any] = {}
    running: dict[str, Future[dict[str, Any]]] = {}
    for without, teacher in teachers.items():
        seconds = teacher.result()
        if without == "" and "sandbox-conv" in wanted:
            running["sandbox-conv"] = workers.submit(train_conv, plan, seconds)
        for name, (missing, seed) in students.items():
            if missing == without:
                running[name] = workers.submit(train_student, plan, name, missing, seed)
    for name, job in running.items():
        figures[name] = job.result()
        if name == "sandbox":
            convert(plan)
    if "sandbox-openclip" in wanted and "sandbox" not in wanted:
        convert(plan)
    return figures


def _save(plan: Plan, figures: dict[str, Any], seconds: float, jobs: int) -> None:
    path = plan.weights / "metrics.json"
    known: dict[str, Any] = json.loads(path.read_text())["models"] if path.exists() else {}
    setting = {
        "command": "python -m clip_unlearn.sandbox.train",
        "world": digest(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "jobs": jobs,
        "threads_per_job": 1,
        "machine": f"{os.cpu_count()} CPU cores",
        "training_pictures_per_class_and_domain": plan.pictures_per_cell,
        "seconds_of_last_run": round(seconds, 1),
    }
    write_json(path, {"schema": 1, "setting": setting, "models": {**known, **figures}})


if __name__ == "__main__":
    sys.exit(main())
