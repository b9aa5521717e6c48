"""`export` and `reembed` as a user runs them, with stock libraries on the other side."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import main

from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Record
from clip_unlearn.data.open import open_data
from clip_unlearn.maths.lowrank import LowRank
from clip_unlearn.models.open import open_model

peft = pytest.importorskip("peft")

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

FAMILIES = ("sandbox", "sandbox-conv", "sandbox-openclip")
NAMES = ("mug", "bowl", "car", "cat")
SENTENCES = tuple(f"a photo of a {name}." for name in NAMES)


def forgotten(family: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forget mugs from names alone and return the patch folder."""
    assert main(monkeypatch, "forget", "--model", family, "--forget", "mug", "--out", str(folder / "run")) == 0
    return folder / "run" / "patch"


def random_edit(family: str, folder: Path) -> Path:
    """Write a random low-rank change of both last layers as a patch folder, and return it."""
    model, draw = open_model(family), torch.Generator().manual_seed(7)
    deltas = {}
    for tower, rank in (("image", 2), ("text", 3)):
        readout = model.readout(tower)
        assert readout is not None
        rows, columns = model.weights[readout.weight].shape
        left, right = torch.randn(rows, rank, generator=draw), torch.randn(rank, columns, generator=draw)
        deltas[readout.weight] = LowRank(left=0.1 * left, right=right)
    Patch(deltas=deltas).save_pretrained(folder / "random")
    return folder / "random"


