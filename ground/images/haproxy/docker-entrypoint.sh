#!/bin/sh
# Entry point of the hermetic HAProxy image: a master and a worker in the foreground, as in the official image.
set -eu

if [ "${1#-}" != "$1" ]; then set -- haproxy "$@"; fi
if [ "$1" = haproxy ]; then
    shift
    set -- haproxy -W -db "$@"
fi
exec "$@"
