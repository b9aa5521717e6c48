import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_unlearn.data.images import ImageSet, OnDemand, from_encoded
from clip_unlearn.errors import DataError


def made(contents, **columns):
    return from_encoded(
        where="here",
        keys=[f"k{index}" for index in range(len(contents))],
        read=lambda index: contents[index],
        **columns,
    )


def test_nothing_is_read_before_it_is_asked_for(encode):
    reads = []
    contents = [encode(0), encode(1)]

    def read(index):
        reads.append(index)
        return contents[index]

    images = from_encoded(where="here", keys=["a", "b"], read=read)
    assert (len(images), reads) == (2, [])
    assert images.picture(1).size == (8, 6)
    assert reads == [1]
    assert images.contents == tuple(hashlib.sha256(content).hexdigest() for content in contents)
    _ = images.digest, images.contents, images.take([1]).digest
    assert reads == [1, 0, 1]


def test_digest_follows_content_and_facts_but_not_keys():
    base = made([b"a", b"b"], classes=["x", "y"], labels=[0, 1])
    same = from_encoded(
        where="there", keys=["q", "r"], read=lambda i: [b"a", b"b"][i], classes=["x", "y"], labels=[0, 1]
    )
    assert base.digest == same.digest
    others = [
        made([b"a", b"c"], classes=["x", "y"], labels=[0, 1]),
        made([b"a", b"b"], classes=["x", "y"], labels=[1, 0]),
        made([b"a", b"b"], classes=["x", "z"], labels=[0, 1]),
        made([b"b", b"a"], classes=["x", "y"], labels=[0, 1]),
        made([b"a", b"b"], classes=["x", "y"], labels=[0, 1], domains=["photo", "photo"]),
        made([b"a", b"b"], classes=["x", "y"], labels=[0, 1], captions=[("one",), ("two",)]),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 7


def test_take_keeps_columns_together(encode):
    contents = [encode(seed, size=(4 + seed, 4)) for seed in range(4)]
    images = made(contents, classes=["x", "y"], labels=[0, 1, 0, 1], captions=[(str(i),) for i in range(4)])
    few = images.take([3, 0])
    assert (few.keys, few.labels, few.captions, few.classes) == (("k3", "k0"), (1, 0), (("3",), ("0",)), ("x", "y"))
    assert few.picture(0).size == (7, 4)
    assert few.contents == (images.contents[3], images.contents[0])
    assert few.take([-1]).keys == ("k0",)
    with pytest.raises(IndexError):
        images.take([4])
    with pytest.raises(ValueError, match="stands twice"):
        images.take([0, 0])


def test_captions_on_demand():
    asked = []

    def make(index):
        asked.append(index)
        return (f"caption {index}",)

    captions = OnDemand(length=4, make=make)
    images = ImageSet(where="here", keys=tuple("abcd"), captions=captions, picture=lambda _: None, content=str)
    few = images.take([2, 3])
    _ = images.digest, few.digest
    assert asked == []
    assert few.captions[1] == ("caption 3",)
    assert (few.captions[-2:], next(iter(few.captions))) == ((("caption 2",), ("caption 3",)), ("caption 2",))
    with pytest.raises(IndexError):
        few.captions[2]


@pytest.mark.parametrize("name", ["Fire Truck", "fire_truck", " FIRE  truck ", "fire truck"])
def test_class_index_folds_spelling(name):
    assert made([b"a"], classes=["mug", "fire truck"], labels=[1]).class_index(name) == 1


def test_unknown_class_names_the_nearest():
    images = made([b"a"], classes=["mug", "teapot"], labels=[0])
    with pytest.raises(DataError, match=r"'teapott' is not in the data: here has 2 classes\. Did you mean 'teapot'\?"):
        images.class_index("teapott")
    with pytest.raises(DataError, match="The first is 'mug'"):
        images.class_index("zzzzzz")
    with pytest.raises(DataError, match="no class labels"):
        made([b"a"]).class_index("mug")


@pytest.mark.parametrize(
    "columns",
    [{"labels": [0]}, {"classes": ["x"], "labels": [0, 1]}, {"classes": ["x"], "labels": [-1, 0]}, {"domains": ["a"]}],
)
def test_columns_must_fit(columns):
    with pytest.raises(ValueError, match="here: "):
        made([b"a", b"b"], **columns)


def test_unreadable_images_have_a_content_of_their_own():
    def read(index):
        raise DataError(f"k{index}: no such file.")

    images = from_encoded(where="here", keys=["k0", "k1"], read=read)
    assert len(set(images.contents)) == 2
    with pytest.raises(DataError, match="k1: no such file"):
        images.picture(1)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=8), st.data())
def test_take_of_everything_is_the_same_set(contents, data):
    images = made(contents)
    order = data.draw(st.permutations(range(len(contents))))
    back = sorted(range(len(order)), key=order.__getitem__)
    assert images.take(order).take(back).digest == images.digest
