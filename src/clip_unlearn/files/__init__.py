"""Safe paths, atomic writes, checked safetensors and digests: the only way to the disk."""
