"""Faces of people who do not exist, made to train on."""
