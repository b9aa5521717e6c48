"""Models trained on real pictures give the logits of the stock library, where they are at hand."""

import json

import pytest
import torch

from clip_unlearn.models.open import open_model

SENTENCES = ["a photo of a cat.", "a photo of a very old grand piano in a garden.", "dog"]

pytestmark = pytest.mark.yardstick


def tensor(output):
    return output if isinstance(output, torch.Tensor) else output.pooler_output


@torch.no_grad()
def test_logits_are_the_librarys(yardsticks):
    import transformers

    folders = sorted(path.parent for path in (yardsticks / "models").glob("*/config.json"))
    assert folders
    for folder in folders:
        model = open_model(folder)
        kind = json.loads((folder / "config.json").read_text())["architectures"][0]
        module = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        space = model.adapter.pixels
        noise = torch.randn(4, 3, space.height, space.width, generator=torch.Generator().manual_seed(0))
        accepted = {"input_ids", "attention_mask"}
        tokens = tokenizer(SENTENCES, padding="max_length", truncation=True, max_length=40, return_tensors="pt")
        texts = tensor(module.get_text_features(**{name: tokens[name] for name in accepted}))
        images = tensor(module.get_image_features(pixel_values=noise))
        normalise = torch.nn.functional.normalize
        expected = module.logit_scale.exp() * normalise(images) @ normalise(texts).T
        # Logits reach 50; float32 sums of this length differ in the sixth digit with the order of summation.
        torch.testing.assert_close(model.logits(noise, SENTENCES), expected, rtol=1e-5, atol=1e-4)
