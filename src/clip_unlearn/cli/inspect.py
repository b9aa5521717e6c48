"""`ls`, `validate` and `doctor`: what there is, and whether it is sound."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from clip_unlearn.cli import console
from clip_unlearn.cli.options import JsonOption
from clip_unlearn.errors import UnknownNameError, nearest

KINDS = ("methods", "models", "probes", "datasets")


def ls(
    what: Annotated[str, typer.Argument(help="methods, models, probes or datasets.")],
    name: Annotated[str | None, typer.Argument(help="One of them, to see its settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List methods, models, probes or datasets; with a name, the settings of one."""
    if what not in KINDS:
        raise UnknownNameError(f"Cannot list '{what}'.{nearest(what, KINDS)} Known: {', '.join(KINDS)}.")
    if name is not None and what in ("methods", "probes"):
        _show_settings(what, name, as_json=as_json)
        return
    rows = _listing(what)
    if as_json:
        console.show_json([{"name": first, "about": second} for first, second in rows])
    else:
        console.show_rows(what, ("name", "about"), rows)


def validate(
    recipe: Annotated[Path, typer.Argument(help="Recipe file.")],
    as_json: JsonOption = False,
) -> None:
    """Check a recipe without opening the model or the data."""
    from clip_unlearn.runs.plan import make_method, make_probes, make_request
    from clip_unlearn.runs.recipe import Recipe

    loaded = Recipe.load(recipe)
    make_request(loaded)
    make_method(loaded)
    make_probes(loaded.probes, loaded.data)
    if as_json:
        console.show_json(loaded.model_dump(mode="json", by_alias=True))
    else:
        console.show(f"{recipe} is valid")


def doctor(as_json: JsonOption = False) -> None:
    """Show what is installed and cached."""
    from clip_unlearn.runs.doctor import examine

    findings = examine()
    if as_json:
        console.show_json(findings)
        return
    for title, rows in findings.items():
        console.show_rows(title, ("", "found"), list(rows.items()))


def _listing(what: str) -> list[tuple[str, str]]:
    from clip_unlearn import methods, probes
    from clip_unlearn.data.open import SOURCES
    from clip_unlearn.models.open import SOURCES as MODELS

    if what == "models":
        return list(MODELS.items())
    if what == "datasets":
        return list(SOURCES.items())
    package = methods if what == "methods" else probes
    return [(name, _first_line(package.find(name))) for name in package.names()]


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _show_settings(what: Literal["methods", "probes"] | str, name: str, *, as_json: bool) -> None:
    from clip_unlearn import methods, probes

    kind = methods.find(name) if what == "methods" else probes.find(name)
    if as_json:
        console.show_json(kind.model_json_schema())
        return
    console.show(f"{name}\n\n{kind.__doc__}")
    rows = [
        (field, str(info.default), " ".join((info.description or "").split()))
        for field, info in kind.model_fields.items()
    ]
    console.show_rows("settings", ("name", "default", "about"), rows)
