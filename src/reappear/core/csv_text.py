"""Escapes CSV cells that a spreadsheet would evaluate as a formula (OWASP, CSV injection)."""

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


def escape_formula(text: str) -> str:
    """The text with a `'` in front where a spreadsheet would run it: after any `'` it begins with `= + - @`, tab or CR.

    >>> escape_formula("=1+1"), escape_formula("'=1"), escape_formula("anna")
    ("'=1+1", "''=1", 'anna')
    """
    return "'" + text if _FORMULA.match(text) else text


def restore_formula(text: str) -> str:
    """The text before `escape_formula`; any other text as it is.

    >>> restore_formula("'=1+1"), restore_formula("=1+1"), restore_formula("'anna")
    ('=1+1', '=1+1', "'anna")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
