#!/bin/sh
# Chooses what nginx serves: the ACME webroot alone while there is no certificate, the whole site when there is one.
# The image runs it at every start. After the first certificate arrived, run it again in the running container:
#   /docker-entrypoint.d/40-select-stage.sh && nginx -t && nginx -s reload
set -eu

certificate="/etc/letsencrypt/live/${DOMAIN:?}/fullchain.pem"
if [ -e "$certificate" ]; then stage=tls; else stage=plain; fi

# A file that is there in part must never be what a reload reads.
printf 'include /etc/nginx/conf.d/stages/%s.conf;\n' "$stage" >/etc/nginx/conf.d/.site.conf
mv /etc/nginx/conf.d/.site.conf /etc/nginx/conf.d/site.conf
echo "serving the stage: $stage"
