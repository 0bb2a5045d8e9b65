"""Metrics and the pictures of them."""
