"""A package, so that its server and its browser last for its tests, and no longer."""
