#!/bin/sh
# The health check: one request to the stage's listener, through the configuration that serves visitors.
set -eu

if grep -q /tls.conf /etc/nginx/conf.d/site.conf; then scheme=https; else scheme=http; fi

# The run that started maintenance mode (nginx-away) died without ending it.
until=$(cat /run/away/until 2>/dev/null || true)
if [ -n "$until" ] && [ "$(date +%s)" -gt "$until" ]; then rm -rf /run/away; fi

# Without the container that holds the network namespace, there is no eth0.
[ -e /sys/class/net/eth0 ]

# Through a socket of this nginx: on the ports another nginx may listen as well. `ops health` checks the certificate's trust
# and expiry from outside, hence --insecure.
curl --fail --silent --show-error --insecure --max-time 4 --output /dev/null \
    --unix-socket "/run/nginx-$scheme.sock" "$scheme://${DOMAIN:?}/.well-known/nginx-health"
