import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from PIL import Image
from report_records import BARE, CLASSES, FORGET, RETAIN, reading, record, sample, trio

from clip_unlearn.core.record import Source
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.report.markdown import escape
from clip_unlearn.report.summary import SAMPLES_LIMIT, summarise, to_html, to_markdown

VOID = {"meta", "img", "rect", "line", "br"}


class Page(HTMLParser):
    """Every element with its attributes, the visible text, and a check that elements close in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open = [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page(made, folder):
    found = Page(to_html(made, folder))
    assert found.open == []
    return found


FULL = (
    *FORGET,
    *RETAIN,
    *CLASSES,
    reading("image drift", 0.9871, 0.986, 0.988),
    reading("worst name accuracy", 0.216, 0.119, 0.341, of="cup (synonym)", better="low"),
    reading("name accuracy", 0.216, 0.147, 0.305, of="cup (synonym)", better="low"),
    *trio("domain forget accuracy", (1, 0.9, 1), (0, 0, 0.1), (-1, -1, -0.8), better="low", of="sketch", count=34),
    reading("novel thing", 2.5, 2.0, 3.0, of="somewhere"),
)


def test_both_files_are_written(tmp_path):
    summarise(record(*FULL), tmp_path)
    assert (tmp_path / "summary.md").read_text().startswith("# Forgetting “mug”")
    assert (tmp_path / "summary.html").read_text().startswith("<!doctype html>")
    assert len(list(tmp_path.iterdir())) == 2


def test_the_headline_gives_counts_and_intervals(tmp_path):
    sentence = (
        "On 102 pictures of “mug” right answers fell from 98.0 % to 0.0 % (95 % interval 0.0-3.6); on 2,346 pictures "
        "of all other classes right answers went from 97.4 % to 97.1 % (95 % interval 96.0-98.0), no clear change."
    )
    assert sentence in to_markdown(record(*FULL))
    assert sentence in page(record(*FULL), tmp_path).text


@pytest.mark.parametrize(
    ("readings", "phrase"),
    [
        (FORGET[:1], "Accuracy was not measured in this run"),
        (FORGET[1:2], "the edited model is right in 0.0 %"),
        ((RETAIN[0], RETAIN[1].model_copy(update={"value": 0.974})), "right answers stayed at 97.4 %"),
        ((RETAIN[0], RETAIN[1].model_copy(update={"value": 0.99})), "right answers rose from 97.4 % to 99.0 %"),
    ],
)
def test_the_headline_says_what_is_there(readings, phrase):
    assert phrase in to_markdown(record(*readings))


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        ("2025-01-02T03:04:05+02:00", "2025-01-02 01:04 UTC"),
        ("2025-01-02T03:04:05Z", "2025-01-02 03:04 UTC"),
        ("2025-01-02T03:04:05", "2025-01-02T03:04:05"),
        ("yesterday", "yesterday"),
    ],
)
def test_times_are_shown_in_one_zone(created, shown):
    assert f"method **project**, {shown}." in to_markdown(record(created=created))


@pytest.mark.parametrize(
    ("where", "shown"), [("/far/away/model", "model"), ("./model/", "model"), ("org/name", "org/name"), (".", ".")]
)
def test_headings_show_the_last_part_of_local_paths(where, shown):
    made = record()
    made = made.model_copy(update={"origin": made.origin.model_copy(update={"base": Source(where=where)})})
    assert f"Model **{shown}**" in to_markdown(made)
    assert f"- Model: {where}" in to_markdown(made)


def test_many_classes_are_counted_in_the_title():
    made = record(*FULL, forget=("a", "b", "c", "d"))
    assert to_markdown(made).startswith("# Forgetting 4 classes")
    assert "pictures of the forgotten classes" in to_markdown(made)
    assert to_markdown(record(forget=("a", "b", "c"))).startswith("# Forgetting “a”, “b” and “c”")


def test_an_empty_patch_says_why(tmp_path):
    made = record(*FULL, touches=(), reason="No setting helped.")
    assert "Nothing was changed: No setting helped." in to_markdown(made)
    assert "banner" in [attributes.get("class") for attributes in page(made, tmp_path).all("p")]


@pytest.mark.parametrize(
    "phrase", ["0.9871", "cup (synonym)", "sketch", "Novel thing", "somewhere", "2.5", "Image drift"]
)
def test_every_reading_appears_on_both_pages(phrase, tmp_path):
    assert phrase in page(record(*FULL), tmp_path).text
    assert phrase in to_markdown(record(*FULL))


DONE = ("visual_projection.weight", "ab" * 32, "cd" * 32, "ef" * 32, "strength", "0.9", "image, text", "numpy 2.1")
SAID = ("1 min 5 s", "a photo of a {}.", "--model sandbox", "What this does not show", "Suppression is not removal")


@pytest.mark.parametrize("phrase", [*DONE, *SAID])
def test_what_was_done_appears(phrase, tmp_path):
    assert phrase in page(record(*FULL), tmp_path).text
    assert phrase in to_markdown(record(*FULL)).replace("\\", "")


def test_nothing_is_fetched_and_nothing_runs(tmp_path):
    (tmp_path / "samples").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "samples" / "a.png")
    made = record(*FULL, samples=(sample(),), command="clip-unlearn forget --model https://example.org/x")
    found = page(made, tmp_path)
    for name in ("script", "link", "iframe", "object", "embed", "base", "form"):
        assert not found.all(name)
    for _, attributes in found.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "xlink:href", "action"):
            assert attributes.get(name, "data:").startswith("data:")
    policy = next(each["content"] for each in found.all("meta") if each.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not re.search(r"@import|url\(", to_html(made, tmp_path))


def test_names_are_text_and_never_markup(tmp_path):
    evil = "<script>alert('x')</script>\"&"
    made = record(
        reading("class accuracy", 0.5, 0.4, 0.6, of=evil),
        reading(evil, 0.5, 0.4, 0.6),
        reading("name accuracy", 0.5, 0.4, 0.6, of=evil),
        forget=(evil,),
        samples=(sample(picture=evil, truth=evil, before=evil, after=evil),),
        quarantine=(evil,),
        command=evil,
    )
    found = page(made, tmp_path)
    assert not found.all("script")
    assert found.text.count(evil) >= 8
    markdown = to_markdown(made)
    outside_code = [line for line in markdown.splitlines() if not line.startswith("    ")]
    assert not any(re.search(r"(?<!\\)<", line) for line in outside_code)


def test_markdown_keeps_cells_and_lines_together():
    assert escape("a|b\n# c `d` [e](f) *g*") == "a\\|b \\# c \\`d\\` \\[e\\](f) \\*g\\*"
    assert escape(3) == 3


@pytest.mark.parametrize("readings", [(), FORGET[1:2], FORGET[2:], CLASSES[:1], (reading("x", 0.5, 0.4, 0.6, of="y"),)])
@pytest.mark.parametrize("more", [{}, BARE, {"seconds": {}, "after": {"where": "sandbox"}}])
def test_missing_parts_are_no_obstacle(readings, more, tmp_path):
    made = record(*readings, **more)
    assert "What this does not show" in page(made, tmp_path).text
    assert "None" not in to_markdown(made)


def test_a_run_without_pictures_says_so(tmp_path):
    found = page(record(**BARE), tmp_path)
    assert "Nothing was measured in this run. It had names only and no pictures" in found.text
    assert "zero_shot, not run" in found.text
    assert "Whoever loads the checkpoint without the map" in found.text


def test_values_that_are_no_numbers_have_no_bar(tmp_path):
    nan = float("nan")
    found = page(
        record(reading("class accuracy", nan, nan, nan, of="mug"), reading("forget accuracy", nan, nan, nan)), tmp_path
    )
    assert "not defined" in found.text
    assert not [each for each in found.all("rect") if each["class"] in {"before", "after"}]


def test_two_hundred_long_names(tmp_path):
    rows = [reading("class accuracy", 0.5, 0.4, 0.6, of=f"{'long ' * 30}{index}") for index in range(200)]
    found = page(record(*rows), tmp_path)
    assert "All 200 classes as a table" in found.text
    assert "30 of 200 are drawn" in found.text


def test_forgotten_classes_are_marked(tmp_path):
    assert page(record(*CLASSES), tmp_path).text.count("to forget") >= 2
    assert "| Mug (to forget) |" in to_markdown(record(*CLASSES))


def test_bars_are_drawn_to_scale(tmp_path):
    widths = {each["width"] for each in page(record(*CLASSES), tmp_path).all("rect")}
    assert {"99.00%", "90.00%", "98.00%", "0.00%"} <= widths


def test_pictures_are_embedded_by_content_and_never_from_outside(tmp_path):
    folder = tmp_path / "samples"
    folder.mkdir()
    for name, kind in (("a.png", "PNG"), ("b.jpg", "JPEG"), ("c.webp", "WEBP"), ("d.gif", "GIF")):
        Image.new("RGB", (4, 4)).save(folder / name, kind)
    (folder / "e.png").write_text("<svg/>")
    (folder / "f.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1_000_001))
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    names = ("a.png", "b.jpg", "c.webp", "d.gif", "e.png", "f.png", "../secret.png", "missing.png", "", "bad\0name")
    found = page(record(samples=tuple(sample(picture=name) for name in names)), tmp_path)
    kinds = [each["src"].split(";")[0] for each in found.all("img")]
    assert kinds == ["data:image/png", "data:image/jpeg", "data:image/webp", "data:image/gif"]
    assert found.text.count("picture not kept") == 6


def test_samples_of_forgotten_classes_come_first_and_the_rest_is_counted(tmp_path):
    samples = (*(sample(truth="hat") for _ in range(SAMPLES_LIMIT)), sample(truth="mug"))
    found = page(record(samples=samples), tmp_path)
    first = next(index for index, (tag, _) in enumerate(found.elements) if tag == "figure")
    assert ("span", {"class": "tag"}) in found.elements[first : first + 6]
    assert f"{SAMPLES_LIMIT} of {SAMPLES_LIMIT + 1} samples are shown" in found.text


def test_synonyms_and_evidence_are_listed(tmp_path):
    asked = Request(
        forget=(Concept(name="mug", synonyms=("cup",)),), evidence={"where": "folder of mugs", "digest": "12" * 32}
    )
    made = record()
    made = made.model_copy(update={"origin": made.origin.model_copy(update={"request": asked, "settings": {}})})
    text = page(made, tmp_path).text
    assert "mug (also: cup)" in text
    assert "folder of mugs" in text
    assert "12" * 32 in text


def test_the_survived_share_never_rounds_up_to_all(tmp_path):
    made = record()
    made = made.model_copy(update={"origin": made.origin.model_copy(update={"survived": 0.99951})})
    assert "99.9 %" in page(made, tmp_path).text


def test_the_report_does_not_reach_torch():
    code = "import sys, clip_unlearn.report.summary; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
