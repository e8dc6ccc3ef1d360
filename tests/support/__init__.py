"""Fakes, fixtures and clients that several test stages share."""
