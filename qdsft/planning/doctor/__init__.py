"""`qdsft doctor`: check that this machine is ready to train."""
