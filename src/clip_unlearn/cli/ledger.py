"""`ledger`: removal requests for one base model, and the one patch of all that are live."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clip_unlearn.cli import console
from clip_unlearn.cli.flags import settings_of, stay_offline
from clip_unlearn.cli.options import (
    ForceOption,
    ForgetOption,
    JsonOption,
    OfflineOption,
    RetainOption,
    SetOption,
    TemplatesOption,
)

if TYPE_CHECKING:
    from clip_unlearn.core.ledger import Entry, Ledger

LedgerArgument = Annotated[Path, typer.Argument(help="File of the ledger, for example requests.jsonl.")]
MovedOption = Annotated[
    str | None, typer.Option("--model", help="Where the base model is now, if not where it was when created.")
]

app = typer.Typer(help="Removal requests for one model: add, undo, and one patch of all.", no_args_is_help=True)


@app.command()
def create(
    ledger: LedgerArgument,
    model: Annotated[str, typer.Option("--model", help="Folder, hub id, openclip:NAME,WEIGHTS, or sandbox.")],
    method: Annotated[str, typer.Option("--method", help="Method; see 'ls methods'.")] = "redirect",
    settings: SetOption = None,
    retain: RetainOption = None,
    other_names: Annotated[
        Literal["auto", "wordnet", "none"], typer.Option("--other-names", help="Where other names come from.")
    ] = "auto",
    templates: TemplatesOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random in the method.")] = 0,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Create a ledger for one base model; what all its requests share is fixed here."""
    _go_offline(offline)
    from clip_unlearn import methods
    from clip_unlearn.core.config import build
    from clip_unlearn.runs import ledger_patch

    chosen = build(methods.find(method), settings_of(settings or []), where=f"method {method}")
    made = ledger_patch.create(
        ledger,
        model,
        method=chosen,
        retain=_names(retain),
        other_names=other_names,
        template=templates or "photo",
        seed=seed,
    )
    if as_json:
        console.show_json(made.header.model_dump(mode="json"))
        return
    base = made.header.base
    console.show(f"ledger  {ledger}  for {base.where} ({base.digest[:12]}), method {made.header.method}")
    console.show(f"head    {made.head}")


