"""`tokenschain doctor`: small checks of this machine's files and of the running platform."""
