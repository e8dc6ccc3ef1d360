#!/bin/sh
# Turns visitors away, or lets them in again:
#   nginx-away push|all SECONDS SENTENCE    pushes alone, or everyone; the sentence says why
#   nginx-away none
# Who turned them away may die before it lets them in again: after so many seconds the health check does.
set -eu

state=/run/away
pages=/usr/share/nginx/pages
whom=$1

if [ "$whom" = none ]; then
    rm -rf "$state"
    exit
fi
seconds=$2 sentence=$3
case "$whom" in push | all) ;; *) echo "nginx-away: push, all or none" >&2 && exit 2 ;; esac
# It goes into HTML, JSON and a sed script as it is.
case "$sentence" in *[!A-Za-z0-9\ .,:-]*) echo "nginx-away: a plain sentence" >&2 && exit 2 ;; esac

mkdir -p "$state"
echo $(($(date +%s) + seconds)) >"$state/until"
for page in away.html away.json away.txt; do
    sed "s/It is being restarted or updated\./$sentence/g" "$pages/$page" >"$state/.$page"
    mv "$state/.$page" "$state/$page"
done
touch "$state/push"
if [ "$whom" = all ]; then touch "$state/all"; else rm -f "$state/all"; fi
