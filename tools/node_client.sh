#!/usr/bin/env bash
# Installs aws-lambda-ric, AWS's own runtime client for Node.js, below services/runtime/node, where hosts look for it.
# It is compiled for the Node.js that is here, which takes about a minute; what is current already is left alone.
# It never fails: without the client, hosts offer no nodejs runtime, and their tests skip and say so.
set -uo pipefail
cd "$(dirname "$0")/../services/runtime/node"
umask 022

skip() {
  echo "node: $*; hosts here will not offer nodejs runtimes to packages without a client of their own"
  exit 0
}

for program in node npm cmake make g++ xz; do
  command -v $program >/dev/null || skip "$program is not here"
done

wanted="$(node --version) $(cat package.json package-lock.json | cksum)"
[ "$(cat node_modules/.installed-for 2>/dev/null)" = "$wanted" ] && exit 0

# Headers that came with this Node.js; else node-gyp fetches them.
prefix=$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")
[ -f "$prefix/include/node/node.h" ] && export npm_config_nodedir="$prefix"

echo "node: installing aws-lambda-ric for $(node --version)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if timeout 900 npm ci --no-audit --no-fund >"$log" 2>&1 </dev/null && [ -f node_modules/aws-lambda-ric/rapid-client.node ]; then
  echo "$wanted" >node_modules/.installed-for
else
  tail -20 "$log"
  rm -rf node_modules
  skip "aws-lambda-ric could not be installed (see above)"
fi
exit 0
