"""Training methods: each combines a network, a loss and the updates after a step. `registry.METHODS` lists them."""
