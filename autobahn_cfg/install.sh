#!/usr/bin/env bash
# Installs wstest, the program of the Autobahn testsuite: bash install.sh DIR
#
# The testsuite is a Python 2 program. Its interpreter comes from the Debian release that last had one, unpacked below
# DIR and never installed on the machine; the suite itself and what it imports come from PyPI. DIR/wstest appears in
# one step when everything works, so it may be started while another process installs, and several may install at
# once. Where DIR/wstest already answers nothing is done.
#
# Needs: Debian 12 or its like, apt's own mirror, PyPI. As root, gcc and ca-certificates are installed where they are missing.
# Exit status: 0 DIR/wstest works; 69 this machine can have no Python 2.7; 1 anything else went wrong.
set -euo pipefail

readonly NO_PYTHON=69 LOG_LINES=25
readonly PYTHON_RELEASE=bullseye
readonly PYTHON_PACKAGES=(python2.7-minimal libpython2.7-minimal libpython2.7-stdlib libpython2.7-dev python-pip-whl
                          libexpat1 libffi7 libssl1.1)
# What the suite's sdists are built with: present before them, since Python 2's pip only finds it installed.
readonly BUILD_TOOLS=(setuptools==44.0.0 wheel==0.37.1)
# The versions the suite was released with, and theirs: named one by one, so that nothing newer than Python 2 comes in.
readonly SUITE=(autobahntestsuite==25.10.1 autobahn==0.10.9 txaio==2.1.0 six==1.16.0 klein==17.10.0 Werkzeug==1.0.1
                jinja2==2.11.3 markupsafe==1.1.1 unittest2==1.1.0 traceback2==1.4.0 linecache2==1.0.0
                Twisted==19.10.0 zope.interface==4.6.0 constantly==15.1.0 incremental==16.10.1 Automat==20.2.0
                attrs==21.4.0 hyperlink==21.0.0 idna==2.10 typing==3.10.0.0 PyHamcrest==1.10.1
                pyOpenSSL==19.1.0 cryptography==3.3.2 cffi==1.15.1 pycparser==2.21 ipaddress==1.0.23 enum34==1.1.10
                service_identity==18.1.0 pyasn1==0.5.1 pyasn1-modules==0.3.0)
readonly ACCELERATOR=wsaccel-0.6.2
readonly TOOLS="gcc libc6-dev ca-certificates"

die() { echo "install.sh: $2" >&2; exit "$1"; }

answers() { [ -x "$1/wstest" ] && "$1/wstest" -a >/dev/null 2>&1; }

# Networks fail for a moment; what fails twice is reported.
twice() { "$@" || { echo "install.sh: that failed; once more" >&2; sleep 2; "$@"; }; }

# Prints the mirrors that apt gets this machine's own release from, out of both kinds of its source files.
mirrors() {
  local suites="$1|stable|oldstable|oldoldstable" file
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -r "$file" ] || continue
    sed -nE 's/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]*)?([^[:space:]]+)[[:space:]]+([^[:space:]]+)[[:space:]].*/\3 \2/p' "$file"
  done | awk -v suites="^($suites)/?$" '$1 ~ suites { print $2 }'
  for file in /etc/apt/sources.list.d/*.sources; do
    [ -r "$file" ] || continue
    sed '/^#/d' "$file" | awk -v RS= -v suites="^($suites)/?$" '
      { key = ""; ours = 0; uris = ""; enabled = 1
        for (i = 1; i <= NF; i++) {
          if ($i ~ /^[A-Za-z-]+:$/) key = tolower($i)
          else if (key == "uris:") uris = uris $i "\n"
          else if (key == "suites:" && $i ~ suites) ours = 1
          else if (key == "enabled:" && tolower($i) ~ /^(no|false|0|off|without|disable)$/) enabled = 0
        }
        if (ours && enabled) printf "%s", uris }'
  done
}

# Downloads Debian's packages of Python 2.7 from one mirror, through an apt state of their own, and unpacks them.
fetch_python() {
  local mirror=$1 apt=$build/apt deb
  rm -rf "$apt" && mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/debs" || return
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $PYTHON_RELEASE main" >"$apt/sources.list"
  local options=(-qq -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$apt/lists"
                 -o Dir::Cache="$apt/cache" -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none
                 -o APT::Update::Error-Mode=any)
  apt-get "${options[@]}" update || return
  (cd "$apt/debs" && apt-get "${options[@]}" download "${PYTHON_PACKAGES[@]/%//$PYTHON_RELEASE}") || return
  for deb in "$apt"/debs/*.deb; do dpkg-deb -x "$deb" "$build/root" || return; done
  rm -rf "$apt"
}

install_tools() {
  command -v gcc >/dev/null && [ -e /etc/ssl/certs/ca-certificates.crt ] && return
  twice quiet apt-get update -qq || die 1 "the package lists could not be updated, to install $TOOLS"
  twice quiet env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $TOOLS \
    || die 1 "please install what is needed to build $ACCELERATOR and to speak with PyPI: apt-get install $TOOLS"
}

install_python() {
  local codename mirror
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  for mirror in $(mirrors "$codename" | sort -u); do
    if twice fetch_python "$mirror"; then
      write_launchers
      "$build/python2.7" -c "import ssl, ctypes, xml.parsers.expat" \
        || die $NO_PYTHON "no Python 2.7: the one of $PYTHON_RELEASE does not run on this machine"
      return
    fi
  done
  die $NO_PYTHON "no Python 2.7: no Debian mirror that apt is set up with has the packages of $PYTHON_RELEASE"
}

# The two scripts find everything beside themselves, so that the finished tree can be moved into its place.
write_launchers() {
  cat >"$build/python2.7" <<'SH'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
lib=$(echo "$here"/root/usr/lib/*-linux-gnu*)
LD_LIBRARY_PATH=$lib:$here/root/lib/${lib##*/} PYTHONPATH=$here/site PYTHONNOUSERSITE=1 exec "$here/root/usr/bin/python2.7" "$@"
SH
  cat >"$build/wstest" <<'SH'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/python2.7" -c 'import sys; sys.argv[0] = "wstest"; from autobahntestsuite.wstest import run; run()' "$@"
