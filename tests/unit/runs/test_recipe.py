"""Recipes: short forms, round trip, refusals."""

from pathlib import Path

import pytest

from clip_unlearn.core.config import build
from clip_unlearn.errors import SettingError
from clip_unlearn.runs.recipe import Recipe

SHORT = {"model": "sandbox", "forget": ["mug | cup", "cat"], "method": "project", "data": "sandbox"}
LONG = {
    "schema": 1,
    "model": {"id": "sandbox"},
    "forget": [{"name": "mug", "synonyms": ["cup"]}, {"name": "cat"}],
    "method": {"name": "project", "settings": {}},
    "data": {"path": "sandbox", "split": "all"},
}


def test_short_forms_mean_the_long_ones() -> None:
    assert build(Recipe, SHORT, where="recipe") == build(Recipe, LONG, where="recipe")


def test_settings_stand_beside_the_name() -> None:
    recipe = build(Recipe, {**SHORT, "method": {"name": "project", "strength": 0.5}}, where="recipe")
    assert recipe.method.settings == {"strength": 0.5}


def test_yaml_round_trip(tmp_path: Path) -> None:
    recipe = build(Recipe, {**SHORT, "method": {"name": "project", "strength": 1e-6}, "seed": 3}, where="recipe")
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    assert Recipe.load(path) == recipe


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("model: &x sandbox\nforget: [mug]", "anchor"),
        ("a: " + "[" * 30 + "]" * 30, "nested"),
        ("model: sandbox\nforget: [mug]\nmodle: x", "Did you mean 'model'"),
        ("model: {id: sandbox, devise: cpu}\nforget: [mug]", "Did you mean 'device'"),
        ("!!python/object/apply:os.system ['true']", "YAML"),
        ("", "table"),
    ],
)
def test_refusals(text: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(SettingError, match=hint):
        Recipe.load(path)


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("# " + "x" * 1_000_001)
    with pytest.raises(SettingError, match="at most"):
        Recipe.load(path)
