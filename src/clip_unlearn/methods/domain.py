"""Forget a class everywhere, or as one domain shows it. d width, n names, p pictures, s domains, the chosen first."""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final, Literal, final

import torch
from pydantic import Field, field_validator
from torch import Tensor

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Concept, Request, key
from clip_unlearn.errors import SettingError, UnsupportedError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.ridge import ridge_edit
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods._rows import held_rows, name_rows
from clip_unlearn.synthesis.ascend import Ascent, Classes, synthesise

NAME_WEIGHT: Final = 1e4
"""Weight of leaving the score of a name to retain as it is, and of each such name in a domain."""

BACKGROUND_WEIGHT: Final = 1.0
"""The same for a name of the background."""

FORGET_WEIGHT: Final = 1e6
"""Weight of lowering the scores of the names to forget by all that `strength` asks for."""

COMPLETE: Final = 0.1
"""Share of `spare` that is left in mode domain_complete."""

SAME: Final = 1e-6
"""Distance of unit rows under which they are the same to the model."""


@final
class Domain(Method):
    """Take the class's score from the images that look like it, everywhere or in one domain; one direction each way.

    z -> z - strength (z . u) w per concept. u reads 1 on the class's domain-and-class prompts (in the chosen domain)
    and near 0 on what is held: other classes, and the class in other domains. w lowers the scores of the class's names
    by 1 and those of the names to retain by next to nothing. Both are ridge solves over text embeddings, joined by
    embeddings of canonical pictures on request. A domain is found where the model puts it in words and pictures alike;
    a model trained on photos alone has no such place. An edit of the last layer.
    """

    needs: ClassVar = frozenset({"texts"})
    paper: ClassVar = "arXiv 2512.14113: modes and canonical images; its recipe is not published, the solve is ours"
    ceiling: ClassVar = "F2"
    tunable: ClassVar = {"strength": (0.05, 1.0)}

    mode: Literal["class", "class_in_domain", "domain_complete"] = "class"
    """The class in all domains; in one domain, spared in the others; or in one domain with whatever is left of it
    there, which costs the others more: `spare` counts a tenth."""

    domain: str | None = None
    """Word for the domain to forget in, such as sketch; for every mode but `class`."""

    domains: tuple[str, ...] = Field(default=("photo", "painting", "cartoon", "sketch"), min_length=1)
    """Words for the domains there are; the chosen one may be among them."""

    forms: tuple[str, ...] = Field(default=("a {domain} of a {name}.",), min_length=1)
    """Sentences that show a class in a domain, with {domain} and {name} once each."""

    strength: float = Field(default=0.9, gt=0, le=10)
    """Fall of the class's score on an image that reads as its prompts do; cosines before normalisation."""

    spare: float = Field(default=3.0, ge=0)
    """Weight of the class in other domains among what is held; more spares it and forgets less."""

    retain_weight: float = Field(default=3.0, ge=0)
    """Weight of every group of what is held against the length of u; more tells domains apart on finer signs."""

    canonical: Literal["none", "ascent"] = "none"
    """Whether pictures that the model makes of the class in every domain join the prompts. Needs gradients."""

    pictures: int = Field(default=4, ge=1, le=64)
    """Canonical pictures of each concept in each domain."""

    ascent: Ascent = Ascent()
    """How canonical pictures are made."""

    @field_validator("domain", "domains", mode="after")
    @classmethod
    def _check_words(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        words = [value] if isinstance(value, str) else list(value or ())
        for word in words:
            if not word.strip() or "{" in word or "}" in word:
                raise ValueError(f"{word!r} is no word for a domain")
        if len({key(word) for word in words}) < len(words):
            raise ValueError("a domain stands twice")
        return value

    @field_validator("forms", mode="after")
    @classmethod
    def _check_forms(cls, forms: tuple[str, ...]) -> tuple[str, ...]:
        for form in forms:
            if form.count("{domain}") != 1 or form.count("{name}") != 1:
                raise ValueError(f"{form!r} must hold {{domain}} and {{name}} once each")
        return forms

    def check(self, model: Model, request: Request) -> None:
        """Check the settings against each other, then what every method needs.

        Raises:
            SettingError: if the mode lacks a domain or another one to spare, or `class` has one.
            UnsupportedError: as every method does.
        """
        self._places()
        super().check(model, request)

    def forget(self, model: Model, request: Request) -> Patch:
        """Return one linear output map for the image tower, of rank one per concept.

        Raises:
            SettingError: if the mode lacks a domain or another one to spare, or `class` has one.
            UnsupportedError: if the model does not tell a name from one to retain, or the domain from all others; if
                canonical pictures are asked for and the model gives no gradients.
        """
        places = self._places()
        generator = torch.Generator().manual_seed(request.seed)
        maps = [self._rank_one(model, request, concept, places, generator) for concept in request.forget]
        down, up = torch.cat([one.down for one in maps], 1), torch.cat([one.up for one in maps])
        return Patch(outputs={"image": AffineMap(down=down, up=up)})

    def _places(self) -> tuple[str, ...]:
        """Return the domains, the chosen one first."""
        if self.mode == "class":
            if self.domain is not None:
                raise SettingError("Domain: mode=class forgets in every domain. Remove the domain or choose a mode.")
            return self.domains
        if self.domain is None:
            raise SettingError(f"Domain: mode={self.mode} needs a domain. Add one, for example --set domain=sketch.")
        others = tuple(word for word in self.domains if key(word) != key(self.domain))
        if not others:
            raise SettingError(f"Domain: '{self.domain}' is the only domain. Name others with domains.")
        return (self.domain, *others)

    def _rank_one(
        self, model: Model, request: Request, concept: Concept, places: Sequence[str], generator: torch.Generator
    ) -> AffineMap:
        others = [*request.retain, *(name for one in request.forget if one != concept for name in one.names)]
        own, rest = (self._shown(model, names, places) for names in (concept.names, others))
        plain = unit(name_rows(model, request, concept.names))
        held, weights = held_rows(model, request, plain, NAME_WEIGHT, BACKGROUND_WEIGHT)
        background = held[len(request.retain) :]
        self._check_apart(own, rest, (concept.names, others))
        shown = self._pictures(model, own[:1], rest, generator) if self.canonical == "ascent" else own[:0]
        reach = self._reach(torch.cat([own, shown]), rest, background)
        fall = -self.strength * reach
        moved = torch.cat([plain, own.flatten(0, 1)])
        held = torch.cat([held, rest.flatten(0, 1)])
        weights = torch.cat([weights, torch.full((rest[..., 0].numel(),), NAME_WEIGHT).to(weights)])
        # Every score of the class is to fall by z . fall, so W = I + fall w^T: z -> z + (z . fall) w.
        edit = ridge_edit(moved, moved + fall, held, forget_weight=FORGET_WEIGHT, retain_weight=weights)
        lowered = edit.reach @ (fall @ edit.shift) / (fall @ fall)
        return AffineMap(down=fall.float().unsqueeze(1), up=lowered.float().unsqueeze(0))

    def _reach(self, own: Tensor, rest: Tensor, background: Tensor) -> Tensor:
        """Return u [d]: 1 in the mean over what is to be forgotten, near 0 on what is held."""
        width = own.shape[-1]
        spare = self.spare * (COMPLETE if self.mode == "domain_complete" else 1.0)
        if self.mode == "class":
            moved, groups = own.reshape(-1, width), [(rest, 1.0)]
        else:
            moved, groups = own[:, 0], [(own[:, 1:], spare), (rest[:, :1], 1.0), (rest[:, 1:], 1.0)]
        flat = [(rows.reshape(-1, width), weight) for rows, weight in (*groups, (background, 1.0)) if rows.numel()]
        weights = [
            torch.full((len(rows),), self.retain_weight * weight / len(rows)).to(own.device) for rows, weight in flat
        ]
        held = torch.cat([rows for rows, _ in flat]) if flat else own.new_zeros((0, width))
        edit = ridge_edit(
            moved, moved, held, forget_weight=1.0, retain_weight=torch.cat(weights) if weights else self.retain_weight
        )
        reach = edit.reach.sum(1)
        return reach / (moved @ reach).mean()

    @torch.no_grad()
    def _shown(self, model: Model, names: Iterable[str], places: Sequence[str]) -> Tensor:
        """Return the unit rows of every name in every domain, the mean over the forms: [n, s, d] in float64."""
        words = list(names)
        sentences = [
            form.replace("{domain}", place).replace("{name}", name)
            for name in words
            for place in places
            for form in self.forms
        ]
        if not sentences:
            return unit(model.texts(["a"]).double())[:0].unsqueeze(1).expand(0, len(places), -1)
        rows = unit(model.texts(sentences).double())
        return unit(rows.view(len(words), len(places), len(self.forms), -1).mean(2))

    def _pictures(self, model: Model, own: Tensor, rest: Tensor, generator: torch.Generator) -> Tensor:
        """Return the unit embeddings of canonical pictures of the class in every domain: [p, s, d] in float64."""
        rows = torch.cat([own, rest]).flatten(0, 1)
        classes = Classes(rows=rows, wanted=tuple(range(own.shape[1])))
        made = synthesise(
            model, own[0].float(), classes=classes, count=self.pictures, settings=self.ascent, generator=generator
        )
        return unit(made.embeddings.double()).view(own.shape[1], self.pictures, -1).transpose(0, 1)

    def _check_apart(self, own: Tensor, rest: Tensor, names: tuple[Sequence[str], Sequence[str]]) -> None:
        """Check that the model tells the names from those to hold, and the chosen domain from the others."""
        distances = torch.cdist(own[:, 0], rest[:, 0])
        if distances.numel() and float(distances.min()) < SAME:
            place = int(distances.argmin())
            first, second = names[0][place // len(names[1])], names[1][place % len(names[1])]
            raise UnsupportedError(f"The model takes '{first}' and '{second}' for the same. Use other names.")
        if self.mode != "class" and float((own[:, 1:] - own[:, :1]).norm(dim=-1).amax()) < SAME:
            raise UnsupportedError(
                f"The model does not tell '{self.domain}' from the other domains. Use other words or mode=class."
            )
