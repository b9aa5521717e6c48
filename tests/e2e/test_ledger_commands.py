"""The ledger commands as a user runs them, and what they refuse."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clip_unlearn.core import ledger_file
from clip_unlearn.core.patch import Patch
from clip_unlearn.runs import ledger, ledger_patch

Arrange = Callable[[Path], list[str]]
RETAIN = ("tree", "house", "river")


Say = Callable[..., str]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Return a function that runs a command that must work, and returns what it writes to stdout."""

    def run(*arguments: str) -> str:
        assert _run([str(argument) for argument in arguments], monkeypatch) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a ledger of the embedded model: one live request and one undone."""
    path = tmp_path_factory.mktemp("ledger") / "requests.jsonl"
    ledger_patch.create(path, "sandbox", retain=RETAIN)
    ledger.add(path, ["mug | cup"], request_id="R-2026-014", note="letter of 3 May")
    ledger.add(path, ["cat"], request_id="R-2026-015")
    ledger.undo(path, "R-2026-015", reason="withdrawn")
    return path.read_bytes()


@pytest.fixture
def path(opened: bytes, tmp_path: Path) -> Path:
    """Return a copy of it that a test may change."""
    where = tmp_path / "requests.jsonl"
    where.write_bytes(opened)
    return where


def test_from_the_first_request_to_a_verified_checkpoint(tmp_path: Path, say: Say) -> None:
    path, patch, baked = tmp_path / "l.jsonl", tmp_path / "patch", tmp_path / "baked"
    fixed = (
        "--model",
        "sandbox",
        "--method",
        "project",
        "--set",
        "strength=0.9",
        "--retain",
        "tree",
        "--retain",
        "house",
    )
    assert "method project" in say("ledger", "create", path, *fixed)
    added = say("ledger", "add", path, "--forget", "mug | cup", "--id", "R-1", "--note", "letter of 3 May")
    assert "added   R-1 " in added
    say("ledger", "add", path, "--forget", "cat", "--forget", "dog", "--id", "R-2")
    undone = say("ledger", "undo", path, "r-2", "--reason", "withdrawn")
    assert "undone  R-2 " in undone
    head = undone.split("head")[1].strip()
    composed = json.loads(say("ledger", "compose", path, "--out", patch, "--json"))
    assert (composed["live"], composed["head"]) == (["R-1"], head)
    assert "this patch is what" in say("ledger", "verify", path, "--patch", patch, "--head", head)
    say("apply", "--patch", patch, "--out", baked)
    assert json.loads(say("ledger", "verify", path, "--patch", baked, "--json"))["recomputed"] == "checkpoint"


def test_the_commands_of_the_guide(tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "guide" / "ledger.md").read_text(encoding="utf-8")
    lines = page.split("```bash\n")[1].split("```")[0].splitlines()
    monkeypatch.chdir(tmp_path)
    said = [say(*shlex.split(line)[1:]) for line in lines]
    assert len(said) == 8
    assert "2 live, 1 undone" in said[5]
    for line in ("patch   patch  (live requests: 2", "equal   patch: this patch is what the ledger composes"):
        assert line in page
        assert line in said[6] + said[7]


def test_another_process_composes_the_same_bytes(path: Path, tmp_path: Path) -> None:
    ledger_patch.compose(path, tmp_path / "here")
    program = "import sys, torch; torch.set_num_threads(1); from clip_unlearn.cli.app import main; main()"
    arguments = ["clip-unlearn", "ledger", "compose", str(path), "--out", str(tmp_path / "there")]
    subprocess.run([sys.executable, "-c", program, *arguments[1:]], check=True, timeout=120, stdout=subprocess.PIPE)
    written = [{file.name: file.read_bytes() for file in (tmp_path / where).iterdir()} for where in ("here", "there")]
    assert written[0] == written[1]
    assert set(written[0]) == {"README.md", "ledger.json", "patch.json", "patch.safetensors"}


def test_list_and_show(path: Path, say: Say) -> None:
    shown = say("ledger", "list", path)
    assert "1 live, 1 undone" in shown
    assert "R-2026-014" in shown
    assert "R-2026-015" not in shown
    rows = json.loads(say("ledger", "list", path, "--all", "--json"))
    assert [(row["id"], row["state"], row["reason"]) for row in rows] == [
        ("R-2026-014", "live", ""),
        ("R-2026-015", "undone", "withdrawn"),
    ]
    one = say("ledger", "show", path, "r-2026-014")
    assert "mug | cup" in one
    assert "letter of 3 May" in one
    header = json.loads(say("ledger", "show", path, "--json"))
    assert (header["model"], header["retain"], header["live"]) == ("sandbox", list(RETAIN), "1")


def test_entries_as_json(path: Path, say: Say) -> None:
    entry = json.loads(say("ledger", "add", path, "--forget", "dog", "--retain", "fox", "--json"))
    assert entry["payload"]["retain"] == ["fox"]
    assert entry["hash"] == ledger_file.read(path).head
    assert json.loads(say("ledger", "undo", path, entry["payload"]["id"], "--json"))["payload"]["kind"] == "undo"


def test_a_new_ledger_as_json_and_a_sound_one_in_words(path: Path, tmp_path: Path, say: Say) -> None:
    header = json.loads(say("ledger", "create", tmp_path / "new.jsonl", "--model", "sandbox", "--offline", "--json"))
    assert (header["kind"], header["method"], header["other_names"]) == ("open", "redirect", "auto")
    assert "background  1193 names" in say("ledger", "show", tmp_path / "new.jsonl")
    assert "(entries: 4, live requests: 1)" in say("ledger", "verify", path)


def test_names_from_a_file(path: Path, tmp_path: Path, say: Say) -> None:
    names = tmp_path / "names.txt"
    names.write_text("dog\nfox | vixen\n")
    say("ledger", "add", path, "--forget", names, "--id", "R-3")
    assert [one.name for one in ledger_file.read(path).find("R-3").concepts] == ["dog", "fox"]


def test_composing_tells_what_it_cannot_retain_and_when_it_is_empty(path: Path, tmp_path: Path, say: Say) -> None:
    out = tmp_path / "patch"
    say("ledger", "add", path, "--forget", "tree", "--id", "R-3")
    composed = say("ledger", "compose", path, "--out", out)
    assert "not retained, because a request forgets it:  tree" in composed
    assert "live requests: 2, things forgotten: 2" in composed
    for request_id in ("R-3", "R-2026-014"):
        say("ledger", "undo", path, request_id)
    assert "empty   no request of the ledger is live" in say("ledger", "compose", path, "--out", out, "--force")
    assert Patch.from_pretrained(out).empty
    assert "this patch is what" in say("ledger", "verify", path, "--patch", out)


def test_adding_imports_no_torch(path: Path) -> None:
    program = (
        "import sys; sys.argv = ['clip-unlearn', 'ledger', 'add', sys.argv[1], '--forget', 'dog'];"
        "from clip_unlearn.cli.app import app; app(standalone_mode=False);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=60).returncode == 0


def on(*words: str) -> Arrange:
    """Return the arguments of a command on the ledger as it is; LEDGER stands for its path."""
    return lambda folder: [str(folder / "requests.jsonl") if word == "LEDGER" else word for word in words]


def changed(old: bytes, new: bytes, *words: str) -> Arrange:
    """Return the arguments of a command on the ledger with some bytes changed."""

    def arrange(folder: Path) -> list[str]:
        path = folder / "requests.jsonl"
        assert old in path.read_bytes()
        first, rest = path.read_bytes().split(b"\n", 1)
        path.write_bytes(first + b"\n" + rest.replace(old, new))
        return on(*words)(folder)

    return arrange


def cut_off(folder: Path) -> list[str]:
    """Lose the end of the last line."""
    path = folder / "requests.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    return ["verify", str(path)]


def other_head(folder: Path) -> list[str]:
    """Compose, lose the last line, and compose to the same folder again."""
    path = folder / "requests.jsonl"
    (folder / "out").mkdir()
    manifest = ledger_patch.Manifest(head=ledger_file.read(path).head, entries=4, live=(), overruled=())
    (folder / "out" / "ledger.json").write_text(manifest.model_dump_json())
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    return ["compose", str(path), "--out", "out", "--force"]


def text_file(folder: Path) -> list[str]:
    """Give something else for the ledger."""
    (folder / "letter.txt").write_text("Dear all,\nplease forget me.\n")
    return ["verify", str(folder / "letter.txt")]


def full_output(folder: Path) -> list[str]:
    """Put a file where the patch goes."""
    (folder / "out").mkdir()
    (folder / "out" / "precious.txt").write_text("mine")
    return on("compose", "LEDGER", "--out", "out")(folder)


CREATE = ("create", "new.jsonl", "--model", "sandbox")
CASES: dict[str, tuple[Arrange, str]] = {
    "ledger missing": (on("list", "nowhere.jsonl"), "does not exist"),
    "ledger to add to missing": (on("add", "nowhere.jsonl", "--forget", "dog"), "does not exist"),
    "ledger is a folder": (lambda folder: ["show", str(folder)], "is no file"),
    "not a ledger": (text_file, "is not a ledger"),
    "line changed": (changed(b"mug", b"jug", "verify", "LEDGER"), "line 2 was changed: it says hash"),
    "line changed, then added to": (changed(b"mug", b"jug", "add", "LEDGER", "--forget", "dog"), "line 2 was changed"),
    "line changed, then composed": (changed(b"mug", b"jug", "compose", "LEDGER", "--out", "out"), "line 2 was"),
    "last line cut": (cut_off, "line 4 is cut off"),
    "noted head is gone": (on("verify", "LEDGER", "--head", "f00d"), "no entry with hash f00d"),
    "patch of a longer ledger": (other_head, "entries are gone or were rewritten"),
    "id used twice": (on("add", "LEDGER", "--forget", "dog", "--id", "R-2026-014"), "used before (entry 1, live)"),
    "id of an undone request": (on("add", "LEDGER", "--forget", "dog", "--id", "r-2026-015"), "undone since"),
    "id with a space": (on("add", "LEDGER", "--forget", "dog", "--id", "R 1"), "is not usable"),
    "unknown id": (on("undo", "LEDGER", "R-2026-14"), "Did you mean 'R-2026-014'"),
    "unknown id to show": (on("show", "LEDGER", "nothing like it"), "list --all"),
    "already undone": (on("undo", "LEDGER", "R-2026-015"), "undone already (entry 3"),
    "nothing to forget": (on("add", "LEDGER"), "--forget"),
    "name twice": (on("add", "LEDGER", "--forget", "dog", "--forget", "Dog"), "twice"),
    "forget and retain": (on("add", "LEDGER", "--forget", "dog", "--retain", "dog"), "Remove it"),
    "name not in UTF-8": (on("add", "LEDGER", "--forget", "d\udcffg"), "not proper Unicode"),
    "note not in UTF-8": (on("add", "LEDGER", "--forget", "dog", "--note", "\udcff"), "not proper Unicode"),
    "note with a line break": (on("add", "LEDGER", "--forget", "dog", "--note", "a\nb"), "in one line"),
    "endless reason": (on("undo", "LEDGER", "R-2026-014", "--reason", "x" * 2000), "characters"),
    "other base": (on("compose", "LEDGER", "--out", "out", "--model", "sandbox-conv"), "has other weights"),
    "output with content": (full_output, "--force"),
    "patch missing": (on("verify", "LEDGER", "--patch", "nowhere"), "does not exist"),
    "create over another": (lambda folder: ["create", str(folder / "requests.jsonl"), "--model", "sandbox"], "exists"),
    "create for no model": (on("create", "new.jsonl", "--model", "sandbocks"), "Did you mean 'sandbox"),
    "create with an unknown method": (on(*CREATE, "--method", "projekt"), "Did you mean 'project'"),
    "create with an unknown setting": (on(*CREATE, "--set", "strenght=1"), "Did you mean 'strength'"),
    "create with a bad template": (on(*CREATE, "--templates", "{} and {}"), "exactly once"),
    "create with a name retained twice": (on(*CREATE, "--retain", "cat", "--retain", "Cat"), "twice"),
    "create with a negative seed": (on(*CREATE, "--seed", "-1"), "seed"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_refused_leaves_everything_as_it_was(
    name: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arrange, hint = CASES[name]
    monkeypatch.chdir(tmp_path)
    arguments = arrange(tmp_path)
    before = _files(tmp_path)
    code = _run(["ledger", *arguments], monkeypatch)
    error = capsys.readouterr().err
    assert code == 2, error
    lines = [line for line in error.splitlines() if line.strip()]
    assert len(lines) == 1, error
    assert lines[0].startswith("error: ")
    assert hint in lines[0]
    assert lines[0].endswith("."), lines[0]
    assert _files(tmp_path) == before


def _run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    from clip_unlearn.cli.app import main

    monkeypatch.setattr("sys.argv", ["clip-unlearn", *arguments])
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def _files(folder: Path) -> dict[str, bytes]:
    """Return the content of all files but locks, which hold nothing."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }
