"""Sentences around names: template sets, other wordings of a name, and a list of common nouns."""
