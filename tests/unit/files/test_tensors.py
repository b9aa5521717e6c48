"""Safetensors files from strangers: every damage is named before anything is used."""

import json
import struct

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from clip_unlearn.errors import StorageError, WeightsError
from clip_unlearn.files import atomic, tensors

GOOD = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([True, False])}


def frame(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(*offsets: object, dtype: str = "F32", shape: tuple[int, ...] = (1,)) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors.write(path, GOOD, metadata={"format": "pt"})
    return path


def test_what_is_written_is_read(good):
    tensors.check_finite(good)
    read = tensors.read(good)
    assert read.keys() == GOOD.keys()
    assert all(torch.equal(read[name], GOOD[name]) for name in GOOD)


def test_no_tensors_at_all(tmp_path):
    tensors.write(tmp_path / "x.safetensors", {})
    assert tensors.read(tmp_path / "x.safetensors") == {}


def test_shared_storage_and_views_are_stored_apart(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    tensors.write(tmp_path / "x.safetensors", {"whole": whole, "same": whole, "turned": whole.T})
    read = tensors.read(tmp_path / "x.safetensors")
    assert torch.equal(read["same"], whole)
    assert torch.equal(read["turned"], whole.T)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_not_finite_is_neither_written_nor_read(tmp_path, value, dtype):
    import safetensors.torch

    broken = {"x": torch.tensor([0.0, value], dtype=dtype)}
    with pytest.raises(ValueError, match="NaN or infinity"):
        tensors.write(tmp_path / "x.safetensors", broken)
    safetensors.torch.save_file(broken, tmp_path / "x.safetensors")
    for check in (tensors.read, tensors.check_finite):
        with pytest.raises(WeightsError, match=r"'x' holds NaN or infinity\. Fetch the file again\.$"):
            check(tmp_path / "x.safetensors")


BODY = bytes(4)
DAMAGES = {
    "no bytes": b"",
    "seven bytes": b"\0" * 7,
    "header longer than the file": struct.pack("<Q", 1000) + b"{}",
    "header longer than the limit": struct.pack("<Q", tensors.HEADER_LIMIT + 1) + b" " * (tensors.HEADER_LIMIT + 1),
    "header length of all ones": b"\xff" * 8 + b"{}",
    "header is not JSON": frame(b"{not json}"),
    "header is not text": frame(b"\xff\xfe{}"),
    "header is a list": frame([1]),
    "header is a tower of lists": frame(b"[" * 100_000),
    "a name stands twice": frame(b'{"x": %s, "x": %s}' % ((json.dumps(entry(0, 4)).encode(),) * 2), BODY),
    "unknown number format": frame({"x": entry(0, 4, dtype="F99")}, BODY),
    "number format is a list": frame({"x": {**entry(0, 4), "dtype": ["F32"]}}, BODY),
    "entry is a number": frame({"x": 3}),
    "no offsets": frame({"x": {"dtype": "F32", "shape": [1]}}, BODY),
    "one offset": frame({"x": entry(4)}, BODY),
    "offsets are text": frame({"x": entry("0", "4")}, BODY),
    "offsets run backwards": frame({"x": entry(4, 0)}, BODY),
    "negative offset": frame({"x": entry(-4, 4)}, BODY),
    "shape does not fit": frame({"x": entry(0, 4, shape=(7,))}, BODY),
    "negative shape": frame({"x": entry(0, 4, shape=(-1,))}, BODY),
    "a gap": frame({"x": entry(4, 8)}, BODY * 2),
    "two names, one place": frame({"x": entry(0, 4), "y": entry(0, 4)}, BODY),
    "metadata is a number": frame({"__metadata__": 3}),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("check", [tensors.read, tensors.check_finite])
def test_every_damage_is_a_weights_error_with_the_way_out(tmp_path, damage, check):
    path = tmp_path / "x.safetensors"
    path.write_bytes(DAMAGES[damage])
    with pytest.raises(WeightsError, match=r"x\.safetensors is not a sound safetensors file: .* Fetch it again\.$"):
        check(path)


@pytest.mark.parametrize("cut", [1, 8, 30])
def test_a_truncated_file_is_refused(good, cut):
    good.write_bytes(good.read_bytes()[:-cut])
    with pytest.raises(WeightsError, match="bytes and should have|does not fit"):
        tensors.check(good)


def test_trailing_bytes_are_refused(good):
    good.write_bytes(good.read_bytes() + b"PK\x03\x04")
    with pytest.raises(WeightsError, match="bytes and should have"):
        tensors.check(good)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_one_changed_byte_is_read_or_refused_but_never_crashes(tmp_path, place, value):
    path = tmp_path / "x.safetensors"
    tensors.write(path, GOOD)
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content)
    try:
        tensors.read(path)
    except WeightsError as error:
        assert str(error).endswith("again.")


@pytest.mark.parametrize("ending", [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"])
def test_a_pickle_is_refused_by_its_ending_unopened(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    path.write_bytes(b"")
    for check in (tensors.check, tensors.read, tensors.check_finite, tensors.refuse_pickle):
        with pytest.raises(WeightsError, match=r"pickle file.*Convert it to \.safetensors\.$"):
            check(path)


def test_a_pickle_under_another_name_is_refused_too(tmp_path):
    torch.save({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="not a sound safetensors file"):
        tensors.read(tmp_path / "x.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"x\.safetensors does not exist\. Check the path\.$"):
        tensors.read(tmp_path / "x.safetensors")


def test_a_failing_disk_leaves_the_old_weights(good, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(StorageError):
        tensors.write(good, {"c": torch.ones(1)})
    assert tensors.read(good).keys() == GOOD.keys()
