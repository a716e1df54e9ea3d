#!/bin/sh
# Sees to it that Redis and PostgreSQL are installed. Starts nothing and touches no running server: the tests start
# their own (tests/support/servers.py).
set -eu

PATH=$PATH:/usr/sbin:$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')
missing=
command -v redis-server >/dev/null || missing="redis-server"
{ command -v initdb && command -v postgres; } >/dev/null || missing="$missing postgresql"
[ -n "$missing" ] || exit 0

as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n"
if ! command -v apt-get >/dev/null || ! $as_root true 2>/dev/null; then
    echo "the tests need servers that are not installed: sudo apt-get install" $missing >&2
    exit 1
fi

# Debian starts a service when it is installed, unless this file says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap '$as_root rm -f $policy' EXIT
    trap 'exit 1' INT TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null
    $as_root chmod 755 $policy
fi
echo "installing" $missing
apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120"
# Lists of third parties may be out of reach; whether ours were read shows at the install.
$apt update || true
$apt install -y --no-install-recommends $missing >/dev/null
