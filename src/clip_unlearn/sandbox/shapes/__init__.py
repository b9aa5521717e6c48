"""One file per group of classes; each function returns the parts of one drawn object."""
