"""Sentences: true, deterministic, free of other classes' names."""

import re

import numpy as np
import pytest

from clip_unlearn.sandbox.classes import CLASSES, DOMAINS, find_class
from clip_unlearn.sandbox.sentences import Caption, captions, class_sentences, corpus, state, visible, with_article
from clip_unlearn.sandbox.world import render


def words(text):
    return set(re.findall(r"[a-z]+", text.lower()))


def own_words(item):
    plurals = {f"{name}{ending}" for name in item.names for ending in ("s", "es")}
    return {*item.names, *plurals, *({"cherries"} if item.name == "cherry" else set())}


def many_captions(item, count=40):
    return [text for domain in DOMAINS for text in captions(render(item.name, domain, "train", 0), count)]


def test_captions_are_a_function_of_the_picture():
    assert captions(render("mug", "photo", "train", 1), 8) == captions(render("mug", "photo", "train", 1), 8)
    assert captions(render("mug", "photo", "train", 1), 8) != captions(render("mug", "photo", "train", 2), 8)
    assert captions(render("mug", "photo", "train", 1), 0) == ()


def test_a_negative_number_of_captions_is_refused():
    with pytest.raises(ValueError, match="Ask for 0 or more"):
        captions(render("mug", "photo", "train", 1), -1)


@pytest.mark.parametrize("item", CLASSES, ids=lambda item: item.name)
def test_no_sentence_names_another_class(item):
    others = set().union(*(own_words(other) for other in CLASSES if other is not item))
    for text in [*many_captions(item), *(text for word in item.names for text in class_sentences(item, word))]:
        assert not words(text) & others, text


@pytest.mark.parametrize("item", CLASSES, ids=lambda item: item.name)
def test_a_definition_names_nothing(item):
    assert not words(item.definition) & set().union(*(own_words(other) for other in CLASSES))


def test_every_name_and_the_group_and_the_definition_are_said():
    item = find_class("mug")
    text = " ".join(text for index in range(20) for text in captions(render("mug", "photo", "train", index), 30))
    for phrase in (*item.names, "vessel", item.definition, "mugs"):
        assert phrase in text


def test_what_a_caption_commits_to_is_in_its_text():
    random = np.random.default_rng(0)
    picture = render("car", "painting", "train", 4)
    for caption in (state(picture, random) for _ in range(200)):
        assert caption.holds(picture)
        for word in (caption.color, caption.size, caption.place, caption.group):
            assert word in caption.text


def test_a_caption_can_be_false():
    red = next(p for p in (render("car", "photo", "train", index) for index in range(100)) if p.color == "red")
    assert Caption(text="a red car", class_name="car", color="red").holds(red)
    assert not Caption(text="a blue car", class_name="car", color="blue").holds(red)
    assert not Caption(text="a bus", class_name="bus").holds(red)


def test_a_sketch_shows_no_color_and_no_place():
    picture = render("car", "sketch", "train", 0)
    assert visible(picture)[3:5] == ("-", "-")
    assert all(not caption.color for caption in (state(picture, np.random.default_rng(1)) for _ in range(50)))


def test_articles():
    assert with_article("apple") == "an apple"
    assert with_article("red apple") == "a red apple"
    assert with_article("scissors") == "a pair of scissors"


def test_the_corpus_holds_every_name():
    text = words(" ".join(corpus()))
    assert all(name in text for item in CLASSES for name in item.names)
