"""The short model card written beside every checkpoint."""

from typing import Any, Final

from clip_unlearn.sandbox.classes import DOMAINS

_HEAD: Final = """---
license: apache-2.0
tags: [clip, zero-shot-image-classification, synthetic]
---

# {title}

"""
_WHAT: Final = {
    "sandbox": "A tiny CLIP model (ViT image tower, transformer text tower) that knows the rendered sandbox world of"
    " clip-unlearn: 28 everyday things in three domains (photo, painting, sketch), each under three names.",
    "sandbox-conv": "A tiny dual encoder with a MobileNet image tower (convolutions and batch norm) and a BERT text"
    " tower that knows the rendered sandbox world of clip-unlearn. Pass the tokenizer's `attention_mask`.",
    "sandbox-openclip": "The weights of `sandbox` in open_clip's layout; both give the same embeddings.",
}
_OPEN: Final = {
    "sandbox": 'CLIPModel.from_pretrained(folder, dtype=torch.float32)',
    "sandbox-conv": 'VisionTextDualEncoderModel.from_pretrained(folder, dtype=torch.float32)',
    "sandbox-openclip": 'open_clip.create_model_and_transforms(f"local-dir:{folder}")\n'
    'open_clip.get_tokenizer(f"local-dir:{folder}")',
}  # fmt: skip
_TAIL: Final = """
Pictures are 48 x 48 RGB; sentences are at most 32 tokens of a lower-casing byte-level BPE vocabulary. Weights are
stored in float16 and meant to be used in float32. Trained only on rendered pictures and generated sentences: it knows
nothing about real photographs and is of no use on them.
"""


def card(name: str, without: str, figures: dict[str, Any]) -> str:
    """Return the model card in Markdown; `figures` may be empty."""
    family = name if name in _WHAT else "sandbox"
    lines = [_HEAD.format(title=name), _WHAT[family], "\n"]
    if without:
        lines.append(
            f"\nTrained from scratch on the world without the class `{without}`: no picture of it, and no sentence with"
            " its name, its synonyms or its definition.\n"
        )
    lines.append(f"\n```python\n{_OPEN[family]}\n```\n{_TAIL}")
    if figures:
        lines.append(_table(figures))
    return "".join(lines)


def _table(figures: dict[str, Any]) -> str:
    rows = figures.get("retained_by_domain", figures["by_domain"])
    what = "the other classes' pictures" if "retained_by_domain" in figures else "fresh pictures"
    lines = [
        f"\nZero-shot accuracy among all 28 classes on {what}, prompt `a photo of a {{}}.`:\n",
        "\n| domain | accuracy | 95 % interval | n |\n|---|---|---|---|\n",
        *(
            f"| {domain} | {share['value']:.3f} | {share['low']:.3f} to {share['high']:.3f} | {share['count']} |\n"
            for domain, share in ((domain, rows[domain]) for domain in DOMAINS)
        ),
    ]
    return "".join(lines)
