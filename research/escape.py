"""Text that came from a file, made harmless for the place where it is shown."""

import unicodedata

SHOWN = 4000  # characters of a message; a path or a value may be as long as a stranger likes


def clean(text: str, size: int = SHOWN) -> str:
    """`text` on one line of at most `size` characters; each character that moves the cursor, or reorders text, as its number.

    These are the control characters (ESC, newlines …), line and paragraph separators, directional overrides and halves of
    surrogate pairs. What lies in the middle of a long text is left out.
    """
    if len(text) > size:
        text = f'{text[: size * 2 // 3]} … {text[len(text) - size // 4 :]}'
    return ''.join(character if _is_harmless(character) else f'\\x{ord(character):02x}' for character in text)


def _is_harmless(character: str) -> bool:
    if unicodedata.category(character) in ('Cc', 'Cs', 'Zl', 'Zp'):
        return False
    return not ('\u202a' <= character <= '\u202e' or '\u2066' <= character <= '\u2069')
