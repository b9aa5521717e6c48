"""One record as one page, for people: Markdown and self-contained HTML."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import jinja2

from clip_unlearn.core.record import Record
from clip_unlearn.files import atomic
from clip_unlearn.report import charts, facts, headline, markdown, pictures, words
from clip_unlearn.report.answers import answers
from clip_unlearn.report.results import results

SAMPLES = "samples"
SAMPLES_LIMIT: Final = 48
"""Pictures that are embedded in the page; the folder holds all."""

_LOADER = jinja2.PackageLoader("clip_unlearn.report")


def summarise(record: Record, folder: Path) -> None:
    """Write `summary.md` and `summary.html` into the folder of a run, each whole or not at all.

    Raises:
        StorageError: if the disk refuses.
    """
    atomic.write_text(folder / "summary.md", to_markdown(record))
    atomic.write_text(folder / "summary.html", to_html(record, folder))


def to_markdown(record: Record) -> str:
    """Return the record as one Markdown page; sample pictures are linked relative to it."""
    environment = jinja2.Environment(
        loader=_LOADER,
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=markdown.escape,
    )
    environment.filters.update(code=markdown.code, address=markdown.address)
    return environment.get_template("summary.md.j2").render(_content(record)).strip() + "\n"


def to_html(record: Record, folder: Path) -> str:
    """Return the record as one HTML page without scripts and without requests; pictures come from `folder`/samples."""
    environment = jinja2.Environment(
        loader=_LOADER, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(bars=charts.bars, gauge=charts.gauge, scale=charts.scale)
    content = _content(record)
    return environment.get_template("summary.html.j2").render(content, picture=lambda name: _picture(folder, name))


def _picture(folder: Path, name: str) -> str:
    return pictures.data_uri(folder / SAMPLES, name)


def _content(record: Record) -> Mapping[str, object]:
    measured = results(record)
    sentence = headline.sentence(record, measured)
    return {
        "record": record,
        "model": headline.short(record.origin.base.where),
        "moment": headline.moment(record.created),
        "title": headline.title(record),
        "names": headline.quoted(record.origin.request.forget_names),
        "sentence": sentence[:1].upper() + sentence[1:],
        "results": measured,
        "control": words.CONTROL,
        "recovered": words.RECOVERED,
        "novel": words.NOVEL,
        "sections": facts.sections(record),
        "answers": answers(record, limit=SAMPLES_LIMIT),
        "shows": words.shows(record),
        "limits": words.limits(record),
    }
