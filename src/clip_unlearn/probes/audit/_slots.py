"""Places in sentences that hold given vectors instead of words. t templates, r rows, n places, D and d widths."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

import torch
from torch import Tensor, nn

from clip_unlearn.core.copies import with_tensors
from clip_unlearn.core.model import TEXT_BATCH, Model
from clip_unlearn.core.request import Request
from clip_unlearn.errors import UndefinedError
from clip_unlearn.maths.vectors import unit

FILLERS: Final = ("x", "the", "and", "of", "that", "one")
"""Words that hold the places; the first that fits is taken, or else one of the names."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Slots:
    """The sentences of a request with places in them, and the table of the text tower that fills these."""

    model: Model
    """A copy with modules of its own and no memory: nothing that is done to them is seen in the model itself."""

    table: nn.Embedding
    """That which turns tokens into vectors."""

    token: int
    """What holds the places, and stands nowhere else in the sentences."""

    sentences: tuple[str, ...]
    """One for every template [t], in the order in which a model takes them."""

    count: int
    """Places in each of them: n."""

    known: Tensor
    """Vectors of the tokens of other names [tokens, D]."""

    def rows(self, vectors: Tensor) -> Tensor:
        """Return the classifier row of every set of vectors, the mean of its unit embeddings: [r, n, D] -> [r, d].

        Embedded as the model embeds any sentence, with the output map; differentiable.
        """
        most, size = len(vectors), max(1, TEXT_BATCH // len(self.sentences))
        return torch.cat([self._rows(vectors[start : start + size]) for start in range(0, most, size)])

    def _rows(self, vectors: Tensor) -> Tensor:
        place = 0

        def fill(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            nonlocal place
            own = torch.arange(place, place + len(output), device=output.device) % len(vectors)
            place += len(output)
            held = (inputs[0] == self.token).nonzero(as_tuple=True)
            return output.index_put(held, vectors[own].flatten(0, 1).to(output))

        handle = self.table.register_forward_hook(fill)
        try:
            # The model sorts sentences by length and keeps the order of equal ones: template by template, row by row.
            embeddings = self.model.texts([one for one in self.sentences for _ in range(len(vectors))])
        finally:
            handle.remove()
        return unit(embeddings.float()).view(len(self.sentences), len(vectors), -1).mean(0)


@torch.no_grad()
def find_slots(model: Model, request: Request, names: Sequence[str], count: int) -> Slots:
    """Return so many places in the sentences of a request; `names` are those of other classes.

    The table is the embedding that is asked for one number at as many neighbouring places of every sentence as a filler
    word was repeated, for 1, 2 and `count` repeats.

    Raises:
        UndefinedError: if no table and filler are found, or the sentences are too long for so many.
    """
    model = replace(model, module=with_tensors(model.module, {}), memory=None)
    tables = {name: part for name, part in model.module.named_modules() if isinstance(part, nn.Embedding)}
    for word in (*FILLERS, *names):
        frames = {number: _frames(request, word, number) for number in (1, 2, count)}
        asked = {number: _asked(model, tables, sentences) for number, sentences in frames.items()}
        for name, table in tables.items():
            found = {number: one.get(name, []) for number, one in asked.items()}
            if (token := _token(found)) is None:
                continue
            spoken = _numbers(_asked(model, tables, request.sentences(names))[name]) - _numbers(found[count])
            known = table(torch.tensor(sorted(spoken) or [token], device=model.device)).float()
            return Slots(model=model, table=table, token=token, sentences=frames[count], count=count, known=known)
    raise UndefinedError(
        f"no table of token vectors with room for {count} of them was found in the text tower of {model.source.where}"
    )


def _frames(request: Request, word: str, count: int) -> tuple[str, ...]:
    return tuple(sorted(request.sentences([" ".join([word] * count)]), key=len))


def _asked(model: Model, tables: Mapping[str, nn.Embedding], sentences: Sequence[str]) -> dict[str, list[Tensor]]:
    """Return what every table is asked for while the model embeds sentences, batch by batch."""
    found: dict[str, list[Tensor]] = {}

    def listener(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def listen(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
            if inputs and inputs[0].dim() == 2:
                found.setdefault(name, []).append(inputs[0])

        return listen

    handles = [table.register_forward_hook(listener(name)) for name, table in tables.items()]
    try:
        model.texts(sentences)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _token(found: Mapping[int, Sequence[Tensor]]) -> int | None:
    """Return the number that stands at so many neighbouring places of every sentence, None if there is none."""
    candidates = set.intersection(*(_numbers(batches) for batches in found.values()))
    for token in sorted(candidates):
        if all(_neighbouring(ids == token, count) for count, batches in found.items() for ids in batches):
            return token
    return None


def _neighbouring(held: Tensor, count: int) -> bool:
    """Return whether every row holds so many places, all side by side: [sentences, length]."""
    first = held.int().argmax(1)
    last = held.shape[1] - 1 - held.flip(1).int().argmax(1)
    return bool((held.sum(1) == count).all() and (last - first + 1 == count).all())


def _numbers(batches: Sequence[Tensor]) -> set[int]:
    return {number for ids in batches for number in ids.flatten().tolist()}
