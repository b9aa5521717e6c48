"""The part of a page that says what was done, to what, with what, and how to do it again."""

from dataclasses import dataclass
from typing import Final, final

from clip_unlearn.core.disclosure import KINDS
from clip_unlearn.core.record import Record, Setting, Source
from clip_unlearn.report import numbers

SHORT: Final = 12
UNKNOWN: Final = "not recorded"


@final
@dataclass(frozen=True, kw_only=True)
class Fact:
    """A label and a text, or a label and a list; `code` marks what a machine wrote."""

    label: str
    text: str = ""
    items: tuple[str, ...] = ()
    code: str = ""


@final
@dataclass(frozen=True, kw_only=True)
class Section:
    """Facts under one heading."""

    title: str
    facts: tuple[Fact, ...]


def sections(record: Record) -> tuple[Section, ...]:
    """Return what was changed, the request, the settings, the sources and the environment of a record."""
    return (
        Section(title="What was changed", facts=_changed(record)),
        Section(title="What was asked", facts=_asked(record)),
        Section(title=f"Settings of {record.origin.method}", facts=_settings(record)),
        Section(title="Model and data", facts=_sources(record)),
        Section(title="Made with", facts=_made_with(record)),
    )


def _changed(record: Record) -> tuple[Fact, ...]:
    origin = record.origin
    if not origin.touches:
        touched = Fact(label="Changed tensors and outputs", text="none")
    else:
        touched = Fact(
            label="Changed tensors and outputs", text=numbers.whole(len(origin.touches)), items=origin.touches
        )
    portable = (
        "yes, stock libraries open the result" if record.portable else "no, a map beside it belongs to the result"
    )
    return (
        Fact(label="Kind of edit", text=KINDS[record.edit]),
        touched,
        Fact(label="Ordinary checkpoint", text=portable),
        Fact(label="Left of the edit after rounding", text=_share(origin.survived)),
        _fingerprint("Fingerprint before", origin.base.digest),
        _fingerprint("Fingerprint after", record.after.digest),
    )


def _share(share: float) -> str:
    """Return a share that never rounds up to all of it."""
    return "99.9 %" if 0.999 <= share < 0.9999 else f"{100 * share:.1f} %"


def _asked(record: Record) -> tuple[Fact, ...]:
    request = record.origin.request
    forget = tuple(
        f"{concept.name} (also: {', '.join(concept.synonyms)})" if concept.synonyms else concept.name
        for concept in request.forget
    )
    facts = [
        Fact(label="To forget", text=numbers.whole(len(forget)), items=forget),
        Fact(
            label="To keep",
            text=numbers.whole(len(request.retain)) if request.retain else "no names",
            items=request.retain,
        ),
        Fact(label="Sentences", text=numbers.whole(len(request.templates)), items=request.templates),
        Fact(label="Seed", text=str(request.seed)),
        _fingerprint("Digest of the request", request.digest),
    ]
    if request.evidence is None:
        facts.append(Fact(label="Pictures to learn from", text="none, names alone"))
    else:
        facts.append(Fact(label="Pictures to learn from", text=request.evidence.where, code=request.evidence.digest))
    return tuple(facts)


def _settings(record: Record) -> tuple[Fact, ...]:
    settings = tuple(Fact(label=name, text=_setting(value)) for name, value in record.origin.settings.items())
    return settings or (Fact(label="Settings", text="none"),)


def _setting(value: Setting) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_setting(part)}" for name, part in value.items()) or "none"
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value) or "none"
    return "none" if value is None else str(value)


def _sources(record: Record) -> tuple[Fact, ...]:
    facts = _source("Model", record.origin.base)
    if record.data is None:
        return (*facts, Fact(label="Pictures to measure on", text="none"))
    return (*facts, *_source("Pictures to measure on", record.data), *_items(record.data))


def _source(label: str, source: Source) -> tuple[Fact, ...]:
    where = f"{source.where} at {source.revision}" if source.revision else source.where
    return (Fact(label=label, text=where, code=source.digest),)


def _items(source: Source) -> tuple[Fact, ...]:
    return (Fact(label="Number of pictures", text=numbers.whole(source.count)),) if source.count else ()


def _made_with(record: Record) -> tuple[Fact, ...]:
    environment = record.environment
    libraries = tuple(f"{name} {version}" for name, version in sorted(environment.libraries.items()))
    times = tuple(f"{stage}: {numbers.seconds(value)}" for stage, value in record.seconds.items())
    total = numbers.seconds(sum(record.seconds.values()))
    return (
        Fact(label="clip-unlearn", text=environment.package),
        Fact(label="Python", text=environment.python),
        Fact(label="Libraries", text=numbers.whole(len(libraries)) if libraries else UNKNOWN, items=libraries),
        Fact(label="Machine", text=environment.machine or UNKNOWN),
        Fact(label="Device", text=f"{environment.device}, {numbers.whole(environment.threads)} threads"),
        Fact(label="Time", text=total if times else UNKNOWN, items=times),
    )


def _fingerprint(label: str, digest: str) -> Fact:
    return Fact(label=label, text=digest[:SHORT] or UNKNOWN, code=digest)
