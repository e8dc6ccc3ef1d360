#!/bin/sh
# A release with the fault that its tag names. An update to it must be rolled back.
set -eu

case "$DERIVED_VERSION" in
    *-crash)
        echo "nginx: [emerg] broken on purpose" >&2
        exit 1
        ;;
    # Healthy at first, then it ends without an error.
    *-ends) (sleep 15 && nginx -s quit) & ;;
esac
