#!/bin/sh
# Start PostgreSQL, after making its data directory where the volume has none. Arguments are the server's.
set -eu

password_file="${POSTGRES_PASSWORD_FILE:-/run/secrets/postgres/password}"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    if [ ! -s "$password_file" ]; then
        echo "There is no password for the superuser: mount a file at $password_file," \
            "or name another with POSTGRES_PASSWORD_FILE." >&2
        exit 64
    fi
    # Made aside and moved, so that a container killed meanwhile leaves nothing that looks complete.
    draft="$PGDATA.draft"
    rm -rf "$draft"
    initdb --pgdata "$draft" --username postgres --pwfile "$password_file" --auth scram-sha-256 \
        --encoding UTF8 --locale-provider builtin --builtin-locale C.UTF-8 --no-instructions
    mv "$draft" "$PGDATA"
fi
exec postgres -c config_file=/etc/postgresql/postgresql.conf -c hba_file=/etc/postgresql/pg_hba.conf "$@"
