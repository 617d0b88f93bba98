"""The tasks: a data set, its split, its network and prior; and what is fitted once for all methods."""
