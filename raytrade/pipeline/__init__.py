"""The composition root: from a configuration and the nodes there are to running actors."""
