"""Step size over a run: a short linear rise, then a cosine fall to zero."""

import math

import torch


def set_rate(optimizer: torch.optim.Optimizer, peak: float, progress: float, rise: float = 0.08) -> None:
    """Set the step size for a `progress` from 0 to 1."""
    rate = (
        peak * progress / rise
        if progress < rise
        else peak * 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))
    )
    for group in optimizer.param_groups:
        group["lr"] = rate


def make_optimizer(module: torch.nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW over the trainable parameters; vectors and scalars are not decayed."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98))


def take_step(module: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Move the trainable weights down the gradient of the loss, its norm cut at 1."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
