"""Pictures painted by models that see colours, so that what a judge says of them is known beforehand."""

from dataclasses import replace

import pytest
import torch
from known import DATA, original, readings, value
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.errors import DataError, UndefinedError, UnknownNameError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.probes.audit import class_inversion
from clip_unlearn.probes.audit._scene import hidden
from clip_unlearn.probes.audit.class_inversion import ClassInversion, open_judge
from clip_unlearn.synthesis.contact import as_image

NAME = "class inversion accuracy"
ASKED = Request(forget=(Concept(name="red"),), retain=("green", "blue"), templates=("{}",))
SWAP = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.fixture
def colours(painter: Model) -> Model:
    """Return a model that sees the mean colour of pixels, less grey."""

    def prepare(pictures: list) -> Tensor:
        pixels = [torch.tensor(list(one.tobytes())).view(one.height, one.width, 3) for one in pictures]
        return painter.adapter.pixels.normalise(torch.stack(pixels).permute(0, 3, 1, 2) / 255)

    image = replace(painter.adapter.image, embed=lambda _, pixels: pixels.mean((2, 3)), readout=None)
    return replace(painter, adapter=replace(painter.adapter, image=image, prepare=prepare))


@pytest.fixture
def judged(colours: Model, monkeypatch: pytest.MonkeyPatch) -> Model:
    """Return the judge that is opened by any name: one that sees the brightest place of each colour too."""
    mean = colours.adapter.image
    image = replace(mean, embed=lambda _, pixels: pixels.mean((2, 3)) + pixels.amax((2, 3)) ** 3)
    judge = replace(colours, adapter=replace(colours.adapter, image=image))
    monkeypatch.setattr(class_inversion, "open_model", lambda _: judge)
    return judge


def audit(where: str, **settings: object) -> ClassInversion:
    return ClassInversion(data=where, split="all", **{"judge": "eyes", "count": 4, "steps": 30, **settings})


def swapped(model: Model) -> Model:
    """Return the model after an edit by which red is green and green is red."""
    return model.replace(outputs={"image": AffineMap(down=SWAP - torch.eye(3), up=torch.eye(3))})


def test_what_is_painted_is_judged_by_another_model(judged: Model, colours: Model, photos: str) -> None:
    """The edited model paints green for red, and would itself call it red."""
    found = audit(photos).measure(colours, swapped(colours), ASKED)
    assert [(one.name, one.subject, one.of, one.count) for one in found] == [
        (name, subject, "shift 0.2", 4)
        for subject in ("before", "control", "after")
        for name in (NAME, f"worst {NAME}")
    ]
    assert value(found, f"worst {NAME}", "before") == 1
    assert value(found, f"worst {NAME}", "after") == 0
    again = audit(photos).measure(colours, colours, ASKED)
    assert value(again, f"worst {NAME}", "after") == 1


def test_the_control_paints_with_its_last_layer(judged: Model, colours: Model, photos: str) -> None:
    """It is the same attack on the model that hides the name."""
    control = hidden(colours, ASKED, "image")
    found = audit(photos).measure(colours, control, ASKED)
    assert value(found, NAME, "control") == value(found, NAME, "after")


def test_every_name_and_every_shift_is_painted(judged: Model, colours: Model, photos: str) -> None:
    both = Request(forget=(Concept(name="red"), Concept(name="blue")), retain=("green",), templates=("{}",))
    found = audit(photos, shifts=(0.0, 0.3), count=2).measure(colours, colours, both)
    assert {(one.of, one.count) for one in found} == {("shift 0", 4), ("shift 0.3", 4)}
    assert all(one.value == 1 for one in found if one.subject == "after")
    assert {one.attempts for one in found if one.name == f"worst {NAME}"} == {2}


def test_pictures_follow_the_seed(colours: Model, photos: str) -> None:
    rows = torch.eye(3)
    first, again, other = (audit(photos)._painted(colours, rows, [0], 0.2, seed) for seed in (0, 0, 1))
    assert [one.tobytes() for one in first] == [one.tobytes() for one in again]
    assert [one.tobytes() for one in first] != [one.tobytes() for one in other]


def test_a_tower_without_gradients(judged: Model, colours: Model, photos: str) -> None:
    image = replace(colours.adapter.image, embed=lambda _, pixels: pixels.detach().mean((2, 3)))
    blind = replace(colours, adapter=replace(colours.adapter, image=image))
    with pytest.raises(UndefinedError, match="no gradients"):
        audit(photos).measure(blind, blind, ASKED)


def test_without_a_judge(colours: Model, photos: str) -> None:
    with pytest.raises(UndefinedError, match="another encoder as the judge.*--judge"):
        audit(photos, judge="").measure(colours, colours, ASKED)


def test_the_judge_is_another_model() -> None:
    """`sandbox-openclip` is the sandbox in another library's format; its fingerprint differs and its eyes do not."""
    for where in ("sandbox", "sandbox-openclip"):
        with pytest.raises(UndefinedError, match=f"the judge {where} sees what the model sees"):
            open_judge(where, original())
    assert open_judge("sandbox-conv", original()).source.where == "sandbox-conv"
    with pytest.raises(UndefinedError, match="sees what the model sees"):
        open_judge("oracle-mug-0", original(), open_judge("oracle-mug-0"))
    with pytest.raises(UnknownNameError):
        open_judge("sandbax", original())


def test_a_judge_of_another_width(judged: Model, colours: Model) -> None:
    image = replace(colours.adapter.image, embed=lambda _, pixels: pixels.mean((2, 3))[:, :2])
    narrow = replace(colours, adapter=replace(colours.adapter, image=image))
    assert open_judge("eyes", narrow) is judged


def test_data_without_the_class(judged: Model, colours: Model, photos: str) -> None:
    with pytest.raises(DataError):
        audit(photos).measure(colours, colours, Request(forget=(Concept(name="mauve"),)))


def test_a_judge_that_never_painted_it_recognises_the_original_alone() -> None:
    """On the sandbox: pictures of the original are recognised more often than those of an edit of its last layer."""
    found = readings(ClassInversion(data=DATA, judge="oracle-car-0", count=6, steps=50), "shallow")
    assert value(found, f"worst {NAME}", "before") >= 1 / 3
    assert value(found, f"worst {NAME}", "after") == 0


def test_its_estimate() -> None:
    size = Size(images=900, forgotten=30, support=500, classes=28, background=27, templates=2)

    def work(**settings: object) -> Work:
        return ClassInversion(**settings).work(original(), original(), size)

    assert work() == Work()
    assert work(judge="eyes") == Work(images=3 * 8 * (1 + 3 * 100), sentences=28 * 2, names=2 * 28 * 2)
    assert work(judge="eyes", steps=50, shifts=(0.1, 0.2)).images == 3 * 2 * 8 * (1 + 3 * 50)


def test_pictures_have_eight_bits(colours: Model) -> None:
    """What the judge gets is what a file would hold."""
    picture = as_image(torch.full((3, 2, 2), 0.5))
    assert set(picture.tobytes()) == {128}
