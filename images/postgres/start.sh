# Makes the database where there is none, then becomes the server. One whose making was interrupted is made anew.
set -eu
if [ ! -e "$PGDATA.made" ]; then
  rm -rf "$PGDATA"
  initdb --username=postgres --pwfile=/run/secrets/postgres_password --auth=scram-sha-256 --encoding=UTF8 --locale=C
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  : >"$PGDATA.made"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp -c max_connections=120 -c shared_buffers=64MB
