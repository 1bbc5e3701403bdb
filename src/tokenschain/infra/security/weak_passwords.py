"""Weak passwords: what guessing programs try first, by rule instead of by a list of millions.

A password is refused that is, but for digits and marks around it and letters that look like
others, made of usual words; a walk along the keyboard or the alphabet; or few characters again
and again.
"""

from __future__ import annotations

import re
import string

DISTINCT_MIN = 5
LETTERS_MIN = 3
"""Beside walks along the keyboard."""
_ALIKE = str.maketrans("@4310$57!", "aaeiossti")
_WORDS = (
    "password", "passwort", "passwd", "pass", "admin", "administrator", "root", "user", "guest",
    "test", "demo", "default", "login", "welcome", "letmein", "changeme", "changeit", "secret",
    "master", "system", "manager", "operator", "tokenschain", "iloveyou", "woaini", "woainima",
    "mima", "zhongguo", "beijing", "shanghai", "dragon", "monkey", "sunshine", "princess",
    "football", "baseball", "superman", "batman", "whatever", "trustnoone", "abc", "qwe", "asd",
    "zxc", "wang", "zhang",
)  # fmt: skip
_WALKS = (
    "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm", "1234567890", "0123456789",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p", "qazwsxedcrfvtgbyhnujmikolp",
)  # fmt: skip
_STEPS_MIN = 4
"""A part of a walk, in either direction."""


def is_weak(password: str) -> bool:
    """Whether a guessing program would try it early."""
    plain = password.lower()
    if len(set(plain)) < DISTINCT_MIN or len(_repeated(plain)) <= len(plain) // 3:
        return True
    inside = plain.strip("0123456789 " + string.punctuation).translate(_ALIKE)
    return len(_beside_walks(plain)) < LETTERS_MIN or any(
        _is_of_words(_letters(text)) for text in (plain, inside)
    )


def _letters(text: str) -> str:
    """Of any script."""
    return re.sub(r"[\W\d_]", "", text)


def _is_of_words(letters: str) -> bool:
    """Whether letters are usual words, one after another, or none."""
    ends = {0}
    for at in range(len(letters)):
        if at in ends:
            ends |= {at + len(word) for word in _WORDS if letters.startswith(word, at)}
    return len(letters) in ends


def _repeated(text: str) -> str:
    """The shortest text that a text is repetitions of."""
    at = (text + text).find(text, 1)
    return text[:at]


def _beside_walks(text: str) -> str:
    """The letters that are no part of a walk."""
    at, rest = 0, ""
    while at < len(text):
        steps = _steps(text, at)
        if steps >= _STEPS_MIN:
            at += steps
            continue
        rest += text[at]
        at += 1
    return _letters(rest)


def _steps(text: str, at: int) -> int:
    """How many characters from there on are a part of a walk."""
    longest = 1
    for walk in _WALKS:
        for line in (walk, walk[::-1]):
            end = at + 1
            while end < len(text) and text[at : end + 1] in line:
                end += 1
            longest = max(longest, end - at)
    return longest
