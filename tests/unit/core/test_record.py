"""Records: a JSON file that comes back as it was, and says what is wrong when it does not."""

import json

import pytest

from clip_unlearn.core.record import Environment, Origin, Reading, Record, Skipped, Source
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import DataError

RECORD = Record(
    created="2030-01-01T00:00:00Z",
    command="clip-unlearn forget",
    origin=Origin(
        method="project",
        settings={"strength": 0.5},
        request=Request(forget=(Concept(name="cat"),)),
        base=Source(where="tiny"),
        version="0.1",
    ),
    after=Source(where="tiny", digest="1" * 64),
    portable=True,
    seconds={"forget": 0.25},
    environment=Environment(package="0.1", python="3", libraries={}, machine="x", threads=1, device="cpu"),
    readings=(Reading(name="forget accuracy", value=0.5, low=float("nan"), high=float("inf"), count=3, better="low"),),
    skipped=(Skipped(probe="refit", reason="no images"),),
)


def test_json_brings_the_same_record_back(tmp_path):
    RECORD.save(tmp_path / "record.json")
    loaded = Record.load(tmp_path / "record.json")
    assert loaded.model_dump_json() == RECORD.model_dump_json()
    assert loaded.schema_version == 1


def test_a_missing_record(tmp_path):
    with pytest.raises(DataError, match=r"does not exist\. Give the record\.json of a finished run\.$"):
        Record.load(tmp_path / "record.json")


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"surprise": 1}, {"readings": [{}]}])
def test_another_schema_is_named(tmp_path, change):
    path = tmp_path / "record.json"
    path.write_text(json.dumps({**RECORD.model_dump(mode="json"), **change}))
    with pytest.raises(DataError, match=r"is not a record of schema 1 \("):
        Record.load(path)


def test_what_is_not_json_is_named(tmp_path):
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(DataError, match="top level"):
        Record.load(tmp_path / "record.json")
