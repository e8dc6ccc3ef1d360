#!/bin/sh
# Prints the operation that is running on the data below $1, or was interrupted there and needs --resume.
# Waits for a running backup, which takes seconds and starts every quarter of an hour.
set -eu
lock=/run/gitea-suite/operation.lock patience=600

while [ -e "$lock" ] && ! flock --nonblock "$lock" true; do
    if ! grep --quiet '^ops backup' "$lock" || [ "$patience" -eq 0 ]; then
        echo "$(cat "$lock") is running: wait until it ends"
        exit
    fi
    patience=$((patience - 1))
    sleep 1
done

# On a replacement machine without a stack, the stack's unit resumes them when it starts.
[ -e /opt/gitea-suite/compose/.env ] || exit 0
for each in update restore; do
    [ ! -e "$1/.$each/journal" ] || echo "an interrupted $each: run sudo ops $each --resume on the host"
done
