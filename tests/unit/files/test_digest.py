"""Digests against hashlib."""

import hashlib

from clip_unlearn.files import digest


def test_of_file_is_sha256sum(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert digest.of_file(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_borders_between_parts_count():
    assert len({digest.of_bytes(b"ab", b"c"), digest.of_bytes(b"a", b"bc"), digest.of_bytes(b"abc")}) == 3


def test_json_has_one_form():
    assert digest.of_json({"b": [1], "a": "é"}) == digest.of_json({"a": "é", "b": [1]})
    assert digest.of_json({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    assert digest.of_json({"a": 1}) != digest.of_json({"a": 2})
