#!/bin/sh
# Runs once, when Postgres makes its data folder: a login for `serve` and one for `work`, each a member of the role that
# migrations/0007_roles.sql gives its rights to. Neither owns anything.
set -eu

psql --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" \
    --set=serve="$(cat /run/secrets/serve_password)" --set=work="$(cat /run/secrets/work_password)" <<'SQL'
create role signalbox_web nologin;
create role signalbox_worker nologin;
create role signalbox_serve login password :'serve' in role signalbox_web;
create role signalbox_work login password :'work' in role signalbox_worker;
revoke all on database signalbox from public;
grant connect on database signalbox to signalbox_serve, signalbox_work;
SQL
