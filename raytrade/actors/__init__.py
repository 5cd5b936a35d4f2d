"""Ray actors: thin hosts of machines and shells. The only package, beside the pipeline, that knows Ray."""
