"""``python -m test_framework.cli``."""

from test_framework.cli import main

if __name__ == "__main__":
    main()
