"""Entries, what may follow what, and that no changed byte or line passes."""

import hashlib
import json
import random
from collections.abc import Iterator

import pytest
from ledger_samples import TIME, addition, chain, content, header, undoing, usual

from clip_unlearn.core.ledger import Entry, addition_of
from clip_unlearn.core.ledger_chain import extended, parse
from clip_unlearn.core.request import Concept
from clip_unlearn.errors import DataError, RequestError, UnknownNameError
from clip_unlearn.files import digest


def test_the_hash_is_over_everything_else_and_can_be_computed_without_this_package() -> None:
    first, second = chain(header(), addition("R-1", "mug"))
    table = json.loads(second.line)
    own = table.pop("hash")
    assert own == second.hash == digest.of_json(table)
    assert own == hashlib.sha256(b"{" + second.line.rstrip(b"\n").split(b",", 1)[1]).hexdigest()
    assert table["previous"] == first.hash
    assert table["sequence"] == 1
    assert first.previous == ""


def test_a_ledger_reads_as_what_was_written() -> None:
    ledger = parse(usual(), where="l")
    assert b"".join(entry.line for entry in ledger.entries) == usual()
    assert ledger.header == header()
    assert [request.id for request in ledger.live] == ["R-2", "R-3"]
    assert set(ledger.undone) == {"r-1"}
    assert ledger.reason("R-1") == "withdrawn"
    assert ledger.reason("R-2") == ""
    assert ledger.find("r-2").concepts == (Concept(name="sports car", found=("roadster",)),)
    assert ledger.head == ledger.entries[-1].hash


def test_settings_keep_their_kind() -> None:
    settings = {"a": 1, "b": 1.0, "c": True, "d": "1", "e": None, "f": (1.5, 2.0), "g": ("x", "y"), "h": ()}
    ledger = parse(content(header(settings=settings)), where="l")
    assert ledger.header.settings == settings
    assert [type(value) for value in ledger.header.settings.values()] == [type(value) for value in settings.values()]


@pytest.mark.parametrize(
    ("payload", "hint"),
    [
        (addition("R-1", "bowl"), r"'R-1' was used before \(entry 1, undone since\)"),
        (addition("r-2", "bowl"), r"'r-2' was used before \(entry 2, live\)"),
        (undoing("R-1"), r"undone already \(entry 3, 2026-05-03"),
        (undoing("R-9"), "never added"),
        (header(), "opened once"),
    ],
)
def test_what_may_not_follow(payload, hint: str) -> None:
    ledger = parse(usual(), where="l")
    with pytest.raises(RequestError, match=hint):
        ledger.check(payload)
    # The same entry in a file with proper hashes is refused when it is read.
    with pytest.raises(DataError, match=f"l line 6 cannot follow .*{hint}"):
        parse(usual() + Entry.after(ledger.entries[-1], payload, time=TIME).line, where="l")


def test_an_unknown_id_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'R-2'"):
        parse(usual(), where="l").find("R-22")
    with pytest.raises(UnknownNameError, match="No request was added yet"):
        parse(content(header()), where="l").find("R-22")


def test_extending_gives_the_ledger_that_reading_gives() -> None:
    start = parse(usual(), where="l")
    for payload in (addition("R-4", "bowl"), undoing("R-3")):
        entry = Entry.after(start.entries[-1], payload, time=TIME)
        assert extended(start, entry) == parse(usual() + entry.line, where="l")
    assert set(start.added) == {"r-1", "r-2", "r-3"}
    with pytest.raises(DataError, match="entry 2 line 3 was changed: it is entry 2 where 5 is due"):
        extended(start, start.entries[2])


@pytest.mark.parametrize("request_id", ["", "-R", "R 1", "R\n1", "ä", "R" * 101])
def test_an_unusable_id(request_id: str) -> None:
    with pytest.raises(RequestError, match="is not usable"):
        addition(request_id, "mug")


def test_unusable_texts() -> None:
    with pytest.raises(RequestError, match="control characters or line breaks"):
        addition("R-1", "mug", note="two\nlines")
    with pytest.raises(RequestError, match="1001 characters"):
        undoing("R-1", "x" * 1001)
    with pytest.raises(RequestError, match="twice in the forget list"):
        addition("R-1", "mug", "Mug")
    with pytest.raises(RequestError, match="Remove it from one"):
        addition("R-1", "mug", retain=("mug",))
    with pytest.raises(RequestError, match="not proper Unicode"):
        Entry.after(None, addition("R-1", "m\udcffg"), time=TIME)
    with pytest.raises(RequestError, match="exactly once"):
        header(templates=("no gap",))
    with pytest.raises(RequestError, match="twice in the retain list"):
        header(retain=("cat", "Cat"))


