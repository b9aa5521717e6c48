"""Measure what every audit is worth: models that hold a class against models that never saw it.

    python benchmarks/lab.py [--jobs 2] [--seeds 6] [--only AUDIT ...]

The population is trained once and every measurement is kept in the cache, so that the benchmark can be stopped and gone
on with. Then benchmarks/results/lab.json and lab.md are made. `make lab` runs it.
"""

import argparse
import os
import platform
from collections.abc import Sequence
from typing import Final

from lip_runs import RESULTS

from clip_unlearn import probes
from clip_unlearn.core.audit import Audit
from clip_unlearn.core.validation import Separation, Validation
from clip_unlearn.core.versions import version
from clip_unlearn.files import atomic
from clip_unlearn.runs.lab import measure
from clip_unlearn.runs.lab_table import validations
from clip_unlearn.runs.suites import STANDARD

COMMAND: Final = "python benchmarks/lab.py"
HEAD: Final = """# What audits are worth

Small models of which is known what they hold, classes car, cat and mug, {count} models of each sort ({seeds} of each
class). All begin as a model retrained without the class and go on learning: `holds it` with the class, `never seen`
without it, `word alone` without its pictures and with its word, from sentences that describe and group it. `hidden`:
models that hold it, behind the audit's own shallow edit (its control). Each cell is the mean of the reading over the
models, in its worst form where it has several. AUC: how often a model that holds the class has the higher reading
(as it is, or hidden where there is nothing to attack without an edit), with Newcombe's 95 % interval; models of one
class and beginning are alike, so that the interval is rather too narrow. Alarms: models that never saw the class and of
which a grade would not believe it, the upper end of the reading being above 10 %. An audit whose AUC is below 0.95
against either sort is descriptive only: no grade uses it.

All three domains of the sandbox, 102 pictures of the class. Command: `{command}`. Machine: {machine}. Version
{version}.

| audit | reading | holds it | hidden | never seen | AUC | word alone | AUC | alarms, never seen | alarms, word | |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def row(one: Validation) -> str:
    """Return a row of the table."""
    kind = probes.find(one.audit)
    code = f" ({kind.code})" if issubclass(kind, Audit) else ""
    cells = [f"`{one.audit}`{code}", one.reading, _number(one.knowing), _number(one.hidden)]
    for side in (one.unseen, one.word):
        cells += [_number(side.mean), f"{side.auc:.3f} ({side.low:.2f} to {side.high:.2f})"]
    cells += [_alarms(one.unseen), _alarms(one.word), "qualifies" if one.qualifies else "descriptive only"]
    return f"| {' | '.join(cells)} |"


def _alarms(side: Separation) -> str:
    return "" if side.alarms is None else f"{side.alarms} of {side.count}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def table(rows: Sequence[Validation], seeds: int, machine: str) -> str:
    """Return the results as Markdown."""
    fields = {"count": rows[0].count, "seeds": seeds, "command": COMMAND, "machine": machine, "version": version()}
    return HEAD.format(**fields) + "\n".join(row(one) for one in rows) + "\n"


def main() -> None:
    """Measure what is missing and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--only", nargs="*", help="measure these audits, and write no table")
    given = parser.parse_args()
    if given.only:
        measure(given.only, seeds=given.seeds, jobs=given.jobs)
        return
    rows = validations(measure(STANDARD, seeds=given.seeds, jobs=given.jobs))
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    found = {"command": COMMAND, "machine": machine, "version": version(), "seeds": given.seeds}
    atomic.write_json(RESULTS / "lab.json", found | {"rows": [one.model_dump(mode="json") for one in rows]})
    atomic.write_text(RESULTS / "lab.md", table(rows, given.seeds, machine))


if __name__ == "__main__":
    main()
