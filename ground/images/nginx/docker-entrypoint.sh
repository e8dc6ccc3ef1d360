#!/bin/sh
# Entry point of the hermetic nginx image: runs the executable scripts of /docker-entrypoint.d in version order (those
# named *.envsh in this shell's own environment) before nginx, as the official image does.
set -eu

prepare() {
    for script in $(find /docker-entrypoint.d/ -follow -type f | sort -V); do
        if [ ! -x "$script" ]; then
            echo "$0: ignoring $script, not executable"
            continue
        fi
        # shellcheck disable=SC1090  # any mounted script
        case "$script" in
            *.envsh) . "$script" ;;
            *.sh) "$script" ;;
            *) echo "$0: ignoring $script" ;;
        esac
    done
}

case "${1:-}" in
    nginx | nginx-debug) prepare ;;
esac
exec "$@"
