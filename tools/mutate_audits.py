"""Take the core line out of every audit, one at a time, and see that a test fails.

    python tools/mutate_audits.py [AUDIT ...]

The package is laid out anew with links, so that nothing here is written to. Exit code 1 where a test file does not pass
as it is, or passes without the line. About half a minute an audit.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "src" / "clip_unlearn"
TESTS: Final = ROOT / "tests" / "unit" / "probes"
WEIGHTS, PROMPTS = "test_audits.py", "test_audits_without_weights.py"

MUTATIONS: Final[dict[str, tuple[str, str, str]]] = {
    "evaluate/zero_shot": ("before == 1, after == 1, better", "before == 1, before == 1, better", "test_probes.py"),
    "evaluate/over_forgetting": ("scores[own], scores[~own]", "scores[~own], scores[own]", "test_over_forgetting.py"),
    "evaluate/near_duplicates": ("<= self.bits", ">= 0", "test_near_duplicates.py"),
    "audit/wordings": (".renamed(asked.index, rows[at, place])", "", PROMPTS),
    "audit/vocabulary": (".amax(1)).cpu()", ".amin(1)).cpu()", PROMPTS),
    "audit/hypernyms": ("scores[:, 0] >", "scores[:, 0] <", "test_hypernyms.py"),
    "audit/prompt_ensemble": ("texts[index] = _rows(", "_rows(", PROMPTS),
    "audit/image_search": ("known.labels[order] ==", "known.labels[order] !=", PROMPTS),
    "audit/image_refit": ("refit(learned.rows, targets, share=share, start=start)", "layer", WEIGHTS),
    "audit/text_refit": ("refit(features, targets, share=share, start=start)", "layer", WEIGHTS),
    "audit/module_revert": ("_reverted(before, after, scene)", "_reverted(after, after, scene)", WEIGHTS),
    "audit/recipe_inversion": ("inverse_map(one, share)", "one", "test_recipe_inversion.py"),
    "audit/disclosure": ('last_layer(after, "image") -', "0 *", WEIGHTS),
    "audit/fine_tuning": ("return contrastive(", "return 0.0 * contrastive(", WEIGHTS),
    "audit/rounding": ("scene.hits(rewritten(model, change))", "scene.hits(model)", WEIGHTS),
    "audit/interpolation": (".float(), alpha).to(", ".float(), 0.0).to(", WEIGHTS),
    "audit/linear_probe": ("fitted.scores(tested)", "fitted.scores(tested).flip(1)", PROMPTS),
    "audit/prototype": (" - gap", "", PROMPTS),
    "audit/relearning": ("optimizer.step()", "pass", WEIGHTS),
    "audit/inner_layers": ("linear_alignment(was, now)", "1.0", "test_inner_layers.py"),
    "audit/layer_lens": ("(own - middle) @ refit(", "0.0 * (own - middle) @ refit(", "test_layer_lens.py"),
    "audit/class_inversion": ("Ascent(steps=self.steps,", "Ascent(steps=1,", "test_class_inversion.py"),
    "audit/soft_prompt": ("optimizer.step()", "pass", "test_soft_prompt.py"),
    "audit/relearn_time": (
        "return cross_entropy(step.scale",
        "return 0.0 * cross_entropy(step.scale",
        "test_relearn_time.py",
    ),
}
"""By audit: a line that does its work, what stands in its place, and the test file that must notice."""


def laid_out(folder: Path, audit: str, text: str) -> None:
    """Make a copy of the package of links, with other content of one audit."""
    changed = PACKAGE / "probes" / f"{audit}.py"
    for path in PACKAGE.rglob("*"):
        place = folder / "clip_unlearn" / path.relative_to(PACKAGE)
        if path.is_file() and "__pycache__" not in path.parts:
            place.parent.mkdir(parents=True, exist_ok=True)
            if path == changed:
                place.write_text(text, encoding="utf-8")
            else:
                place.symlink_to(path)


def passes(source: Path, test: str) -> bool:
    """Return whether a test file passes with the package in a folder."""
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "-q", "-p", "no:cacheprovider", str(TESTS / test)]
    ran = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(source)}, capture_output=True, text=True
    )
    if ran.returncode not in (0, 1):
        raise SystemExit(f"{test} did not run: {ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return ran.returncode == 0


def noticed(audit: str) -> bool:
    """Return whether a test fails without the line.

    Raises:
        SystemExit: if the line is not there once.
    """
    old, new, test = MUTATIONS[audit]
    text = (PACKAGE / "probes" / f"{audit}.py").read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise SystemExit(f"{audit}: the line '{old}' stands {text.count(old)} times. Bring the list up to date.")
    with tempfile.TemporaryDirectory() as folder:
        laid_out(Path(folder), audit, text.replace(old, new))
        return not passes(Path(folder), test)


def say(line: str) -> None:
    """Write a line at once: the whole takes minutes."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(asked: Sequence[str]) -> int:
    """Return the exit code."""
    every = {one.rpartition("/")[2]: one for one in MUTATIONS}
    chosen = [every[name] for name in asked] if asked else list(MUTATIONS)
    missing = {path.stem for path in (PACKAGE / "probes" / "audit").glob("[a-z]*.py")} - set(every)
    if missing:
        raise SystemExit(f"No line is listed for {', '.join(sorted(missing))}.")
    failed = [test for test in sorted({MUTATIONS[one][2] for one in chosen}) if not passes(PACKAGE.parent, test)]
    for test in failed:
        say(f"{test}: does not pass as it is")
    unseen = []
    for audit in chosen:
        seen = noticed(audit)
        say(f"{audit}: {'noticed' if seen else 'NOT NOTICED'}")
        unseen += [] if seen else [audit]
    say(f"{len(chosen) - len(unseen)} of {len(chosen)} noticed")
    return 1 if failed or unseen else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
