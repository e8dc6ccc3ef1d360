#!/bin/sh
# Writes every *.template below /etc/nginx/templates to the same path below /etc/nginx/conf.d, with environment variables
# substituted. NGINX_ENVSUBST_FILTER, a regular expression, selects the variables.
set -eu

templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
output=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}

[ -d "$templates" ] || exit 0
if [ ! -w "$output" ]; then
    echo "$0: $output is not writable"
    exit 0
fi

names=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p' | grep -E "${NGINX_ENVSUBST_FILTER:-}" || true)
# shellcheck disable=SC2016,SC2086  # envsubst wants the literal ${NAME}; one argument per name
variables=$(printf '${%s} ' $names)

find "$templates" -follow -type f -name "*$suffix" | while read -r template; do
    target="$output/${template#"$templates/"}"
    target=${target%"$suffix"}
    mkdir -p "$(dirname "$target")"
    envsubst "$variables" <"$template" >"$target"
done
