#!/bin/sh
# Prints each service of the Compose project in folder $1 whose container Compose would recreate: for other settings, another
# image, or because it shares the network of such a container. Prints nothing where Compose has no dry run.
set -eu
cd "$1"
docker compose --dry-run up --detach 2>&1 |
    sed -n "s/^.* Container \(.*_\)\?${COMPOSE_PROJECT_NAME:-gitea-suite}-\(.*\)-[0-9][0-9]*  *Recreate$/\2/p"
