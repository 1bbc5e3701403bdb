"""`python -m tokenschain`."""

from tokenschain.cli import main

main()
