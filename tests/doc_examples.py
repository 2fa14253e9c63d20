"""The examples in the docstrings of ``agesearch``'s public names."""

from __future__ import annotations

import doctest
import sys

import agesearch


def examples(name: str) -> list[doctest.DocTest]:
    """Those of a public name and of what it has inside."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    thing = getattr(agesearch, name)
    found = finder.find(thing, name, module=sys.modules[thing.__module__])
    return [test for test in found if test.examples]
