"""Model cards: what they say, what they keep to themselves, and names that are only text."""

import json
import re

import pytest
import yaml

from clip_unlearn.core.card import Card, hub_id, opened_by, render, shared
from clip_unlearn.core.record import Origin, Reach, Source
from clip_unlearn.core.request import Concept, Evidence, Request


def origin(where: str = "org/model", *, revision: str = "", name: str = "mug", **more: object) -> Origin:
    values = {
        "method": "project",
        "settings": {"strength": 0.5},
        "request": Request(forget=(Concept(name=name, synonyms=("cup",)),), retain=("dog",)),
        "base": Source(where=where, revision=revision, digest="ab" * 32),
        "version": "0.1",
        "touches": ("visual_projection.weight",),
        "reach": Reach(towers=("image",), depth="readout"),
    }
    return Origin(**{**values, **more})


def card(made: Origin | None, **more: object) -> str:
    reach = made.reach if made else None
    values = {"title": "Edit", "origin": made, "edit": "suppress", "load": "print(1)", "library": "peft"}
    return render(Card(**{**values, "reach": reach, **more}))


def head(text: str) -> dict:
    return yaml.safe_load(text.split("---")[1])


def recipe(text: str) -> dict:
    return json.loads(re.search(r"^```json\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[1])


def test_the_head_is_yaml_that_the_hub_reads():
    text = card(origin(), relation="adapter")
    assert head(text) == {
        "library_name": "peft",
        "tags": ["unlearning", "clip-unlearn"],
        "base_model": "org/model",
        "base_model_relation": "adapter",
    }


def test_the_recipe_is_whole():
    made = origin()
    told = recipe(card(made, digest="cd" * 32))
    assert told["forget"] == [{"name": "mug", "synonyms": ["cup"], "found": []}]
    assert told["retain"] == ["dog"]
    assert (told["method"], told["settings"]) == ("project", {"strength": 0.5})
    assert told["base"] == {"where": "org/model", "revision": "", "digest": "ab" * 32}
    assert (told["edited_sha256"], told["request_sha256"]) == ("cd" * 32, made.request.digest)
    assert told["changed"] == ["visual_projection.weight"]


def test_it_says_what_kind_it_is_and_what_leaks():
    text = card(origin())
    assert "Forgets: mug. Method: project. Base: org/model.\nKind: suppress:" in text
    assert "- Only the last layer was changed." in text
    assert "It is no proof of deletion." in text
    assert "Kind: erase:" in card(origin(), edit="erase")


def test_without_an_origin_it_says_so():
    text = card(None)
    assert "Forgets: not recorded." in text
    assert "base_model" not in text
    assert "is not recorded. Take it for an edit of the last layer" in text
    assert "```json" not in text


def test_notes_and_lines_to_load():
    text = card(origin(), notes=("Mind the gap.",), load="\nimport this\n")
    assert "## What to know\n\n- Mind the gap.\n" in text
    assert "```python\nimport this\n```" in text
    assert "What to know" not in card(origin())


def test_no_path_of_this_machine_is_told():
    made = origin(
        "/home/someone/models/clip",
        request=Request(forget=(Concept(name="mug"),), evidence=Evidence(where="/home/someone/mugs", digest="0" * 64)),
    )
    text = card(made)
    assert "someone" not in text
    assert recipe(text)["base"]["where"] == "clip"
    assert recipe(text)["evidence"]["where"] == "mugs"


def test_names_are_text_and_never_markup():
    text = card(origin(name="<b>[x](y)</b> ``` `code` | # *a*"))
    line = next(line for line in text.splitlines() if line.startswith("Forgets:"))
    assert not re.search(r"(?<!\\)[<\[`|#*]", line)
    assert recipe(text)["forget"][0]["name"] == "<b>[x](y)</b> ``` `code` | # *a*"


@pytest.mark.parametrize(
    ("where", "revision", "hub", "short", "opened"),
    [
        ("org/model", "", "org/model", "org/model", "org/model"),
        ("org/model@v1", "abc", "org/model", "org/model@v1", "org/model@v1"),
        ("hf:org/model", "abc", "org/model", "hf:org/model", "hf:org/model"),
        ("hf-hub:org/model", "abc", "org/model", "hf-hub:org/model", "hf-hub:org/model"),
        ("sandbox", "", "", "sandbox", "sandbox"),
        ("openclip:ViT-B-32,laion2b", "abc", "", "openclip:ViT-B-32,laion2b", "openclip:ViT-B-32,laion2b"),
        ("/data/models/clip", "", "", "clip", "path/to/clip"),
        ("./clip", "", "", "clip", "path/to/clip"),
        ("~/clip", "", "", "clip", "path/to/clip"),
        ("some/deep/clip", "", "", "clip", "path/to/clip"),
        ("local-dir:/data/clip", "", "", "local-dir:clip", "path/to/clip"),
    ],
)
def test_what_readers_are_told_of_a_base(where, revision, hub, short, opened):
    base = Source(where=where, revision=revision)
    assert (hub_id(base), shared(where), opened_by(base)) == (hub, short, opened)


def test_a_folder_that_looks_like_a_hub_id_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "model").mkdir(parents=True)
    assert hub_id(Source(where="org/model")) == ""
    assert hub_id(Source(where="org/model", revision="abc")) == "org/model"
