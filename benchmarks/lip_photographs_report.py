"""The table of benchmarks/lip_photographs.py."""


def table(found: dict[str, object]) -> str:
    """Return the results as Markdown."""
    return ""
