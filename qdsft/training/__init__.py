"""Recipe to adapter: build, check, train, save."""
