#!/bin/sh
# The alternative: the roadmap's backup.sh, which is pg_dump and a gzipped tar of the data volume, copied whole to S3.
# backup.sh BUCKET OPS_IMAGE; only the image's S3 client is used, which uploads in parts and on ten connections as the
# AWS CLI does.
set -eu
bucket=$1 image=$2 folder=/var/backups/bench
mkdir -p "$folder"
docker exec gitea-suite-postgres-1 pg_dump --username gitea gitea | gzip > "$folder/database.sql.gz"
tar --create --gzip --file "$folder/data.tar.gz" --directory /srv/gitea gitea
for each in database.sql.gz data.tar.gz; do
    docker run --rm --network host --env-file /etc/gitea-suite/ops.env --volume "$folder:$folder:ro" --entrypoint python3 "$image" -c \
        "import boto3, sys; boto3.client('s3').upload_file(*sys.argv[1:])" "$folder/$each" "$bucket" "$each"
done
rm -r "$folder"
