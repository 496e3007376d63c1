"""Recipes: the YAML file of a run, read strictly and validated, with the origin of every value."""

from qdsft.recipe.load import RecipeSource, load_recipe
from qdsft.recipe.recipe import Recipe

__all__ = ["Recipe", "RecipeSource", "load_recipe"]
