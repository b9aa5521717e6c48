"""Every family gives what its own library gives: logits, lengths of text, checkpoints."""

from typing import Any

import pytest
import torch
from torch import Tensor

from clip_unlearn.models.open import open_model

SENTENCES = ["a photo of a cat.", "dog", "a very very old picture of the big red teapot", "mug drawing"]
OVERLONG = "a photo of the very old big red teapot . a photo of the very old big red teapot . a cat"


def is_hugging_face(tiny: Any) -> bool:
    return tiny.model.adapter.family == "hf_clip"


def features(output: Any) -> Tensor:
    """Return the tensor of a feature call: itself in transformers 4, inside an output in 5."""
    return output if isinstance(output, Tensor) else output.pooler_output


def library_tokens(tiny: Any, sentences: list[str], **padding: Any) -> Any:
    if is_hugging_face(tiny):
        padding = padding or {"padding": "max_length"}
        return dict(tiny.tokenizer(sentences, truncation=True, return_tensors="pt", **padding))
    return tiny.tokenizer(sentences)


def library_texts(tiny: Any, module: Any, sentences: list[str]) -> Tensor:
    tokens = library_tokens(tiny, sentences)
    return features(module.get_text_features(**tokens)) if is_hugging_face(tiny) else module.encode_text(tokens)


@torch.no_grad()
def library_logits(tiny: Any, module: Any, pixels: Tensor) -> Tensor:
    """Return logits by nothing but the library: its feature calls, its scale, full padding."""
    texts = library_texts(tiny, module, SENTENCES)
    images = (
        features(module.get_image_features(pixel_values=pixels))
        if is_hugging_face(tiny)
        else module.encode_image(pixels)
    )
    normalise = torch.nn.functional.normalize
    return module.logit_scale.exp() * normalise(images) @ normalise(texts).T


def agree(first: Tensor, second: Tensor) -> None:
    assert first.shape == second.shape
    assert float((first - second).abs().max()) <= 1e-5


def test_logits_are_the_librarys(tiny, pixels):
    agree(tiny.model.logits(pixels, SENTENCES), library_logits(tiny, tiny.module, pixels))


@torch.no_grad()
def test_logits_are_those_of_the_joint_forward(tiny, pixels):
    tokens = library_tokens(tiny, SENTENCES)
    if not is_hugging_face(tiny):
        images, texts, scale = tiny.module(pixels, tokens)
        expected = scale * images @ texts.T
    elif type(tiny.module).__name__ == "CLIPModel":
        expected = tiny.module(pixel_values=pixels, **tokens).logits_per_image
    else:
        pytest.skip("transformers 4 cannot run this pair of towers in one call; the feature calls are tested above")
    agree(tiny.model.logits(pixels, SENTENCES), expected)


def test_the_scores_are_no_constant(tiny, pixels):
    """Random weights can hide a wrong pixel or text path behind equal numbers."""
    embeddings = torch.cat([tiny.model.images(pixels), tiny.model.texts(SENTENCES)])
    distances = torch.cdist(embeddings, embeddings) + torch.eye(len(embeddings))
    assert float(distances.min()) > 1e-3


@pytest.mark.parametrize("sentence", SENTENCES)
def test_padding_to_the_text_is_padding_to_the_context(tiny, sentence):
    agree(tiny.model.texts([sentence]), library_texts(tiny, tiny.module, [sentence]))


def test_a_short_text_beside_a_long_one_keeps_its_embedding(tiny):
    agree(tiny.model.texts(["cat", OVERLONG])[:1], tiny.model.texts(["cat"]))


def test_an_overlong_text_is_cut_as_the_library_cuts_it(tiny):
    agree(tiny.model.texts([OVERLONG]), library_texts(tiny, tiny.module, [OVERLONG]))
    ids = tiny.model.adapter.tokenize([OVERLONG])["input_ids"]
    library = library_tokens(tiny, [OVERLONG])
    assert torch.equal(ids, library["input_ids"] if is_hugging_face(tiny) else library)


def test_pictures_are_prepared_as_the_library_does(tiny):
    from PIL import Image

    noise = torch.randint(0, 256, (40, 70, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pictures = [Image.fromarray(noise.numpy()), Image.fromarray(noise.numpy()).convert("L").convert("RGBA")]
    prepared = tiny.model.adapter.prepare(pictures)
    assert prepared.shape == (2, 3, 32, 32)
    if is_hugging_face(tiny):
        expected = tiny.processor(images=[picture.convert("RGB") for picture in pictures], return_tensors="pt")
        assert torch.equal(prepared, expected["pixel_values"])
    else:
        assert torch.equal(prepared, torch.stack([tiny.processor(picture) for picture in pictures]))


def test_the_module_is_set_to_evaluation_without_gradients(tiny):
    assert not tiny.module.training
    assert not any(weight.requires_grad for weight in tiny.module.parameters())


def test_the_folder_opens_to_the_same_model(tiny, pixels):
    model = open_model(tiny.folder)
    assert model.encoder_fingerprint == tiny.model.encoder_fingerprint
    assert model.adapter.preparation == open_model(tiny.folder).adapter.preparation
    agree(model.logits(pixels, SENTENCES), tiny.model.logits(pixels, SENTENCES))


def test_an_edited_model_is_saved_as_an_ordinary_checkpoint(tiny, pixels, tmp_path):
    """The stock library opens what was saved, and gives the logits of the edit."""
    name = tiny.model.adapter.image.readout.weight
    noise = torch.randn(tiny.model.weights[name].shape, generator=torch.Generator().manual_seed(1))
    edited = tiny.model.replace({name: tiny.model.weights[name] + noise})
    edited.adapter.save(edited.module, tmp_path)
    reopened = reopen(tiny, tmp_path)
    logits = library_logits(tiny, reopened, pixels)
    agree(logits, edited.logits(pixels, SENTENCES))
    assert float((logits - tiny.model.logits(pixels, SENTENCES)).abs().max()) > 0.01


def reopen(tiny: Any, folder: Any) -> Any:
    if is_hugging_face(tiny):
        return type(tiny.module).from_pretrained(folder, dtype=torch.float32).eval()
    import open_clip

    return open_clip.create_model_and_transforms(f"local-dir:{folder}")[0].eval()


def test_a_loaded_module_opens_with_its_tokenizer_and_processor(tiny, pixels):
    model = open_model(tiny.module, tokenizer=tiny.tokenizer, processor=tiny.processor)
    assert model.source.where == type(tiny.module).__name__
    assert torch.equal(model.logits(pixels, SENTENCES), tiny.model.logits(pixels, SENTENCES))
