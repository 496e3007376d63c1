"""`qdsft plan`: peak memory and work of a recipe, without loading the model."""
