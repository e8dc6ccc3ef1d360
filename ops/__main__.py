"""``python -m ops``."""

from ops.cli.main import main

main()
