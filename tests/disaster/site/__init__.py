"""Disasters on a deployed site."""
