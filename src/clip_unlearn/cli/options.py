"""Options that several commands have, with the same help everywhere."""

from pathlib import Path
from typing import Annotated

import typer

ModelOption = Annotated[str | None, typer.Option("--model", help="Folder, hub id, openclip:NAME,WEIGHTS, or sandbox.")]
ForgetOption = Annotated[
    list[str] | None, typer.Option("--forget", help="Name to forget, 'name | synonym', or a file. Repeatable.")
]
RetainOption = Annotated[list[str] | None, typer.Option("--retain", help="Name to retain, or a file. Repeatable.")]
OtherNamesOption = Annotated[
    str | None, typer.Option("--other-names", help="Other names to forget too: auto, wordnet or none.")
]
BackgroundOption = Annotated[str | None, typer.Option("--background", help="What else to hold: nouns or none.")]
MethodOption = Annotated[str | None, typer.Option("--method", help="Method; see 'ls methods'.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Method setting key=value or table.key=value. Repeatable."),
]
BudgetOption = Annotated[
    float | None,
    typer.Option(
        "--budget", help="Points of retained accuracy that a setting given as 'auto' may cost; 1 if not given."
    ),
]
DataOption = Annotated[
    str | None, typer.Option("--data", help="Images to measure on: folder, Parquet, CSV, shards, or sandbox.")
]
EvidenceOption = Annotated[
    str | None, typer.Option("--evidence", help="Images to learn from; the stop part of --data if not given.")
]
OtherDataOption = Annotated[
    list[str] | None, typer.Option("--other-data", help="Other labelled images, which should not suffer. Repeatable.")
]
SplitOption = Annotated[str | None, typer.Option("--split", help="Part of the data: all, stop, select or audit.")]
TemplatesOption = Annotated[
    str | None, typer.Option("--templates", help="Template set, file, or one sentence with {}.")
]
ProbeOption = Annotated[list[str] | None, typer.Option("--probe", help="What to measure; see 'ls probes'. Repeatable.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of everything random in the method.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="Where to compute: cpu, cuda, ...")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never open a connection.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the output folder.")]
RecipeOption = Annotated[Path | None, typer.Option("--recipe", help="YAML recipe; flags override it.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
