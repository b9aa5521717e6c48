"""What is installed, cached and available on this machine."""

import importlib.util
import os
import platform
import shutil
from pathlib import Path

import torch

from clip_unlearn.core.versions import LIBRARIES, library_versions, version
from clip_unlearn.files.paths import cache_folder
from clip_unlearn.sandbox import bundle

EXTRAS = {
    "openclip": "open_clip",
    "data": "pyarrow",
    "peft": "peft",
    "report": "plotly",
    "ui": "gradio",
    "diffusion": "diffusers",
    "scale": "ray",
    "wordnet": "nltk",
    "tune": "optuna",
}


def examine() -> dict[str, dict[str, str]]:
    """Return findings by title: package, libraries, extras, machine, caches, hub."""
    return {
        "package": {"clip-unlearn": version(), "python": platform.python_version()},
        "libraries": library_versions(LIBRARIES),
        "extras": {extra: _extra(extra, module) for extra, module in EXTRAS.items()},
        "machine": _machine(),
        "caches": _caches(),
        "cached hub models": _hub_models(),
        "embedded models": dict.fromkeys(bundle.names(), "ready"),
    }


def _extra(extra: str, module: str) -> str:
    found = importlib.util.find_spec(module) is not None
    return "installed" if found else f"missing: pip install 'clip-unlearn[{extra}]'"


def _machine() -> dict[str, str]:
    free = shutil.disk_usage(Path.cwd()).free
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "threads": str(torch.get_num_threads()),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "free disk here": f"{free / 1e9:.1f} GB",
    }


def _caches() -> dict[str, str]:
    folder = cache_folder()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    offline = os.environ.get("HF_HUB_OFFLINE", "not set")
    return {"embeddings": f"{folder} ({size / 1e6:.1f} MB)", "HF_HUB_OFFLINE": offline}


def _hub_models() -> dict[str, str]:
    import huggingface_hub
    from huggingface_hub.errors import CacheNotFound

    try:
        found = huggingface_hub.scan_cache_dir()
    except CacheNotFound:
        return {"none": "no hub cache on this machine"}
    models = [repository for repository in found.repos if repository.repo_type == "model"]
    return {one.repo_id: f"{one.size_on_disk / 1e6:.0f} MB" for one in sorted(models, key=lambda one: one.repo_id)}
