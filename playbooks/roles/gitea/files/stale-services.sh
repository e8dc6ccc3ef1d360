#!/bin/sh
# Prints each running service of the Compose project in folder $1 that started before its mounted files were last written.
set -eu
cd "$1"
docker compose ps --format '{{.Service}} {{.ID}}' | while read -r service container; do
    [ -d "$service" ] || continue
    started=$(docker inspect --format '{{.State.StartedAt}}' "$container")
    if [ -n "$(find "$service" -newermt "$started" -print -quit)" ]; then
        echo "$service"
    fi
done
