#!/usr/bin/env bash
# On the head: MLflow's server on PostgreSQL, both for this machine only (others come through an SSH tunnel).
# Run again, it starts what is not running.
#
#   clusters/mlflow.sh ARTIFACTS     where artifacts go: a folder, s3://bucket/path or gs://bucket/path
set -euo pipefail
cd "$(dirname "$0")/.."

artifacts=$1
server=http://127.0.0.1:${MLFLOW_PORT:-5000}
# Over its socket PostgreSQL knows who asks from the system: there is no password to keep.
database="postgresql+psycopg:///mlflow?host=/var/run/postgresql"

if curl -sf "$server/health" > /dev/null; then exit 0; fi

if ! command -v psql > /dev/null; then
    sudo apt-get -qq -o DPkg::Lock::Timeout=600 update
    sudo DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 install -y postgresql
fi
if ! psql -h /var/run/postgresql -d mlflow -c "" 2> /dev/null; then
    sudo -u postgres createuser "$(id -un)" 2> /dev/null || true # it may be there
    sudo -u postgres createdb -O "$(id -un)" mlflow
fi

.venv/bin/mlflow db upgrade "$database" # makes the tables, or brings them to this version of MLflow
# Its own jobs are evaluations by language models: five more processes.
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false nohup setsid .venv/bin/mlflow server --host 127.0.0.1 --port "${server##*:}" --workers 2 \
    --backend-store-uri "$database" --artifacts-destination "$artifacts" \
    > "${HOME}/mlflow.log" 2>&1 < /dev/null &

for _ in {1..120}; do
    if curl -sf "$server/health" > /dev/null; then exit 0; fi
    sleep 1
done
echo "MLflow did not start: see ${HOME}/mlflow.log" >&2
exit 1
