"""Other ways to write a name: plural and misspellings. Deterministic: the same name gives the same wordings."""

from typing import Final

_VOWELS: Final = "aeiou"


def plural(name: str) -> str:
    """Return the regular English plural of the last word of a name."""
    *front, last = name.split(" ")
    if last.endswith(("s", "x", "z", "ch", "sh")):
        last += "es"
    elif len(last) > 1 and last.endswith("y") and last[-2] not in _VOWELS:
        last = f"{last[:-1]}ies"
    else:
        last += "s"
    return " ".join([*front, last])


def misspellings(name: str) -> tuple[str, ...]:
    """Return up to four misspellings at edit distance 1 or 2: a letter lost, doubled, two swapped, a vowel replaced.

    All happen near the middle of the longest word, where people misspell most and recognition suffers least.
    """
    word = max(name.split(" "), key=len)
    middle = len(word) // 2
    changed = [
        word[:middle] + word[middle + 1 :],
        word[:middle] + word[middle] + word[middle:],
        word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :] if middle else word,
        _other_vowel(word),
    ]
    made = dict.fromkeys(name.replace(word, wrong, 1) for wrong in changed if wrong not in ("", word))
    return tuple(made)


def _other_vowel(word: str) -> str:
    for place, letter in enumerate(word):
        if letter in _VOWELS:
            return word[:place] + _VOWELS[(_VOWELS.index(letter) + 1) % len(_VOWELS)] + word[place + 1 :]
    return word
