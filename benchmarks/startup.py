"""Time how long importing the package and `clip-unlearn --help` take, against bare Python.

    python benchmarks/startup.py

Median of eleven fresh processes each, after one warm-up; goals: import within 0.2 s of bare Python, help within 0.6 s.
"""

import statistics
import subprocess
import sys
import time

RUNS = 11
COMMANDS = {
    "bare Python": ["-c", "pass"],
    "import clip_unlearn": ["-c", "import clip_unlearn"],
    "clip-unlearn --help": ["-m", "clip_unlearn", "--help"],
}


def seconds(arguments: list[str]) -> list[float]:
    """Return the wall times of fresh processes."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return times[1:]


def main() -> None:
    """Print the median, least and greatest time of each command."""
    for name, arguments in COMMANDS.items():
        times = seconds(arguments)
        shown = f"{statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f}), n = {len(times)}"
        sys.stdout.write(f"{name}: {shown}\n")


if __name__ == "__main__":
    main()