def test_only_an_addition_holds_a_request() -> None:
    first, second = chain(header(), addition("R-1", "mug"))
    assert addition_of(second).id == second.request_id == "R-1"
    assert first.request_id == ""
    with pytest.raises(TypeError, match="entry 0 adds no request"):
        addition_of(first)


def test_every_flipped_bit_of_every_byte_is_found() -> None:
    sound = usual()
    for position in range(len(sound)):
        for bit in range(8):
            changed = bytearray(sound)
            changed[position] ^= 1 << bit
            with pytest.raises(DataError):
                parse(bytes(changed), where="l")


def test_every_other_value_of_500_bytes_of_a_longer_ledger_is_found() -> None:
    requests = [addition(f"R-{number}", f"thing {number} | stuff {number}") for number in range(60)]
    sound = content(header(), *requests, *(undoing(f"R-{number}") for number in range(0, 60, 7)))
    parse(sound, where="l")
    chance = random.Random(0)
    for position in chance.sample(range(len(sound)), 500):
        changed = bytearray(sound)
        changed[position] = chance.choice([value for value in range(256) if value != sound[position]])
        with pytest.raises(DataError) as caught:
            parse(bytes(changed), where="l")
        number = sound[:position].count(b"\n") + 1
        assert f"line {number} " in str(caught.value) or f"line {number + 1} " in str(caught.value) or number == 1


def changed_lines(lines: list[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines of a ledger with one removed, doubled, swapped with another, or taken from another ledger."""
    other = chain(header(seed=1), *(entry.payload for entry in parse(b"".join(lines), where="l").entries[1:]))
    for place in range(len(lines)):
        if place < len(lines) - 1:  # The last line is the case that only a noted head can tell.
            yield [*lines[:place], *lines[place + 1 :]]
        yield [*lines[: place + 1], *lines[place:]]
        yield [*lines[:place], other[place].line, *lines[place + 1 :]]
        for earlier in range(place):
            swapped = list(lines)
            swapped[place], swapped[earlier] = swapped[earlier], swapped[place]
            yield swapped


def test_removed_doubled_swapped_and_foreign_lines_are_found() -> None:
    lines = usual().splitlines(keepends=True)
    cases = list(changed_lines(lines))
    assert len(cases) == 4 + 5 + 5 + 10
    for changed in cases:
        with pytest.raises(DataError, match="was changed"):
            parse(b"".join(changed), where="l")


def test_lines_lost_at_the_end_show_in_a_head_that_was_noted() -> None:
    whole = parse(usual(), where="l")
    for kept in range(1, len(whole.entries)):
        shorter = parse(b"".join(entry.line for entry in whole.entries[:kept]), where="l")
        assert not shorter.holds(whole.head)
        assert whole.holds(shorter.head)


def test_a_rewritten_ledger_shows_in_a_head_that_was_noted() -> None:
    payloads = [entry.payload for entry in parse(usual(), where="l").entries]
    rewritten = parse(content(*payloads[:2], addition("R-2", "bowl")), where="l")
    assert rewritten.live[0].id == "R-1"
    assert not rewritten.holds(parse(usual(), where="l").entries[2].hash)


def test_every_cut_is_found() -> None:
    sound = usual()
    ends = {position + 1 for position, letter in enumerate(sound) if letter == ord("\n")}
    for length in range(len(sound)):
        if length in ends:
            continue
        with pytest.raises(DataError):
            parse(sound[:length], where="l")


def test_what_the_messages_say() -> None:
    lines = usual().splitlines(keepends=True)

    def said(*changed: bytes) -> str:
        with pytest.raises(DataError) as caught:
            parse(b"".join(changed), where="l")
        return str(caught.value)

    assert "l line 3 was changed: it says hash" in said(*lines[:2], lines[2].replace(b"sports", b"sporty"))
    assert "The lines before it are sound" in said(*lines[:2], lines[2].replace(b"sports", b"sporty"))
    assert "line 2 was changed: it is entry 2 where 1 is due" in said(lines[0], *lines[2:])
    assert "it is no entry (Invalid JSON" in said(*lines[:2], b"rubbish\n")
    assert "line 1 was changed: it does not open a ledger" in said(*lines[1:])
    assert "not a ledger, or its line 1 was changed" in said(b"# A text\n", b"of some kind\n")
    assert "is empty" in said(b"")
    assert "line 5 is cut off" in said(*lines[:4], lines[4][:-1])
    assert "head -n 4 l > FIXED" in said(*lines[:4], lines[4][:20])
    assert "cut off in its first line" in said(lines[0][:-1])
    assert "schema_version" in said(lines[0].replace(b'"schema_version":1', b'"schema_version":2'))
    other = chain(header(seed=1), addition("R-1", "mug"))
    assert "line 2 was changed: it follows" in said(lines[0], other[1].line)
