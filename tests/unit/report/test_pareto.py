"""The plot of a search: a well-formed page of its own, with every point where it belongs."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from clip_unlearn.report.pareto import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Point, pareto

SVG = "{http://www.w3.org/2000/svg}"
BEFORE = Point(forget=1.0, retain=0.9, text="unedited")
POINTS = (
    Point(forget=0.0, retain=0.8, text="trial 1", front=True),
    Point(forget=0.5, retain=0.9, text="trial 2 <&>", front=True, chosen=True),
    Point(forget=0.5, retain=0.7, text="trial 3"),
)


def drawn(points: tuple[Point, ...] = POINTS, floor: float = 0.85) -> ElementTree.Element:
    return ElementTree.fromstring(pareto(points, BEFORE, floor=floor, title="a < b", note="a note"))


def circles(page: ElementTree.Element) -> dict[str, tuple[float, float]]:
    """Return the place of every point by its text and kind; those of the legend have the text of no trial."""
    found = {}
    for one in page.iter(f"{SVG}circle"):
        text = one.findtext(f"{SVG}title") or ""
        if text.startswith("trial") or (text == "unedited" and float(one.get("cy", "0")) > TOP - 1):
            found[f"{one.get('class')} {text}"] = (float(one.get("cx", "0")), float(one.get("cy", "0")))
    return found


def test_points_stand_where_their_numbers_say() -> None:
    found = circles(drawn())
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    assert found["before unedited"] == (right, TOP)
    assert found["on-front trial 1"] == (LEFT, pytest.approx((TOP + bottom) / 2, abs=0.1))
    assert found["on-front trial 2 <&>"] == ((LEFT + right) / 2, TOP)
    assert found["chosen trial 2 <&>"] == found["on-front trial 2 <&>"]
    assert found["other trial 3"] == ((LEFT + right) / 2, bottom)
    assert len(found) == 5


def test_the_front_goes_up_in_steps() -> None:
    line = drawn().find(f".//{SVG}polyline")
    assert line is not None
    places = [tuple(map(float, place.split(","))) for place in (line.get("points") or "").split()]
    assert places[0] == places[1] == circles(drawn())["on-front trial 1"]
    assert places[2] == (places[3][0], places[1][1])
    assert places[3] == circles(drawn())["on-front trial 2 <&>"]


def test_the_budget_is_a_line() -> None:
    (line,) = (
        one for one in drawn().iter(f"{SVG}line") if one.get("class") == "budget" and one.get("x1") == f"{LEFT}.0"
    )
    assert float(line.get("y1", "0")) == pytest.approx(TOP + (HEIGHT - BOTTOM - TOP) / 4, abs=0.1)


@pytest.mark.parametrize("retain", [0.0, 0.9, 0.89999, 1.0])
def test_axes_hold_every_point(retain: float) -> None:
    page = drawn((Point(forget=0.013, retain=retain, text="trial 1"),), floor=0.8999)
    for x, y in circles(page).values():
        assert LEFT <= x <= WIDTH - RIGHT
        assert TOP <= y <= HEIGHT - BOTTOM


def test_nothing_to_show_but_the_model_before() -> None:
    assert list(circles(drawn(()))) == ["before unedited"]


def test_nothing_is_fetched() -> None:
    assert re.findall(r"https?://[^\"' ]*", pareto(POINTS, BEFORE, floor=0.5, title="", note="")) == [
        "http://www.w3.org/2000/svg"
    ]
