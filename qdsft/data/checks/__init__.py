"""`qdsft data check` and `qdsft data stats`: find what is wrong or odd in data files before training."""
