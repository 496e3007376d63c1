"""Will it fit: the memory and the work of a recipe, modelled without loading anything."""
