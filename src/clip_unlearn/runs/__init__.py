"""From a request to a record on disk: recipes, runs, evaluation, baking."""
