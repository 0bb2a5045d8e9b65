"""The recipe of uniface-tiny, the small model that ships with the package."""
