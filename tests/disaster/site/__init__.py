"""Disaster tests on a deployed site."""
