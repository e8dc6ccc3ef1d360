#!/bin/sh
# A release that is broken in the way that its tag says. An update to it has to be taken back.
set -eu

case "$NGINX_VERSION" in
    *-crash)
        echo "nginx: [emerg] broken on purpose" >&2
        exit 1
        ;;
    # Healthy at first; then it ends, as one that was asked to.
    *-ends) (sleep 15 && nginx -s quit) & ;;
esac
