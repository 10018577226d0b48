#!/usr/bin/env bash
# Installs the official clients, from PyPI and npm, into DIR:  bench/clients/setup.sh DIR
#
# Then, with a server running:
#   DIR/bin/python bench/clients/openai_python.py --url http://127.0.0.1:8000
#   DIR/bin/python bench/clients/anthropic_python.py --url http://127.0.0.1:8000
#   NODE_PATH=DIR/node_modules node bench/clients/openai_node.mjs --url http://127.0.0.1:8000
#   python3 bench/clients/http_checks.py --url http://127.0.0.1:8000
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: $0 DIR" >&2
  exit 2
fi
dir=$1

# Pinned, so that the summaries in docs/ can be had again.
openai_python=openai==3.54.0
anthropic_python=anthropic==2.12.0
openai_node=openai@6.49.0

[ -d "$dir" ] || python3 -m venv "$dir"
dir=$(cd "$dir" && pwd)
"$dir/bin/python" -m pip --quiet --disable-pip-version-check install "$openai_python" "$anthropic_python" jsonschema
npm --prefix "$dir" --silent --no-fund --no-audit install "$openai_node"
"$dir/bin/python" -c 'import openai, anthropic; print("openai", openai.__version__, "anthropic", anthropic.__version__)'
echo "openai (node) $(node -p "require('$dir/node_modules/openai/package.json').version")"
