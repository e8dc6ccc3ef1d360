#!/bin/sh
# Shows the reason for which Gitea is away on the page that nginx serves then, or the general sentence again:
#   nginx-away page SECONDS SENTENCE
#   nginx-away none
# The run that showed it may die without ending it: the health check ends it after SECONDS.
set -eu

state=/run/away
pages=/usr/share/nginx/pages

case "$1" in
    none) rm -rf "$state" && exit ;;
    page) ;;
    *) echo "nginx-away: the first argument must be page or none" >&2 && exit 2 ;;
esac
seconds=$2 sentence=$3
# It is inserted into HTML, JSON and a sed script unescaped.
case "$sentence" in *[!A-Za-z0-9\ .,:-]*) echo "nginx-away: the sentence may contain only letters, digits, spaces and . , : -" >&2 && exit 2 ;; esac

mkdir -p "$state"
echo $(($(date +%s) + seconds)) >"$state/until"
for page in away.html away.json away.txt; do
    sed "s/It is being restarted or updated\./$sentence/g" "$pages/$page" >"$state/.$page"
    mv "$state/.$page" "$state/$page"
done
