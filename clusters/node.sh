#!/usr/bin/env bash
# Makes a machine a node of a cluster: the shared folder, the project's own environment, data and weights on its disk.
# Run again, it does what is missing.
#
#   clusters/node.sh SHARE [EXTRA] [ARCHIVE]
#
#   SHARE      an NFS 4.1 export, host:/path; it is mounted at /shared
#   EXTRA      what this kind of cluster needs beyond humansim: aws or gcp
#   ARCHIVE    a tar with data/ and weights/ in it, a path or s3:// or gs://; /shared/staged.tar unless said
set -euo pipefail
cd "$(dirname "$0")/.."
share=$1 extra=${2:-} archive=${3:-/shared/staged.tar}

if ! mountpoint -q /shared; then
    if ! command -v mount.nfs4 > /dev/null; then
        sudo apt-get -qq -o DPkg::Lock::Timeout=600 update
        sudo apt-get -qq -o DPkg::Lock::Timeout=600 install -y nfs-common
    fi
    sudo mkdir -p /shared
    options=nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport,_netdev
    grep -q " /shared " /etc/fstab || echo "$share /shared nfs4 $options 0 0" | sudo tee -a /etc/fstab > /dev/null
    sudo mount /shared
    sudo chown "$(id -un)" /shared
fi

# uv's own Python: Ray wants the same on every node, to the last digit.
export PATH="$HOME/.local/bin:$PATH" UV_PYTHON=3.12 UV_MANAGED_PYTHON=1
command -v uv > /dev/null || curl -LsSf https://astral.sh/uv/0.13.9/install.sh | sh
uv sync --frozen --no-dev ${extra:+--extra "$extra"}

# The same path on every node, whatever disk is behind it: the driver tells workers where data lie.
if [ -d /opt/dlami/nvme ] && [ ! -e /staged ]; then sudo ln -s /opt/dlami/nvme /staged; fi
sudo mkdir -p /staged
sudo chown "$(id -un)" /staged/
.venv/bin/python clusters/stage.py "$archive" /staged

# Ray's launcher reads .bashrc before every command, and what Ray starts inherits it.
cat > ~/.humansim << 'END'
export PATH="$HOME/humansim/.venv/bin:$HOME/.local/bin:$PATH"
export HUMANSIM_ROOT=/shared/humansim HUMANSIM_DATA=/staged/data HUMANSIM_WEIGHTS=/staged/weights
export MLFLOW_TRACKING_URI=http://127.0.0.1:5000
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
END
grep -qF ". ~/.humansim" ~/.bashrc || echo ". ~/.humansim" >> ~/.bashrc
