#!/bin/sh
# The entry point of PostgreSQL's container: gives each major version its own folder on the data disk, as the image has it from 18
# on, and then runs the image's own entry point. Up to 17 the image keeps its data in a volume that ends with the container.
set -eu

export PGDATA="/var/lib/postgresql/${PG_MAJOR:?is set by the image}/docker"
exec docker-entrypoint.sh "$@"