def pictures() -> list[Any]:
    images = open_data("sandbox:photo")
    return [images.picture(index) for index in range(0, len(images), len(images) // 12)]


@torch.no_grad()
def logits(family: str, module: Any, folder: Path) -> torch.Tensor:
    """Return a module's own logits, with the tokenizer and preprocessing of a checkpoint folder."""
    if family == "sandbox-openclip":
        import open_clip

        where = f"local-dir:{folder}"
        transform = open_clip.create_model_and_transforms(where, precision="fp32")[2]
        pixels = torch.stack([transform(picture) for picture in pictures()])
        images = module.encode_image(pixels, normalize=True)
        texts = module.encode_text(open_clip.get_tokenizer(where)(list(SENTENCES)), normalize=True)
        found: torch.Tensor = module.logit_scale.exp() * images @ texts.T
        return found
    import transformers

    tokens = transformers.AutoTokenizer.from_pretrained(folder)(list(SENTENCES), padding=True, return_tensors="pt")
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)(images=pictures(), return_tensors="pt")
    mine: torch.Tensor = module(**tokens, **pixels).logits_per_image
    return mine


def stock(family: str, folder: Path, *, separate_text: bool = False) -> Any:
    """Open a checkpoint folder with its own library, no code of ours."""
    if family == "sandbox-openclip":
        import open_clip

        where = f"local-dir:{folder}"
        module = open_clip.create_model_and_transforms(where, precision="fp32", force_custom_text=separate_text)[0]
    else:
        import transformers

        kind = transformers.CLIPModel if family == "sandbox" else transformers.VisionTextDualEncoderModel
        module = kind.from_pretrained(folder, dtype=torch.float32)
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("edit", ["project", "random on both sides"])
def test_adapter_and_checkpoint_are_the_same_edit(
    family: str, edit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = forgotten(family, tmp_path, monkeypatch) if edit == "project" else random_edit(family, tmp_path)
    own = "open_clip" if family == "sandbox-openclip" else "hf"
    for to in ("peft", own):
        out = str(tmp_path / to)
        assert main(monkeypatch, "export", "--patch", str(patch), "--model", family, "--to", to, "--out", out) == 0
    base = tmp_path / "peft" / "base"
    original = logits(family, stock(family, base, separate_text=True), base)
    baked = logits(family, stock(family, tmp_path / own), tmp_path / own)
    model = peft.PeftModel.from_pretrained(stock(family, base, separate_text=True), tmp_path / "peft")
    edited = logits(family, model, base)
    assert float((edited - baked).abs().max()) <= 1e-4
    assert float((edited - original).abs().max()) > 0.1
    with model.disable_adapter():
        assert torch.equal(logits(family, model, base), original)
    merged = logits(family, model.merge_and_unload(), base)
    assert float((merged - baked).abs().max()) <= 1e-4


def test_the_named_base_model_is_found_from_the_adapter_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch = forgotten("sandbox", tmp_path, monkeypatch)
    out = tmp_path / "peft"
    assert main(monkeypatch, "export", "--patch", str(patch), "--to", "peft", "--out", str(out)) == 0
    found = logits("sandbox", peft.AutoPeftModel.from_pretrained(out, dtype=torch.float32).eval(), out / "base")
    model = open_model("sandbox")
    pixels = model.adapter.prepare(pictures())
    wanted = Patch.from_pretrained(patch).apply(model).logits(pixels, SENTENCES)
    assert float((found - wanted).abs().max()) <= 1e-4


@pytest.mark.parametrize(("family", "to"), [("sandbox", "open_clip"), ("sandbox-openclip", "hf")])
def test_the_other_library_has_the_same_logits(
    family: str, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = random_edit(family, tmp_path)
    arguments = ["--patch", str(patch), "--model", family, "--out", str(tmp_path / "out")]
    assert main(monkeypatch, "export", "--to", to, *arguments) == 0
    model, other = open_model(family), open_model(tmp_path / "out")
    edited = Patch.from_pretrained(patch).apply(model)
    pixels = model.adapter.prepare(pictures())
    found = other.logits(pixels, SENTENCES)
    assert float((found - edited.logits(pixels, SENTENCES)).abs().max()) <= 1e-4
    assert float((found - model.logits(pixels, SENTENCES)).abs().max()) > 0.1


FORMS = [(family, to) for family in FAMILIES for to in ("peft", "hf", "open_clip")]
FORMS.remove(("sandbox-conv", "open_clip"))  # refused, see below


@pytest.mark.parametrize(("family", "to"), FORMS)
def test_the_lines_on_the_card_work(family: str, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch = random_edit(family, tmp_path)
    arguments = ["--patch", str(patch), "--model", family, "--out", str(tmp_path / "out")]
    assert main(monkeypatch, "export", "--to", to, *arguments) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    snippet = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert snippet is not None
    shown = f"{snippet[1]}\nprint('opened', type(model).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", shown], cwd=tmp_path / "out", capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "opened " in done.stdout
    assert "## What still leaks" in card


def test_the_record_says_which_edit_and_what_leaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch = forgotten("sandbox", tmp_path, monkeypatch)
    record = Record.load(patch.parent / "record.json")
    assert record.edit == "suppress"
    assert record.origin.reach is not None
    assert (record.origin.reach.towers, record.origin.reach.depth) == (("image",), "readout")
    summary = (patch.parent / "summary.md").read_text()
    page = (patch.parent / "summary.html").read_text()
    assert len(record.leaks) >= 6
    for line in record.leaks:
        assert line[:40] in summary.replace("\\", "")
        assert line[:40] in page
    assert "Kind of edit: suppress" in summary
    assert all(line in (patch / "README.md").read_text() for line in record.leaks)


def test_results_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    patch = forgotten("sandbox", tmp_path, monkeypatch)
    capsys.readouterr()
    out = str(tmp_path / "out")
    assert main(monkeypatch, "export", "--patch", str(patch), "--to", "peft", "--out", out, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["form"], told["edit"], told["where"], told["missed"]) == ("peft", "suppress", out, 0.0)
    assert told["digest"] == Record.load(patch.parent / "record.json").after.digest
    np.save(tmp_path / "in.npy", np.eye(64, dtype=np.float32))
    stored = ["--embeddings", str(tmp_path / "in.npy"), "--out", str(tmp_path / "out.npy")]
    assert main(monkeypatch, "reembed", "--patch", str(patch), *stored, "--json") == 0
    (part,) = json.loads(capsys.readouterr().out)["parts"]
    assert part == {
        "name": "in.npy",
        "side": "image",
        "rows": 64,
        "width": 64,
        "dtype": "float32",
        "normalised": True,
        "null": 0,
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_stored_embeddings_find_as_the_edited_model_does(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = forgotten(family, tmp_path, monkeypatch)
    model = open_model(family)
    with torch.no_grad():
        pixels = model.adapter.prepare(pictures())
        before = torch.nn.functional.normalize(model.images(pixels), dim=-1)
        wanted = torch.nn.functional.normalize(Patch.from_pretrained(patch).apply(model).images(pixels), dim=-1)
    np.save(tmp_path / "in.npy", before.numpy())
    stored = ["--embeddings", str(tmp_path / "in.npy"), "--out", str(tmp_path / "out.npy")]
    assert main(monkeypatch, "reembed", "--patch", str(patch), *stored) == 0
    found = torch.from_numpy(np.load(tmp_path / "out.npy"))
    assert float((found - wanted).abs().max()) <= 1e-4
    assert float((found - before).abs().max()) > 0.1
