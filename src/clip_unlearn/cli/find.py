"""`find`: which images show a concept, with the model as the filter."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_unlearn.cli import console
from clip_unlearn.cli.flags import stay_offline
from clip_unlearn.cli.options import DeviceOption, ForceOption, JsonOption, ModelOption, OfflineOption, TemplatesOption
from clip_unlearn.errors import SettingError

if TYPE_CHECKING:
    from clip_unlearn.runs.found import Finding, Share, Truth


def find(
    model: ModelOption = None,
    name: Annotated[str | None, typer.Option("--name", help="What to look for: 'name | synonym'.")] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Images to look at: folder, Parquet, CSV, shards, or sandbox.")
    ] = None,
    others: Annotated[
        list[str] | None, typer.Option("--not", help="Name of what it is not, or a file. Repeatable.")
    ] = None,
    background: Annotated[
        str | None, typer.Option("--background", help="What else to tell it apart from: nouns or none.")
    ] = None,
    templates: TemplatesOption = None,
    precision: Annotated[
        float | None, typer.Option("--precision", help="Least expected precision of what is chosen; 0.9 if not given.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Most images to choose.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for list, contact sheet and find.json.")] = Path(
        "out/find"
    ),
    device: DeviceOption = None,
    offline: OfflineOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the images that show a concept, without labels; the output folder can be used as --evidence."""
    stay_offline(offline)
    if model is None:
        raise SettingError("No model. Give one with --model, for example --model sandbox.")
    if name is None:
        raise SettingError("No name. Give what to look for with --name, for example --name 'dog | puppy'.")
    if data is None:
        raise SettingError("No data. Give the images to look at with --data, for example --data photos/.")
    from clip_unlearn.core.config import build
    from clip_unlearn.data.names import parse_concept, read_names
    from clip_unlearn.runs import find as run
    from clip_unlearn.runs.found import FindOrder

    given: dict[str, Any] = {
        "background": background,
        "templates": templates,
        "precision": precision,
        "limit": limit,
    }
    values = {
        "model": {"id": model, "offline": offline, **({} if device is None else {"device": device})},
        "name": parse_concept(name),
        "data": data,
        "others": tuple(one for text in others or () for one in read_names(text)),
        **{field: value for field, value in given.items() if value is not None},
    }
    with console.progress():
        finding = run.find(build(FindOrder, values, where="find"), out, force=force)
    if as_json:
        console.show_json(finding.model_dump(mode="json"))
    else:
        _show(finding, out)


def _show(finding: "Finding", out: Path) -> None:
    counts, expected = finding.counts, finding.expected
    also = f" (found: {', '.join(finding.concept.found)})" if finding.concept.found else ""
    console.show(f"looked for  {' | '.join(finding.order.name.names)}{also}")
    console.show(f"in          {counts.readable} images of {finding.data.where}, against {finding.names} other names")
    console.show(f"chosen      {counts.chosen}, with a probability of at least {finding.threshold:.3f}")
    console.show(
        f"expected    {100 * expected.wrong:.1f} % of them wrong; {100 * expected.missed:.1f} % missed of "
        f"{expected.images:.0f} that show it"
    )
    if finding.truth is not None:
        _show_truth(finding.truth)
    console.show_rows(
        "other names that come closest; the same thing goes into --name 'a | b', what must not be chosen into --not",
        ("name", "among the chosen", "refused because of it"),
        [[rival.name, str(rival.chosen), str(rival.refused)] for rival in finding.rivals],
    )
    console.show(f"as data     {counts.labelled_other} as other names, {counts.between} left out as uncertain")
    console.show(f"to look at  {out / 'contact.png'}")
    console.show(f"list        {out / 'forget-set.csv'}")
    console.show(f"evidence    {out}")


def _show_truth(truth: "Truth") -> None:
    precision, recall = _share(truth.precision), _share(truth.recall)
    console.show(f"by {truth.by:<8} precision {precision}, recall {recall}, AP {truth.average_precision:.3f}")


def _share(share: "Share") -> str:
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f}, n={share.count})"
