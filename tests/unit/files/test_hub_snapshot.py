"""Hub ids and folders, without a connection."""

import socket

import pytest

from clip_unlearn.errors import WeightsError
from clip_unlearn.files import hub


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert hub.snapshot(str(tmp_path), patterns=["*"]) == hub.Snapshot(folder=tmp_path)


@pytest.mark.parametrize("where", ["./nowhere", "/nowhere", "a/b/c", "word", "~nobody/x"])
def test_what_is_neither_folder_nor_id_is_refused(where):
    with pytest.raises(WeightsError, match=r"does not exist\. Give a folder that exists, or a hub id 'org/name'\.$"):
        hub.snapshot(where, patterns=["*"])


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(WeightsError, match="is a file"):
        hub.snapshot(str(tmp_path / "x"), patterns=["*"])


@pytest.mark.parametrize("where", ["org/name", "org/name@main"])
def test_an_id_that_is_not_cached_says_so_offline(where, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"^Patch org/name is not in the local cache\. Drop --offline"):
        hub.snapshot(where, what="Patch", patterns=["*"])


def test_a_malformed_id_is_refused():
    with pytest.raises(WeightsError, match="cannot be fetched.*Check the id"):
        hub.snapshot("org/na me!", patterns=["*"])


def test_a_cached_revision_is_found_offline(monkeypatch, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "models--org--name"
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = hub.snapshot("org/name", patterns=["*"], offline=True)
    assert found.revision == commit
    assert (found.folder / "config.json").is_file()


def test_no_test_reaches_the_network():
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
    with socket.socket() as client, pytest.raises(AssertionError, match=r"a test opens a connection to 192\.0\.2\.1"):
        client.connect(("192.0.2.1", 80))
