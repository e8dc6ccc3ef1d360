#!/bin/sh
# Selects what nginx serves: only the ACME webroot while there is no certificate, the whole site once there is one.
# The image runs it at every start. After the first certificate is issued, run it again in the running container:
#   /docker-entrypoint.d/40-select-stage.sh && nginx -t && nginx -s reload
set -eu

certificate="/etc/letsencrypt/live/${DOMAIN:?}/fullchain.pem"
if [ -e "$certificate" ]; then stage=tls; else stage=plain; fi

# A reload must never read a partly written file.
printf 'include /etc/nginx/conf.d/stages/%s.conf;\n' "$stage" >/etc/nginx/conf.d/.site.conf
mv /etc/nginx/conf.d/.site.conf /etc/nginx/conf.d/site.conf
echo "serving stage $stage"
