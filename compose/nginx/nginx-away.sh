#!/bin/sh
# Starts or ends maintenance mode:
#   nginx-away push|all SECONDS SENTENCE    refuse pushes, or every request; the page shows the sentence as the reason
#   nginx-away none                         end it
# The run that started it may die without ending it: the health check ends it after SECONDS.
set -eu

state=/run/away
pages=/usr/share/nginx/pages
whom=$1

if [ "$whom" = none ]; then
    rm -rf "$state"
    exit
fi
seconds=$2 sentence=$3
case "$whom" in push | all) ;; *) echo "nginx-away: the first argument must be push, all or none" >&2 && exit 2 ;; esac
# It is inserted into HTML, JSON and a sed script unescaped.
case "$sentence" in *[!A-Za-z0-9\ .,:-]*) echo "nginx-away: the sentence may contain only letters, digits, spaces and . , : -" >&2 && exit 2 ;; esac

mkdir -p "$state"
echo $(($(date +%s) + seconds)) >"$state/until"
for page in away.html away.json away.txt; do
    sed "s/It is being restarted or updated\./$sentence/g" "$pages/$page" >"$state/.$page"
    mv "$state/.$page" "$state/$page"
done
touch "$state/push"
if [ "$whom" = all ]; then touch "$state/all"; else rm -f "$state/all"; fi
