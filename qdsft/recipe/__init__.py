"""A recipe: the YAML file of a run, read strictly, validated, with the origin of every value."""

from qdsft.recipe.load import load_recipe
from qdsft.recipe.recipe import Recipe

__all__ = ["Recipe", "load_recipe"]