@app.command()
def add(
    ledger: LedgerArgument,
    forget: ForgetOption = None,
    request_id: Annotated[str, typer.Option("--id", help="Id of the request; made from the names if not given.")] = "",
    note: Annotated[str, typer.Option("--note", help="One line for the record, such as who asked.")] = "",
    retain: RetainOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a request to forget; one line is appended to the ledger."""
    from clip_unlearn.runs import ledger as runs

    entry = runs.add(ledger, _names(forget), request_id=request_id, note=note, retain=_names(retain))
    _show_entry(entry, "added", as_json=as_json)


@app.command()
def undo(
    ledger: LedgerArgument,
    request_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the request to undo.")],
    reason: Annotated[str, typer.Option("--reason", help="One line for the record.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Undo a request, whichever: the next patch is as if it had never been made."""
    from clip_unlearn.runs import ledger as runs

    entry = runs.undo(ledger, request_id, reason=reason)
    _show_entry(entry, "undone", as_json=as_json)


@app.command(name="list")
def list_requests(
    ledger: LedgerArgument,
    as_json: JsonOption = False,
    everything: Annotated[bool, typer.Option("--all", help="Undone requests too.")] = False,
) -> None:
    """List the live requests, in the order of adding."""
    from clip_unlearn.core.ledger_file import read

    known = read(ledger)
    shown = [_request(known, one) for one in known.added if everything or one not in known.undone]
    if as_json:
        console.show_json(shown)
        return
    rows = [(one["id"], one["added"], one["state"], ", ".join(one["forget"]), one["note"]) for one in shown]
    title = f"{known.header.base.where}: {len(known.live)} live, {len(known.undone)} undone"
    console.show_rows(title, ("id", "added", "state", "forget", "note"), rows)


@app.command()
def show(
    ledger: LedgerArgument,
    request_id: Annotated[
        str, typer.Argument(metavar="[ID]", help="Id of a request; without it, what all requests share.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Show one request, live or undone; without an id, what all requests share."""
    from clip_unlearn.core.ledger_file import read

    known = read(ledger)
    found = _request(known, request_id.casefold()) if request_id else _header(known)
    if as_json:
        console.show_json(found)
        return
    for name, value in found.items():
        text = ", ".join(value) if isinstance(value, list) else value
        if text:
            console.show(f"{name:<12}{text}")


@app.command()
def compose(
    ledger: LedgerArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder for the patch.")],
    model: MovedOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Make one patch of all live requests, computed anew."""
    _go_offline(offline)
    from clip_unlearn.runs import ledger_patch

    with console.progress():
        patch, manifest = ledger_patch.compose(ledger, out, model=model, force=force)
    if as_json:
        console.show_json({**manifest.model_dump(mode="json"), "patch": str(out), "reason": patch.reason})
        return
    concepts = 0 if patch.origin is None else len(patch.origin.request.forget)
    console.show(f"patch   {out}  (live requests: {len(manifest.live)}, things forgotten: {concepts})")
    if patch.reason:
        console.show(f"empty   {patch.reason}")
    if manifest.overruled:
        console.show(f"not retained, because a request forgets it:  {', '.join(manifest.overruled)}")
    console.show(f"head    {manifest.head}")


@app.command()
def verify(
    ledger: LedgerArgument,
    patch: Annotated[
        Path | None, typer.Option("--patch", help="Patch folder or baked checkpoint to recompute and compare.")
    ] = None,
    head: Annotated[str, typer.Option("--head", help="Hash noted earlier, which must still be in the ledger.")] = "",
    model: MovedOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check that nothing in a ledger was changed, and that a patch is what it composes."""
    _go_offline(offline)
    from clip_unlearn.runs import ledger as runs

    known, recomputed = runs.verify(ledger, head=head), ""
    if patch is not None:
        from clip_unlearn.runs.ledger_verify import verify_patch

        with console.progress():
            recomputed = verify_patch(known, patch, model=model)
    found = {"entries": len(known.entries), "live": len(known.live), "recomputed": recomputed, "head": known.head}
    if as_json:
        console.show_json(found)
        return
    console.show(f"sound   {ledger}  (entries: {len(known.entries)}, live requests: {len(known.live)})")
    if recomputed:
        console.show(f"equal   {patch}: this {recomputed} is what the ledger composes, byte by byte")
    console.show(f"head    {known.head}")


def _go_offline(offline: bool) -> None:
    stay_offline(offline)


def _names(given: list[str] | None) -> list[str]:
    """Return the names given on the command line, with those of a file in place of the file."""
    from clip_unlearn.data.names import read_names

    return [one for text in given or [] for one in read_names(text)]


def _show_entry(entry: "Entry", done: str, *, as_json: bool) -> None:
    if as_json:
        console.show_json(entry.model_dump(mode="json"))
        return
    console.show(f"{done:<8}{entry.request_id}  (entry {entry.sequence})")
    console.show(f"head    {entry.hash}")


def _request(ledger: "Ledger", request_id: str) -> dict[str, Any]:
    """Return what a ledger knows about one request, in the order of showing."""
    request, added, undone = ledger.find(request_id), ledger.added[request_id], ledger.undone.get(request_id)
    return {
        "id": request.id,
        "state": "live" if undone is None else "undone",
        "added": added.time,
        "forget": [" | ".join(concept.names) for concept in request.concepts],
        "retain": list(request.retain),
        "note": request.note,
        "undone": "" if undone is None else undone.time,
        "reason": "" if undone is None else ledger.reason(request_id),
    }


def _header(ledger: "Ledger") -> dict[str, Any]:
    """Return what all requests of a ledger share, in the order of showing."""
    header = ledger.header
    return {
        "model": f"{header.base.where} {header.base.revision}".strip(),
        "weights": header.base.digest,
        "method": header.method,
        "settings": [f"{name}={value}" for name, value in header.settings.items()],
        "templates": list(header.templates),
        "retain": list(header.retain),
        "background": [f"{len(header.background)} names"],
        "other names": header.other_names,
        "seed": str(header.seed),
        "created": ledger.entries[0].time,
        "live": str(len(ledger.live)),
        "undone": str(len(ledger.undone)),
        "head": ledger.head,
    }
