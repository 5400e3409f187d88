"""`python -m prunecli`, and the entry point of the `prunecli` script."""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.platform == "win32":  # before anything is imported that is not there
        sys.stderr.write("prunecli: error: Windows is not supported; run prunecli in WSL, or in a container\n")
        sys.exit(2)
    from prunecli.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
