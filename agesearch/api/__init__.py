"""What ``import agesearch`` offers: one file a step, typed, with examples that the tests run.

Nothing heavy is imported until a function is called. The first call sets what Ray and torch read from the
environment, where the user has not (``agesearch.session``).
"""
