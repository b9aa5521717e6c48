"""No name leads out of the folder it belongs to."""

import os
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from clip_unlearn.errors import DataError, WeightsError
from clip_unlearn.files import paths

PIECES = ["..", ".", "a", "b", "...", "", "~", " ", "..\\..", "link", "%2e%2e", "\u2025", "\uff0e\uff0e", "C:"]
names = st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("/".join), st.text(alphabet="./a\\\0"))


@pytest.fixture
def folder(tmp_path):
    inner = tmp_path / "inner"
    (inner / "a").mkdir(parents=True)
    (inner / "link").symlink_to(tmp_path)
    (tmp_path / "inner-most").mkdir()
    return inner


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(name=names)
def test_a_name_stays_inside_or_is_refused(folder, name):
    try:
        path = paths.inside(folder, name)
    except DataError as error:
        assert str(error).endswith(("Use paths relative to it.", "Use paths below it."))
    else:
        assert Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../x",
        "a/../../x",
        "/etc/passwd",
        "",
        "a\0b",
        "link/x",
        "link",
        "a/../link/x",
        "\ud800",
        "../inner-most/x",
    ],
)
def test_every_known_way_out_is_refused(folder, name):
    with pytest.raises(DataError):
        paths.inside(folder, name)


@pytest.mark.parametrize("name", ["x.png", "a/x.png", "a/../x.png", "e\u0301.png", "..."])
def test_ordinary_names_are_accepted(folder, name):
    assert paths.inside(folder, name).parent in {folder, folder / "a"}


def test_a_link_that_stays_inside_is_followed(folder):
    (folder / "b").symlink_to(folder / "a")
    assert paths.inside(folder, "b/x") == folder / "a" / "x"


def test_existing(tmp_path):
    assert paths.existing(tmp_path, what="Data") == tmp_path
    with pytest.raises(DataError, match=r"^Data .*nowhere does not exist\. Check the path\.$"):
        paths.existing(tmp_path / "nowhere", what="Data")
    with pytest.raises(WeightsError, match="NUL"):
        paths.existing("a\0b", what="Model", kind=WeightsError)


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIP_UNLEARN_CACHE", str(tmp_path / "own"))
    assert paths.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("CLIP_UNLEARN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.cache_folder() == tmp_path / "clip-unlearn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert paths.cache_folder() == Path.home() / ".cache" / "clip-unlearn"
