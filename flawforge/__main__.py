"""`python -m flawforge`, which is also the entrypoint of Ray jobs."""

from flawforge.cli import main

if __name__ == "__main__":
    main()
