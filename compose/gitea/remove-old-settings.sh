#!/bin/sh
# Removes from app.ini the settings that the site file had at an earlier start and no longer has. Gitea's own start sets what
# the environment has and keeps the rest. SITE_SETTINGS has a line for each present setting: section, space, key. The record
# of the last start lies beside app.ini, so it goes with the data into backups and snapshots.
set -eu

folder=${GITEA_CUSTOM:-/data/gitea}/conf
ini=$folder/app.ini
record=$folder/.site-settings
present=${SITE_SETTINGS:-}

if [ -f "$ini" ] && [ -f "$record" ]; then
    gone=$(printf '%s\n' "$present" | awk 'FNR == NR { present[$0]; next } !($0 in present)' - "$record")
    if [ -n "$gone" ]; then
        # A copy first, for owner and mode; a start that is killed here leaves the old file.
        cp -p "$ini" "$ini.reduced"
        # Lines as go-ini reads them: a value in `…` or """…""" may have several.
        GONE=$gone awk '
            BEGIN {
                count = split(ENVIRON["GONE"], lines, "\n")
                for (each = 1; each <= count; each++) gone[lines[each]]
                section = "DEFAULT"
            }
            until != "" {
                if (!dropped) print
                if (index($0, until)) until = ""
                next
            }
            {
                text = $0
                sub(/^[ \t]+/, "", text)
                dropped = 0
            }
            text ~ /^\[/ {
                match(text, /^\[.*\]/)
                section = substr(text, 2, RLENGTH - 2)
                print
                next
            }
            text == "" || text ~ /^[#;]/ {
                print
                next
            }
            {
                if (text ~ /^`/) {
                    key = substr(text, 2)
                    end = index(key, "`")
                    value = substr(key, end + 1)
                    key = substr(key, 1, end - 1)
                    sub(/^[^=:]*[=:]/, "", value)
                } else {
                    end = match(text, /[=:]/)
                    key = substr(text, 1, end - 1)
                    value = substr(text, end + 1)
                    sub(/[ \t]+$/, "", key)
                }
                sub(/^[ \t]+/, "", value)
                mark = substr(value, 1, 3) == "\"\"\"" ? "\"\"\"" : substr(value, 1, 1) == "`" ? "`" : ""
                if (mark != "" && !index(substr(value, length(mark) + 1), mark)) until = mark
                dropped = (section " " key) in gone
                if (!dropped) print
            }
        ' "$ini" >"$ini.reduced"
        mv "$ini.reduced" "$ini"
    fi
fi

# After the removal: a start that is killed between the two removes once more.
mkdir -p "$folder"
printf '%s\n' "$present" >"$record.new"
mv "$record.new" "$record"
