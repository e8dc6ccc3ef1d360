#!/bin/sh
# Says which operation of the host's own is at work on the data below $1, or was cut off there and awaits its end.
# A backup is waited for: it takes seconds, and comes every quarter of an hour.
set -eu
lock=/run/gitea-suite/operation.lock patience=600

while [ -e "$lock" ] && ! flock --nonblock "$lock" true; do
    if ! grep --quiet '^ops backup' "$lock" || [ "$patience" -eq 0 ]; then
        echo "$(cat "$lock") is at work: let it end"
        exit
    fi
    patience=$((patience - 1))
    sleep 1
done

# On a machine that has no stack yet, the one that is about to be brought starts with ending them.
[ -e /opt/gitea-suite/compose/.env ] || exit 0
for each in update restore; do
    [ ! -e "$1/.$each/journal" ] || echo "$each: one was cut off: sudo ops $each --resume on the host ends it"
done
