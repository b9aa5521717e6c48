"""Pictures that a model makes of a name by itself, for methods that have no images of it."""
