#!/bin/sh
# Prints each unit of the arguments (UNIT=SETTINGS FILE) that started before its settings were last written, or has not started,
# and the firewall also when its table is missing.
set -eu
for argument in "$@"; do
    unit=${argument%%=*}
    settings=${argument#*=}
    started=$(systemctl show --timestamp=us+utc --property=ExecMainStartTimestamp --value "$unit")
    if [ -e "$settings" ] && { [ -z "$started" ] || [ -n "$(find "$settings" -newermt "$started")" ]; }; then
        echo "$unit"
    fi
done
if systemctl --quiet is-active gitea-suite-firewall && ! nft list table inet gitea_suite >/dev/null 2>&1; then
    echo gitea-suite-firewall
fi