SH
  chmod +x "$build/python2.7" "$build/wstest"
}

# pip runs from the wheel that Debian ships for virtual environments; Python 2 gets no pip of its own.
pip() {
  PYTHONWARNINGS=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 "$build/python2.7" - "$@" <<'PY'
import glob, os, sys
sys.path[:0] = glob.glob(os.path.join(sys.prefix, "share/python-wheels/*.whl"))
from pip._internal.cli.main import main
sys.exit(main(sys.argv[1:]))
PY
}

quiet() {
  "$@" >"$build/step.log" 2>&1 || { tail -n "$LOG_LINES" "$build/step.log" >&2; return 1; }
}

install_suite() {
  local into=(--target "$build/site" --no-deps --prefer-binary --no-cache-dir --no-compile)
  twice quiet pip install "${into[@]}" "${BUILD_TOOLS[@]}" || die 1 "pip could not install ${BUILD_TOOLS[*]}"
  twice quiet pip install "${into[@]}" "${SUITE[@]}" || die 1 "pip could not install the testsuite"
  touch "$build/site/zope/__init__.py"  # pip --target leaves a namespace package without the file that makes it one
}

# In Python alone the suite takes minutes to mask and check the large messages of sections 9, 12 and 13.
install_accelerator() {
  twice quiet pip download --no-deps --no-binary :all: --no-cache-dir -d "$build/sdist" "${ACCELERATOR/-/==}" \
    || die 1 "pip could not download $ACCELERATOR"
  tar -xf "$build/sdist/$ACCELERATOR.tar.gz" -C "$build/sdist"
  local source=$build/sdist/$ACCELERATOR/wsaccel include=$build/root/usr/include module
  mkdir -p "$build/site/wsaccel"
  cp "$source"/*.py "$build/site/wsaccel/"
  for module in xormask utf8validator; do
    gcc -w -O3 -shared -fPIC -fno-strict-aliasing -I"$include/python2.7" -I"$include" \
      -o "$build/site/wsaccel/$module.so" "$source/$module.c" || die 1 "gcc could not build $ACCELERATOR"
  done
  "$build/python2.7" -c "import wsaccel.xormask, wsaccel.utf8validator" || die 1 "$ACCELERATOR was built but does not load"
}

dir=$(mkdir -p "${1:?usage: install.sh DIR}" && cd "$1" && pwd)
answers "$dir" && exit 0
command -v apt-get >/dev/null || die $NO_PYTHON "no Python 2.7: only Debian's is known here, and this machine has no apt-get"
exec 9>"$dir/.lock"
flock 9
answers "$dir" && exit 0  # another process installed it in the meantime

rm -rf "$dir"/.build.*  # of one that was killed
build=$(mktemp -d "$dir/.build.XXXXXX")
trap 'rm -rf "$build"' EXIT
install_python
install_tools
install_suite
install_accelerator
rm -rf "$build/sdist" "$build/step.log"
answers "$build" || { "$build/wstest" -a >&2 || true; die 1 "wstest was installed but does not start"; }

rm -rf "$dir/suite"
mv "$build" "$dir/suite"
chmod 755 "$dir/suite"
ln -sfn suite/wstest "$dir/wstest"
"$dir/wstest" -a
