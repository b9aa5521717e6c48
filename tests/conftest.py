"""Shared ground of all tests: offline, one thread, tiny models of every family built in code."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

CACHE = tempfile.mkdtemp(prefix="clip-unlearn-tests-")
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", CLIP_UNLEARN_CACHE=CACHE)

import hypothesis
import pytest
import torch
from torch import nn

from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Source

torch.set_num_threads(1)
hypothesis.settings.register_profile("suite", max_examples=40, deadline=None, database=None)
hypothesis.settings.load_profile("suite")

VOCABULARY = "a photo of the cat dog teapot red mug bird car very old big small picture drawing . one"
CONTEXT = 16
WIDTH = 16
PIXELS = 32


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """A randomly initialised model of one family: wrapped, as the library's own objects, and as a folder."""

    model: Model
    module: nn.Module
    tokenizer: Any
    processor: Any
    folder: Path


def pytest_unconfigure() -> None:
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Make every connection raise, except to this machine."""
    real = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}

    def guarded(name: str) -> Any:
        def call(self: socket.socket, address: Any) -> Any:
            if self.family != getattr(socket, "AF_UNIX", None) and not _is_local(address[0]):
                raise AssertionError(f"a test opens a connection to {address[0]}")
            return real[name](self, address)

        return call

    with pytest.MonkeyPatch.context() as patcher:
        for name in real:
            patcher.setattr(socket.socket, name, guarded(name))
        yield


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in {"", "localhost"}


@pytest.fixture(scope="session")
def yardsticks() -> Path:
    """Return the folder with `models/` and `data/` that CLIP_UNLEARN_YARDSTICKS names, or skip."""
    where = os.environ.get("CLIP_UNLEARN_YARDSTICKS")
    if not where:
        pytest.skip("CLIP_UNLEARN_YARDSTICKS is not set: a folder with models/ and data/ of real pictures")
    folder = Path(where)
    for part in ("models", "data"):
        if not (folder / part).is_dir():
            pytest.skip(f"CLIP_UNLEARN_YARDSTICKS has no folder {part}/")
    return folder


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Return a `CLIPModel` of transformers with two layers per tower."""
    from transformers import CLIPConfig, CLIPModel

    from clip_unlearn.models import hf_clip

    tokenizer = _tokenizer()
    config = CLIPConfig(
        text_config={
            **_layers(),
            "vocab_size": len(tokenizer),
            "max_position_embeddings": CONTEXT,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={**_layers(), "image_size": PIXELS, "patch_size": 16},
        projection_dim=WIDTH,
        logit_scale_init_value=3.0,
    )
    with _seeded(1):
        module = CLIPModel(config)
    return _hugging_face(hf_clip, module, tokenizer, tmp_path_factory.mktemp("tiny-clip"))


@pytest.fixture(scope="session")
def tiny_dual(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Return a `VisionTextDualEncoderModel`: a MobileNetV2 beside a BERT."""
    from transformers import BertConfig, MobileNetV2Config, VisionTextDualEncoderConfig, VisionTextDualEncoderModel

    from clip_unlearn.models import hf_clip

    tokenizer = _tokenizer()
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        MobileNetV2Config(image_size=PIXELS, depth_multiplier=0.25, finegrained_output=False, hidden_size=320),
        BertConfig(
            **_layers(),
            vocab_size=len(tokenizer),
            max_position_embeddings=CONTEXT,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.3,
        ),
        projection_dim=WIDTH,
        logit_scale_init_value=3.0,
    )
    with _seeded(2):
        module = VisionTextDualEncoderModel(config)
        # One pass in training mode: batch norms with their initial statistics let the signal vanish.
        module.vision_model.train()(pixel_values=torch.randn(16, 3, PIXELS, PIXELS))
        nn.init.normal_(module.visual_projection.weight, std=0.3)
    return _hugging_face(hf_clip, module, tokenizer, tmp_path_factory.mktemp("tiny-dual"))


@pytest.fixture(scope="session")
def tiny_openclip(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Return a `CLIP` of open_clip, with the text tower inside it."""
    return _open_clip("CLIP", tmp_path_factory.mktemp("tiny-openclip"), seed=3)


@pytest.fixture(scope="session")
def tiny_openclip_custom(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Return a `CustomTextCLIP` of open_clip, with the text tower beside it."""
    return _open_clip("CustomTextCLIP", tmp_path_factory.mktemp("tiny-custom"), seed=4)


@pytest.fixture(params=["tiny_clip", "tiny_dual", "tiny_openclip", "tiny_openclip_custom"])
def tiny(request: pytest.FixtureRequest) -> Tiny:
    """Return each of the tiny models in turn."""
    found: Tiny = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def pixels() -> torch.Tensor:
    """Return random pixels that every tiny model takes: [5, 3, 32, 32]."""
    return torch.randn(5, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(5))


def _layers() -> dict[str, int]:
    return {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


class _seeded:
    """Library constructors draw from the global state; this puts it back afterwards."""

    def __init__(self, seed: int) -> None:
        self.seed, self.fork = seed, torch.random.fork_rng(devices=[])

    def __enter__(self) -> None:
        self.fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *problem: Any) -> None:
        self.fork.__exit__(*problem)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<start>", "<end>"]
    words = {word: index for index, word in enumerate([*special, *VOCABULARY.split()])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", words["<start>"]), ("<end>", words["<end>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
        model_max_length=CONTEXT,
        model_input_names=["input_ids", "attention_mask"],
    )


def _hugging_face(door: Any, module: Any, tokenizer: Any, folder: Path) -> Tiny:
    from transformers import CLIPImageProcessor

    processor = CLIPImageProcessor(size={"shortest_edge": PIXELS}, crop_size={"height": PIXELS, "width": PIXELS})
    model = door.wrap(module, tokenizer, processor, source=Source(where=type(module).__name__))
    model.adapter.save(module, folder)
    return Tiny(model=model, module=module, tokenizer=tokenizer, processor=processor, folder=folder)


def _open_clip(kind: str, folder: Path, *, seed: int) -> Tiny:
    open_clip = pytest.importorskip("open_clip")
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from clip_unlearn.models import openclip

    settings = {
        "embed_dim": WIDTH,
        "vision_cfg": {"image_size": PIXELS, "layers": 2, "width": 24, "head_width": 12, "patch_size": 16},
        "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2},
        **({"custom_text": True} if kind == "CustomTextCLIP" else {}),
    }
    arguments = {name: value for name, value in settings.items() if name != "custom_text"}
    with _seeded(seed):
        module = getattr(open_clip, kind)(**arguments)
    with torch.no_grad():
        module.logit_scale.fill_(3.0)
    preprocessing = PreprocessCfg(size=PIXELS)
    module.visual.preprocess_cfg = vars(preprocessing)
    transform = image_transform_v2(preprocessing, is_train=False)
    tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT)
    model = openclip.wrap(module, tokenizer, transform, source=Source(where=kind), config=settings)
    model.adapter.save(module, folder)
    return Tiny(model=model, module=module, tokenizer=tokenizer, processor=transform, folder=folder)
