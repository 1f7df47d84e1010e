#!/bin/sh
# Installs what lies beside this script. Needs no network, and nothing but a shell, coreutils and sed.
set -eu

usage() {
  cat <<'TEXT'
Usage: ./install.sh [--prefix FOLDER] [--no-service]

  --prefix FOLDER   where to put the program, the models and the pack (default /opt/firstline)
  --no-service      no systemd unit, no user of its own, also when run as root

Checks every file against SHA256SUMS first. Run again to update: the program and the models are replaced; an existing
pack (PREFIX/kb) and firstline.toml stay as they are, and the new ones lie beside them as kb.new and firstline.toml.new.
TEXT
}

prefix=/opt/firstline service=yes
while [ $# -gt 0 ]; do
  case "$1" in
    --prefix) prefix=${2:?--prefix needs a folder}; shift ;;
    --no-service) service=no ;;
    --help | -h) usage; exit 0 ;;
    *) echo "install.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
case "$prefix" in /*) ;; *) prefix=$PWD/$prefix ;; esac
case "$prefix" in *[\"\\\&\|]*) echo "install.sh: the prefix holds a character that the settings cannot: $prefix" >&2; exit 2 ;; esac
cd "$(dirname "$0")"

echo "Checking the files"
sha256sum --quiet --check SHA256SUMS || {
  echo "install.sh: the bundle is damaged (see above); copy it again. Nothing was installed." >&2
  exit 1
}
version=$(bin/firstline --version) || {
  echo "install.sh: the program does not start on this machine (see above). Nothing was installed." >&2
  echo "A CPU build wants a glibc at least as new as that of the machine that built it; a CUDA build the NVIDIA driver." >&2
  exit 1
}

echo "Installing $version in $prefix"
mkdir -p "$prefix/bin" "$prefix/models"
# Beside, then renamed: a running program keeps its own file.
cp bin/firstline "$prefix/bin/firstline.new"
chmod 755 "$prefix/bin/firstline.new"
mv "$prefix/bin/firstline.new" "$prefix/bin/firstline"
cp -R models/. "$prefix/models/"
for folder in licences docs; do
  rm -rf "${prefix:?}/$folder"
  cp -R "$folder" "$prefix/$folder"
done
if [ -d kb ]; then
  kb=$prefix/kb
  [ ! -e "$kb" ] || kb=$prefix/kb.new
  rm -rf "${prefix:?}/kb.new"
  cp -R kb "$kb"
fi
toml=$prefix/firstline.toml
[ ! -e "$toml" ] || toml=$prefix/firstline.toml.new
sed "s|@PREFIX@|$prefix|g" firstline.toml >"$toml"
# Settings may hold hashes of keys.
chmod 640 "$toml"

if [ "$service" = yes ] && [ "$(id -u)" = 0 ] && [ -d /run/systemd/system ]; then
  id firstline >/dev/null 2>&1 ||
    useradd --system --home-dir "$prefix" --no-create-home --shell /usr/sbin/nologin firstline
  chgrp firstline "$toml"
  sed "s|/opt/firstline|$prefix|g" firstline.service >/etc/systemd/system/firstline.service
  systemctl daemon-reload
  echo "Start it: systemctl enable --now firstline"
else
  mkdir -p "$prefix/state"
  echo "Start it: $prefix/bin/firstline serve --config $prefix/firstline.toml"
fi
