import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_unlearn.data.images import from_encoded
from clip_unlearn.data.splits import check_disjoint, split
from clip_unlearn.errors import DataError

PARTS = ("stop", "select", "audit")


def made(contents, labels=None, domains=(), keys=None):
    labels = [0] * len(contents) if labels is None else labels
    return from_encoded(
        where="here",
        keys=keys or [f"k{index}" for index in range(len(contents))],
        read=lambda index: contents[index],
        classes=[f"c{index}" for index in range(max(labels, default=0) + 1)],
        labels=labels,
        domains=domains,
    )


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), min_size=12, max_size=120))
def test_parts_are_a_partition_by_content(pairs):
    images = made([str(number).encode() for _, number in pairs], labels=[label for label, _ in pairs])
    found = {}
    for part in PARTS:
        try:
            found[part] = split(images, part)
        except DataError:
            continue
    assert sorted(key for each in found.values() for key in each.keys) == sorted(images.keys)
    check_disjoint(**found)


@given(st.permutations(range(24)))
def test_order_and_names_do_not_matter(order):
    contents = [str(number).encode() for number in order]
    ours = split(made(contents, labels=[number % 2 for number in order]), "select")
    theirs = split(made(sorted(contents), labels=[int(each) % 2 for each in sorted(contents)]), "select")
    assert set(ours.contents) == set(theirs.contents)


@pytest.mark.parametrize("size", [8, 9, 15, 100])
def test_every_class_is_in_every_part(size):
    labels = [index % 3 for index in range(3 * size)]
    images = made([str(index).encode() for index in range(3 * size)], labels=labels)
    for part, share in zip(PARTS, (0.25, 0.25, 0.5), strict=True):
        counts = [split(images, part).labels.count(label) for label in range(3)]
        assert all(abs(count - share * size) <= 1 for count in counts)


def test_domains_are_spread_over_the_parts():
    images = made([str(index).encode() for index in range(80)], domains=["photo", "sketch"] * 40)
    for part in PARTS:
        assert set(split(images, part).domains) == {"photo", "sketch"}


def test_unlabelled_images_are_split():
    images = from_encoded(where="here", keys=list("abcdefgh"), read=lambda index: str(index).encode())
    assert [len(split(images, part)) for part in PARTS] == [2, 2, 4]


def test_too_few_images():
    with pytest.raises(DataError, match="leave none for the 'select' part"):
        split(made([b"a", b"b"]), "select")


def test_shared_images_are_named():
    learnt = made([b"a", b"b", b"c"], keys=["learnt/1", "learnt/2", "learnt/3"])
    measured = made([b"x", b"b"], keys=["measured/1", "measured/2"])
    with pytest.raises(DataError, match="'evidence' and 'audit' share an image: 'learnt/2' is 'measured/2'"):
        check_disjoint(evidence=learnt, other=made([b"q"]), audit=measured)
    check_disjoint(evidence=learnt)
    check_disjoint()
