"""The door of the model libraries: everything that knows transformers or open_clip by name lives here."""
