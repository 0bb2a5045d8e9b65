"""Captions, answers and generated faces by the million, on Ray."""
