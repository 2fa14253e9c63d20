"""Backbones that timm does not have, in timm's form."""
