#!/bin/sh
# Starts Alertmanager with the mail server's user name, which it takes from no file of its own.
set -eu

# In a string of JSON, and then in the replacement of sed.
username=$(sed 's/[\\"]/\\&/g; s/[\\&|]/\\&/g' /run/secrets/smtp-username)
sed "s|\"USERNAME\"|\"$username\"|" /etc/alertmanager/alertmanager.yml >/tmp/alertmanager.yml
exec /bin/alertmanager --config.file=/tmp/alertmanager.yml --storage.path=/alertmanager --cluster.listen-address= "$@"
