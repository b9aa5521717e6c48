"""Sentences around names: template sets, other wordings of a name, its synonyms, and common nouns."""
