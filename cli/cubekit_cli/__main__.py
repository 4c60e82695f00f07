"""`python -m cubekit_cli`."""

from cubekit_cli.main import main

main()
