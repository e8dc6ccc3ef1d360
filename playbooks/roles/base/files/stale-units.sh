#!/bin/sh
# Names each running unit of the arguments (UNIT=SETTINGS FILE) that started before its settings were last written.
set -eu
for argument in "$@"; do
    unit=${argument%%=*}
    settings=${argument#*=}
    started=$(systemctl show --timestamp=us+utc --property=ExecMainStartTimestamp --value "$unit")
    if [ -n "$started" ] && [ -e "$settings" ] && [ -n "$(find "$settings" -newermt "$started")" ]; then
        echo "$unit"
    fi
done
