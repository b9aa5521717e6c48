"""An immutable dual encoder. Dimensions: n samples, d embedding width, D feature width."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar, final
from weakref import WeakKeyDictionary

import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.functional import linear

from clip_unlearn.core.copies import named_tensors, with_tensors
from clip_unlearn.core.record import Source
from clip_unlearn.files import digest
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.scores import cosines

TowerName: TypeAlias = Literal["image", "text"]
Tokens: TypeAlias = Mapping[str, Tensor]

InputType = TypeVar("InputType")

TEXT_BATCH = 256


@final
@dataclass(frozen=True, kw_only=True)
class Readout:
    """The last linear layer of a tower, by the names of its weights.

    `transposed` is False for a weight [d, D] used as h W^T, True for a weight [D, d] used as h W.
    """

    weight: str
    bias: str | None = None
    transposed: bool = False

    def of(self, features: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Return h W^T + b of features, by named weights: [n, D] -> [n, d]."""
        weight, bias = weights[self.weight], None if self.bias is None else weights[self.bias]
        return linear(features, weight.T if self.transposed else weight, bias)


@final
@dataclass(frozen=True, kw_only=True)
class Tower(Generic[InputType]):
    """How one encoder of a family is run. Inputs are a pixel batch or a token batch.

    `embed` is the library's own path to the embedding; `features` stops before the readout and is None where the
    library cannot; `readout` is None where the tower does not end in a linear layer.
    """

    embed: Callable[[nn.Module, InputType], Tensor]
    features: Callable[[nn.Module, InputType], Tensor] | None = None
    readout: Readout | None = None


@final
@dataclass(frozen=True, kw_only=True)
class PixelSpace:
    """The pixels that an image tower takes: their size, and how pixels in [0, 1] are normalised per channel."""

    height: int
    width: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return (pixels - mean) / deviation for pixels in [0, 1]; differentiable. [n, 3, height, width] both."""
        mean, deviation = (torch.tensor(values).to(pixels).view(-1, 1, 1) for values in (self.mean, self.deviation))
        return (pixels - mean) / deviation


@final
@dataclass(frozen=True, kw_only=True)
class Adapter:
    """Everything a family of models does in its own way; written once per family, in `models/`."""

    family: str
    image: Tower[Tensor]
    text: Tower[Tokens]
    tokenize: Callable[[Sequence[str]], Tokens]
    """Sentences to one token batch, padded to the longest of them."""

    prepare: Callable[[Sequence[Image]], Tensor]
    """Pictures to pixels [n, 3, height, width], as the library's own preprocessing does it."""

    pixels: PixelSpace
    """What `prepare` makes; for methods that make pictures of their own."""

    preparation: str
    """Digest of the preprocessing settings; part of every cache key."""

    save: Callable[[nn.Module, Path], None]
    """Write an ordinary checkpoint of the family into a folder."""

    logit_scale: str | None = "logit_scale"
    """Name of the weight that holds the logarithm of the logit scale; None for families that use plain cosines."""

    logit_bias: str | None = None
    """Name of the weight that is added to all logits, in families trained with a sigmoid loss."""


