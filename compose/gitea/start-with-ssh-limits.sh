#!/bin/sh
# The entry point of Gitea's container: writes the limits of its sshd to SSH_INCLUDE_FILE, which the image includes into
# sshd_config, removes settings that the site no longer has, and then runs the image's own entry point.
set -eu

# Option by option: sshd ends at one that it does not know. The penalties came with OpenSSH 9.8; Gitea 1.22's image has 9.7.
: >"${SSH_INCLUDE_FILE:?}"
for option in "PerSourceMaxStartups ${SSH_LOGINS_PER_ADDRESS:?}" "PerSourcePenalties ${SSH_PENALTIES:?}"; do
    # Without -f, sshd would read the image's example of a configuration.
    if /usr/sbin/sshd -G -f /dev/null -o "$option" >/dev/null; then
        echo "$option" >>"$SSH_INCLUDE_FILE"
    fi
done

# Without it, an old setting stays in force, which ops health reports; Gitea starts all the same.
/usr/local/bin/remove-old-settings || echo "remove-old-settings: app.ini may have settings that the site no longer has" >&2

exec /usr/bin/entrypoint "$@"
