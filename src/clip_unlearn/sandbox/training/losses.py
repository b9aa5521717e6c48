"""Training losses on unit embeddings.

Dimensions: n pictures, m captions, k classes, d embedding width.
"""

import torch
from torch.nn.functional import cross_entropy, log_softmax


def contrastive_loss(
    images: torch.Tensor, texts: torch.Tensor, matches: torch.Tensor, logit_scale: torch.Tensor
) -> torch.Tensor:
    """Return the symmetric contrastive loss where a picture may match many captions and a caption many pictures.

    Each row's target is uniform over its matches [m, n]; pictures without any are left out.
    """
    logits = logit_scale.exp() * texts @ images.T
    return (_spread(logits, matches) + _spread(logits.T, matches.T)) / 2


def name_loss(
    images: torch.Tensor, names: torch.Tensor, labels: torch.Tensor, logit_scale: torch.Tensor
) -> torch.Tensor:
    """Return the cross-entropy of choosing the right class by its embedded sentence; names [k, d], labels [n]."""
    return cross_entropy(logit_scale.exp() * images @ names.T, labels, label_smoothing=0.02)


def copy_loss(images: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the mean of 1 - cosine between unit embeddings."""
    return 1 - (images * wanted).sum(dim=1).mean()


def _spread(logits: torch.Tensor, matches: torch.Tensor) -> torch.Tensor:
    weights = matches.float()
    totals = weights.sum(dim=1)
    kept = totals > 0
    target = weights[kept] / totals[kept, None]
    return -(target * log_softmax(logits[kept], dim=1)).sum(dim=1).mean()