class TextMemory(Protocol):
    """Rows of sentences that a text tower gave before."""

    def rows(
        self, model: "Model", sentences: Sequence[str], encode: Callable[[nn.Module, Tokens], Tensor], *, below: bool
    ) -> Tensor:
        """Return what `encode` gives for sentences, from memory where they were asked before."""
        ...


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """An immutable dual encoder: pictures and sentences to one shared space.

    Editing returns a new Model that shares every untouched tensor with this one, so the way back is to drop the copy.
    """

    module: nn.Module
    adapter: Adapter
    source: Source
    outputs: Mapping[TowerName, AffineMap] = field(default_factory=dict)
    """Maps applied to the embeddings, for edits that no weight of the family can hold."""

    memory: "TextMemory | None" = None
    """Sentences that were embedded before; see `core.text_memory`."""

    digests: "WeakKeyDictionary[nn.Module, dict[frozenset[str], tuple[tuple[int, ...], str]]]" = field(
        default_factory=WeakKeyDictionary, repr=False
    )
    """For some weights of a module, how often each was written to and their digest; models made from this one share
    it."""

    def images(self, pixels: Tensor) -> Tensor:
        """Return the embeddings of a pixel batch [n, 3, height, width], not normalised: [n, d]."""
        # Convolutions of processors run faster on pixels that lie together by place; transformers do not mind.
        there = pixels.to(self._reference)
        there = there.contiguous(memory_format=torch.channels_last) if there.dim() == 4 else there
        return self._mapped("image", self.adapter.image.embed(self.module, there))

    def texts(self, sentences: Sequence[str]) -> Tensor:
        """Return the embeddings of sentences, not normalised: [n, d]."""
        memory, embed = self._recalling, self.adapter.text.embed
        if memory is None:
            return self._mapped("text", self.encode_texts(embed, sentences))
        if self.adapter.text.features is None or self.adapter.text.readout is None:
            return self._mapped("text", memory.rows(self, sentences, embed, below=False))
        return self.read_out("text", memory.rows(self, sentences, self.adapter.text.features, below=True))

    def image_features(self, pixels: Tensor) -> Tensor | None:
        """Return what the image tower holds before its readout, [n, D], or None where the family cannot tell."""
        features = self.adapter.image.features
        return None if features is None else features(self.module, pixels.to(self._reference))

    def text_features(self, sentences: Sequence[str]) -> Tensor | None:
        """Return what the text tower holds before its readout, [n, D], or None where the family cannot tell."""
        features, memory = self.adapter.text.features, self._recalling
        if features is None:
            return None
        if memory is None:
            return self.encode_texts(features, sentences)
        return memory.rows(self, sentences, features, below=True)

    def encode_texts(self, encode: Callable[[nn.Module, Tokens], Tensor], sentences: Sequence[str]) -> Tensor:
        """Return what a function of the text tower gives for sentences, one row each.

        Each batch is padded to its own longest sentence, and sentences are sorted by length first, so that short
        texts do not pay for long ones.
        """
        order = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))
        parts = []
        for start in range(0, len(order), TEXT_BATCH):
            tokens = self.adapter.tokenize([sentences[index] for index in order[start : start + TEXT_BATCH]])
            parts.append(encode(self.module, {name: value.to(self.device) for name, value in tokens.items()}))
        back = torch.tensor(order, device=self.device).argsort()
        return torch.cat(parts)[back]

    def read_out(self, tower: TowerName, features: Tensor) -> Tensor:
        """Return the embeddings of features before the readout: h W^T + b, then the output map. [n, D] -> [n, d].

        Raises:
            ValueError: if the tower does not end in a linear layer.
        """
        readout = self.readout(tower)
        if readout is None:
            raise ValueError(f"the {tower} tower has no readout")
        return self._mapped(tower, readout.of(features, self.weights))

    def logits(self, pixels: Tensor, sentences: Sequence[str]) -> Tensor:
        """Return exp(logit_scale) * cosine + logit_bias of every picture with every sentence: [n, k]."""
        bias = self.adapter.logit_bias
        offset = 0.0 if bias is None else float(self.weights[bias].detach())
        return self.logit_scale * cosines(self.images(pixels), self.texts(sentences)) + offset

    @cached_property
    def weights(self) -> Mapping[str, Tensor]:
        """Return every weight by the name it has in the family's checkpoint files."""
        return named_tensors(self.module)

    @property
    def logit_scale(self) -> float:
        """Return the factor on cosines, exp of the stored logarithm; 100 in most published models, 1 without one."""
        name = self.adapter.logit_scale
        return 1.0 if name is None else float(self.weights[name].detach().float().exp())

    def replace(
        self, weights: Mapping[str, Tensor] | None = None, outputs: Mapping[TowerName, AffineMap] | None = None
    ) -> "Model":
        """Return a model with other weights or output maps; everything not named is shared with this one.

        Raises:
            KeyError: if a weight name is unknown.
            ValueError: if a shape differs.
        """
        module = with_tensors(self.module, weights) if weights else self.module
        return replace(self, module=module, outputs=self.outputs if outputs is None else outputs)

    def digest_of(self, names: Collection[str]) -> str:
        """Return the SHA-256 over names, formats, shapes and bytes of some weights."""
        written = tuple(self.weights[name]._version for name in names)
        known, some = self.digests.setdefault(self.module, {}), frozenset(names)
        if some not in known or known[some][0] != written:
            own = digest.of_bytes(*(_weight_bytes(name, self.weights[name]) for name in sorted(some)))
            known[some] = (written, own)
        return known[some][1]

    @cached_property
    def encoder_fingerprint(self) -> str:
        """Return the SHA-256 over names, formats, shapes and bytes of all weights, without output maps."""
        return self.digest_of(self.weights)

    @cached_property
    def fingerprint(self) -> str:
        """Return the SHA-256 over all weights and output maps: equal when the models act alike."""
        parts = [self.encoder_fingerprint.encode()]
        for tower, output in sorted(self.outputs.items()):
            for name, tensor in (("down", output.down), ("up", output.up), ("offset", output.offset)):
                if tensor is not None:
                    parts.append(_weight_bytes(f"{tower}.{name}", tensor))
        return parts[0].decode() if len(parts) == 1 else digest.of_bytes(*parts)

    def readout(self, tower: TowerName) -> Readout | None:
        """Return the last linear layer of a tower, or None where it does not end in one."""
        return self.adapter.image.readout if tower == "image" else self.adapter.text.readout

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return self._reference.device

    @property
    def _reference(self) -> Tensor:
        return next(self.module.parameters())

    def _mapped(self, tower: TowerName, embeddings: Tensor) -> Tensor:
        output = self.outputs.get(tower)
        return embeddings if output is None else output(embeddings)

    @property
    def _recalling(self) -> "TextMemory | None":
        """Return the memory where it may be used: not for rows that a gradient goes through, nor in autocast."""
        live = torch.is_grad_enabled() or torch.is_autocast_enabled(self.device.type)
        return None if live else self.memory


def _weight_bytes(name: str, tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    head = f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode()
    return head + flat.view(torch.uint8).numpy().tobytes()
