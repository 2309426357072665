"""Somebody's own protocols, outside tradebft."""
