"""`python -m orchestrator`: the command `isoflop`."""

from orchestrator.cli.main import main

if __name__ == "__main__":
    main()
