#!/bin/sh
# The health check: a request to the port that the stage is about, through the configuration that visitors meet.
set -eu

if grep -q /tls.conf /etc/nginx/conf.d/site.conf; then scheme=https; else scheme=http; fi

# Whoever turned visitors away (nginx-away) has died before letting them in again.
until=$(cat /run/away/until 2>/dev/null || true)
if [ -n "$until" ] && [ "$(date +%s)" -gt "$until" ]; then rm -rf /run/away; fi

# A namespace whose holder has died has no way out any more.
[ -e /sys/class/net/eth0 ]

# By a socket of its own: on the ports another nginx may listen beside this one. The name is enough here; whether the
# certificate is trusted and for how long is watched from outside.
curl --fail --silent --show-error --insecure --max-time 4 --output /dev/null \
    --unix-socket "/run/nginx-$scheme.sock" "$scheme://${DOMAIN:?}/.well-known/nginx-health"
