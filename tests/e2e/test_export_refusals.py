"""Wrong input to `export` and `reembed`: exit code 2, one line that names the way out, and nothing written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import main

from clip_unlearn.core.patch import Patch
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.lowrank import LowRank
from clip_unlearn.models.open import open_model


def export_args(*more: str, to: str = "peft") -> list[str]:
    return ["export", "--to", to, "--out", "out", *more]


def reembed_args(*more: str, embeddings: str = "in.npy", out: str = "out.npy") -> list[str]:
    return ["reembed", "--embeddings", embeddings, "--out", out, *more]


DENSE = ["--patch", "dense", "--model", "sandbox"]
IMAGE = ["--patch", "image", "--model", "sandbox"]

BAD: dict[str, tuple[list[str], str]] = {
    "unknown form": (export_args(*IMAGE, to="onnx"), "Known: peft, hf, open_clip"),
    "misspelt form": (export_args(*IMAGE, to="openclip"), "Did you mean 'open_clip'"),
    "no patch": (export_args("--patch", "nowhere"), "Patch nowhere"),
    "patch without a base": (export_args("--patch", "image"), "--model"),
    "patch for another model": (export_args("--patch", "image", "--model", "sandbox-conv"), "shape"),
    "dense change as an adapter": (export_args(*DENSE), "--rank N"),
    "rank of nothing": (export_args(*DENSE, "--rank", "0"), "--rank 0"),
    "rank of a checkpoint": (export_args(*DENSE, "--rank", "4", to="hf"), "--rank 4"),
    "change of a layer norm as an adapter": (export_args("--patch", "norm", "--model", "sandbox"), "stock adapter"),
    "dual encoder to open_clip": (
        export_args("--patch", "dual", "--model", "sandbox-conv", to="open_clip"),
        "VisionTextDualEncoderModel",
    ),
    "map beside the weights to hf": (export_args("--patch", "offset", "--model", "sandbox", to="hf"), "no weight"),
    "used output folder": (["export", "--to", "peft", "--out", "full", *IMAGE], "--force"),
    "output is a file": (["export", "--to", "peft", "--out", "in.npy", *IMAGE], "is a file"),
    "no embeddings": (reembed_args(*IMAGE, embeddings="nowhere.npy"), "does not exist"),
    "embeddings of another width": (reembed_args(*IMAGE, embeddings="wide.npy"), "the model makes 64"),
    "embeddings that are no array": (reembed_args(*IMAGE, embeddings="bad.npy"), "not a sound .npy"),
    "embeddings of an unknown kind": (reembed_args(*IMAGE, embeddings="in.csv"), "neither .npy nor .parquet"),
    "a number that is none": (reembed_args(*IMAGE, embeddings="nan.npy"), "row 1 holds NaN"),
    "output is the input": (reembed_args(*IMAGE, out="in.npy"), "is the input"),
    "output exists": (reembed_args(*IMAGE, out="bad.npy"), "--force"),
    "column of an array": (reembed_args(*IMAGE, "--column", "x"), "--column"),
    "unknown side": (reembed_args(*IMAGE, "--side", "audio"), "--side"),
    "side that is not edited": (reembed_args(*IMAGE, "--side", "text"), "nothing to map"),
    "edit below the last layer": (reembed_args("--patch", "norm", "--model", "sandbox"), "Embed the images again"),
    "dense edit of other features": (reembed_args(*DENSE), "Embed the images again"),
    "offset on normalised embeddings": (reembed_args("--patch", "offset", "--model", "sandbox"), "offset"),
    "folder without embeddings": (reembed_args(*IMAGE, embeddings="full"), "img_emb"),
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with patches and embeddings of every kind."""
    folder, draw = tmp_path_factory.mktemp("bad"), torch.Generator().manual_seed(0)
    random = {"generator": draw}
    dual = LowRank(left=torch.randn(64, 1, **random), right=torch.randn(1, 384, **random))
    offset = AffineMap(down=torch.randn(64, 1, **random), up=torch.randn(1, 64, **random), offset=torch.ones(64))
    weight = open_model("sandbox").weights["visual_projection.weight"]
    patches = {
        "image": Patch(outputs={"image": AffineMap(down=offset.down, up=offset.up)}).folded(open_model("sandbox")),
        "dense": Patch(deltas={"visual_projection.weight": torch.randn(weight.shape, **random)}),
        "norm": Patch(deltas={"vision_model.post_layernorm.weight": torch.randn(96, **random)}),
        "dual": Patch(deltas={"visual_projection.weight": dual}),
        "offset": Patch(outputs={"image": offset}),
    }
    for name, patch in patches.items():
        patch.save_pretrained(folder / name)
    unit = torch.nn.functional.normalize(torch.randn(4, 64, **random), dim=-1).numpy()
    np.save(folder / "in.npy", unit)
    np.save(folder / "wide.npy", np.ones((2, 512), np.float32))
    np.save(folder / "nan.npy", np.where(np.arange(4)[:, None] == 1, np.nan, unit).astype(np.float32))
    (folder / "bad.npy").write_bytes(b"nonsense")
    (folder / "in.csv").write_text("1,2\n")
    (folder / "full").mkdir()
    (folder / "full" / "precious.txt").write_text("mine")
    return folder


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(
    name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, hint = BAD[name]
    monkeypatch.chdir(workplace)
    before = {str(path): path.stat().st_mtime_ns for path in workplace.rglob("*")}
    code = main(monkeypatch, *arguments)
    error = capsys.readouterr().err
    assert code == 2, error
    lines = [line for line in error.splitlines() if line.strip()]
    assert len(lines) == 1, error
    assert lines[0].startswith("error: ")
    assert hint in lines[0]
    assert "Traceback" not in error
    assert lines[0].rstrip().endswith((".", "?", ")")), lines[0]
    assert {str(path): path.stat().st_mtime_ns for path in workplace.rglob("*")} == before
