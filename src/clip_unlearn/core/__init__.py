"""The six nouns: Model, Request, Method, Patch, Probe, Record."""
