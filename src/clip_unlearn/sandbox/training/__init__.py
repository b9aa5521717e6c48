"""How the models of the sandbox are trained, measured and written."""
