"""Maps that are undone, on models of which is known what their map is."""

import pytest
import torch
from known import DATA, REQUEST, ignorant, original, shallow, value

from clip_unlearn.core.model import TowerName
from clip_unlearn.errors import UndefinedError
from clip_unlearn.maths.affine import AffineMap, inverse_map, remove_directions
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods.redirect import Redirect
from clip_unlearn.probes.audit.recipe_inversion import RecipeInversion

AUDIT = RecipeInversion(data=DATA)
NAME = "worst recipe inversion accuracy"


def removed(strength: float) -> AffineMap:
    row = unit(original().texts(REQUEST.sentences(["mug"])).detach()).mean(0, keepdim=True)
    others = unit(original().texts(REQUEST.sentences(REQUEST.retain)).detach()).mean(0, keepdim=True)
    return remove_directions(row - others, strength=strength)


@pytest.mark.parametrize("folded", [True, False])
def test_a_map_is_undone_wherever_it_sits(folded: bool) -> None:
    patch = Redirect().forget(original(), REQUEST)
    edited = (patch.folded(original()) if folded else patch).apply(original())
    found = AUDIT.measure(original(), edited, REQUEST)
    assert value(found, NAME, "after") == pytest.approx(value(found, NAME, "before"), abs=0.03)
    assert value(found, "condition number", "after", "the image map") < 1e6


def test_a_text_map_is_undone() -> None:
    edited = Redirect(side="text").forget(original(), REQUEST).folded(original()).apply(original())
    found = AUDIT.measure(original(), edited, REQUEST)
    assert value(found, NAME, "after") > 0.9
    assert {one.of for one in found if one.name == "condition number"} == {"the text map"}


def test_what_a_map_sends_to_nothing_stays_away() -> None:
    """A part of it comes back and how much is known: 1 / (1 - strength) is what the direction is stretched by."""
    partly, wholly = (original().replace(outputs={"image": removed(strength)}) for strength in (0.9, 1.0))
    found = AUDIT.measure(original(), partly, REQUEST)
    assert value(found, "condition number", "after", "the image map") == pytest.approx(10, rel=1e-3)
    assert value(found, NAME, "after") > 0.9
    gone = AUDIT.measure(original(), wholly, REQUEST)
    assert value(gone, "condition number", "after", "the image map") > 1e6
    assert value(gone, NAME, "after") < 0.1


def test_an_edit_below_the_last_layer_is_no_map() -> None:
    with pytest.raises(UndefinedError, match="no map of embeddings"):
        AUDIT.measure(original(), ignorant(), REQUEST)
    with pytest.raises(UndefinedError, match="no map of embeddings"):
        AUDIT.measure(original(), original(), REQUEST)


def test_both_models_map() -> None:
    outputs: dict[TowerName, AffineMap] = {"image": removed(0.5)}
    mapped = original().replace(outputs=outputs)
    with pytest.raises(UndefinedError, match="both models map"):
        AUDIT.measure(mapped, mapped.replace(outputs={"image": removed(0.9)}), REQUEST)
    assert value(AUDIT.measure(original(), shallow(), REQUEST), NAME, "before") > 0.9


def test_the_inverse_of_a_map() -> None:
    random = torch.Generator().manual_seed(0)
    down, up, offset, rows = (torch.randn(*size, generator=random) for size in ((6, 2), (2, 6), (6,), (5, 6)))
    one = AffineMap(down=down, up=up, offset=offset)
    torch.testing.assert_close(inverse_map(one, 1e-6)(one(rows)), rows, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one.then(inverse_map(one, 1e-6))(rows), rows, rtol=1e-4, atol=1e-4)
    flat = AffineMap(down=torch.eye(6)[:, :1], up=-torch.eye(6)[:1])
    back = inverse_map(flat, 1e-6)(flat(rows))
    torch.testing.assert_close(back[:, 1:], rows[:, 1:])
    assert float(back[:, 0].abs().max()) < 1e-6
