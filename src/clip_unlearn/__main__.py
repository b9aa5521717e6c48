"""`python -m clip_unlearn` is the command line."""

from clip_unlearn.cli.app import main

if __name__ == "__main__":
    main()
