"""Choose the defaults of `ccup` and `redirect`: a sweep on training pictures, disjoint from what is reported.

    python benchmarks/closed_form_sweep.py --yardsticks FOLDER

lit-minilm on caltech101-train and cifar100-train, 30 classes each and all classes with a name in TUNING; other data:
the other data set and tiny-imagenet. The names in TUNING are disjoint from the held-out names that
`closed_forms.py` reports. Results: benchmarks/results/closed_form_sweep.{json,md}.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from closed_forms import Bed, groups_of, remembering, request_for, targets
from closed_forms_report import after, changes, mean, spread

from clip_unlearn.core.method import Method
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.answers import answers, class_texts
from clip_unlearn.data.open import open_data
from clip_unlearn.files import atomic
from clip_unlearn.methods.ccup import Ccup
from clip_unlearn.methods.redirect import Redirect
from clip_unlearn.models.open import open_model

RESULTS = Path(__file__).parent / "results"
TUNING = {
    "caltech101": {
        "airplane": ("plane", "jet"),
        "binoculars": ("spyglasses",),
        "camera": ("photographic camera", "digital camera"),
        "cannon": ("howitzer",),
        "chair": ("seat",),
        "cup": ("drinking cup",),
        "elephant": ("tusker",),
        "ferry": ("ferry boat",),
        "headphones": ("headset",),
        "helicopter": ("copter",),
        "laptop": ("macbook", "portable computer"),
        "leopard": ("panther",),
        "motorbike": ("motorcycle",),
        "pizza": ("pizza pie",),
        "revolver": ("six-shooter", "pistol"),
        "rooster": ("cock",),
        "soccer ball": ("football",),
        "stop sign": ("traffic sign",),
        "umbrella": ("brolly",),
        "cell phone": ("cellular phone", "smartphone"),
        "grand piano": ("piano",),
        "electric guitar": ("guitar",),
        "wooden barrel": ("keg",),
        "crocodile": ("croc",),
        "wristwatch": ("wrist watch",),
    },
    "cifar100": {
        "bicycle": ("pushbike", "cycle"),
        "bus": ("omnibus",),
        "couch": ("settee",),
        "house": ("home",),
        "man": ("guy",),
        "motorcycle": ("motorbike",),
        "oak tree": ("oak",),
        "pickup truck": ("pickup",),
        "streetcar": ("trolley car",),
        "sweet pepper": ("bell pepper",),
        "tank": ("armored tank",),
        "telephone": ("landline phone",),
        "television": ("television set",),
        "train": ("railway train",),
        "turtle": ("sea turtle",),
        "wolf": ("timber wolf",),
        "baby": ("newborn",),
        "maple tree": ("maple",),
        "palm tree": ("palm",),
        "girl": ("little girl",),
        "forest": ("woods",),
        "mountain": ("mount",),
        "road": ("street",),
        "clock": ("alarm clock",),
        "bottle": ("flask",),
        "lawn mower": ("mower",),
        "keyboard": ("computer keyboard",),
        "castle": ("chateau",),
    },
}
"""Other names to choose the defaults with, by data set and class."""

METHODS: dict[str, Method] = {
    **{
        f"redirect: strength {strength}, retain {retain:g}, background {background:g}": Redirect(
            strength=strength, retain_weight=retain, background_weight=background
        )
        for retain, background in ((10, 3), (100, 3), (1000, 1), (1000, 3), (1000, 10))
        for strength in (1.0, 1.3, 1.6)
    },
    "redirect: by rule (default)": Redirect(),
    "redirect: by rule, one direction per name": Redirect(pool="name"),
    "redirect: by rule, destination empty": Redirect(destination="empty"),
    **{
        f"ccup: forget {forget:g}, retain {retain:g}, background {background:g}": Ccup(
            forget_weight=forget, retain_weight=retain, background_weight=background
        )
        for forget, retain, background in ((100, 1, 3), (100, 10, 3), (1e4, 10, 3), (1e6, 100, 3), (1e6, 1000, 10))
    },
    "ccup: defaults": Ccup(),
    "ccup: defaults, convention C": Ccup(convention="C"),
}


def open_bed(folder: Path, own: str, others: tuple[str, ...]) -> Bed:
    """Return lit-minilm with the training pictures of a data set."""
    model = remembering(open_model(folder / "models" / "lit-minilm"))
    images = open_data(str(folder / "data" / f"{own}-train.parquet"))
    request = Request(forget=(Concept(name=images.classes[0]),))
    sets = [open_data(str(folder / "data" / f"{other}-test.parquet")) for other in others]
    return Bed(
        model=model,
        images=images,
        known=answers(model, images, request),
        others=tuple((one, answers(model, one, request)) for one in sets),
        evidence=None,
        synonyms={name: names for name, names in TUNING[own].items() if name in images.classes},
    )


def one(bed: Bed, method: Method, index: int) -> dict[str, object]:
    """Return counts of one class, with its tuning names unknown to thesaurus and background."""
    name = bed.images.classes[index]
    names = bed.synonyms.get(name, ())
    patch = method.forget(bed.model, request_for(bed, [index], without=names))
    row: dict[str, object] = {"class": name, "held-out names": {}} | groups_of(bed, patch, [index])
    if not names:
        return row
    own, map_ = bed.known.labels == index, patch.outputs["image"]
    later = replace(bed.known, embeddings=map_(bed.known.embeddings))
    asked = {}
    for other, text in zip(names, class_texts(bed.model, Request(forget=(Concept(name=name),)), names), strict=True):
        was, now = (found.renamed(index, text).ranks[own] == 1 for found in (bed.known, later))
        if was.float().mean() >= 0.3:
            asked[other] = {"n": int(own.sum()), "before": int(was.sum()), "after": int(now.sum())}
    row["held-out names"] = asked
    return row


def line(label: str, rows: list[dict[str, object]]) -> str:
    """Return one line of the table."""
    from closed_forms_report import held_out

    other = held_out(rows)
    return (
        f"| {label} | {mean(after(rows, 'forget')):.2f} | {mean(other):.2f}; "
        f"{sum(value > 10 for value in other)}/{len(other)} | {spread(changes(rows, 'rest'))} | "
        f"{spread(changes(rows, 'neighbours'))} | {spread(changes(rows, 'other data'))} | "
        f"{mean([float(str(row['AUC'])) for row in rows]):.2f} |"
    )


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yardsticks", type=Path, required=True)
    folder = parser.parse_args().yardsticks
    found: dict[str, dict[str, list[dict[str, object]]]] = {}
    lines = ["# Choosing the defaults of the closed forms", "", *(__doc__ or "").split("\n\n")[2:3], ""]
    for own, others in (("caltech101", ("cifar100", "tiny-imagenet")), ("cifar100", ("caltech101", "tiny-imagenet"))):
        bed = open_bed(folder, own, others)
        found[own] = {label: [one(bed, method, index) for index in targets(bed)] for label, method in METHODS.items()}
        lines += [f"## lit-minilm, {own}-train", ""]
        lines += [
            "| settings | forget, % | tuning names, %; classes above 10 % | rest, pt | 5 neighbours, pt "
            "| other data, pt | AUC |",
            "|---|---|---|---|---|---|---|",
            *(line(label, rows) for label, rows in found[own].items()),
            "",
        ]
    atomic.write_json(RESULTS / "closed_form_sweep.json", found)
    atomic.write_text(RESULTS / "closed_form_sweep.md", "\n".join(lines))
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
