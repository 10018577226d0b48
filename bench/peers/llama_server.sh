#!/usr/bin/env bash
# Compiles llama.cpp's server out of SOURCE against the libraries of the installed wheel in LIB, into OUT.
#
#   bench/peers/llama_server.sh SOURCE LIB BUILD OUT        (called by setup.sh; a C++ compiler, ten minutes of two cores)
#
# The wheel holds ggml, llama and llama-common, built for this processor, but no server. Linking with them saves most of
# the work and makes sure that the server runs the very kernels that llama_rate measures. No chat page is embedded.
set -euo pipefail
source=$1 lib=$2 build=$3 out=$4
mkdir -p "$build"

# What tools/ui generates where there are no assets.
sed -e 's/#cmakedefine .*//' -e 's/@N_ASSETS@/0/' "$source/tools/ui/ui.h.in" > "$build/ui.h"
sed -e 's/@ASSET_ARRAYS@//' -e 's/@ASSET_TABLE@//' -e 's/@N_ASSETS@/0/' -e 's/@USE_GZIP@/false/' \
  "$source/tools/ui/ui.cpp.in" > "$build/ui.cpp"

# llama-common was built with OpenSSL where its headers were there, and its classes are laid out accordingly.
defines=(-DLLAMA_SUBPROCESS -DLLAMA_SHARED -DGGML_SHARED -DGGML_BACKEND_SHARED)
if readelf -d "$lib/libllama-common.so" | grep -q libssl; then
  defines+=(-DCPPHTTPLIB_OPENSSL_SUPPORT)
fi
includes=(-I"$build" -I"$source/tools/server" -I"$source/tools/mtmd" -I"$source" -I"$source/common" -I"$source/include"
  -I"$source/ggml/include" -I"$source/vendor" -I"$source/src")
for folder in "$source"/vendor/*/; do
  includes+=(-I"$folder")
done

{
  ls "$source"/tools/server/*.cpp
  echo "$build/ui.cpp"
  ls "$source"/tools/mtmd/*.cpp "$source"/tools/mtmd/models/*.cpp | grep -v -e '-cli' -e deprecation-warning
  ls "$source"/vendor/hash/*.cpp "$source"/vendor/hash/*/*.c
} > "$build/files"

compile() {
  local object=$build/$(echo "${1#"$source"/}" | tr / _).o
  [ -s "$object" ] && [ "$object" -nt "$1" ] && return
  case $1 in
    # llama.cpp's own build compiles this one as C++ too.
    */sha1.c | *.cpp) c++ -x c++ -std=c++17 -O2 -w -pthread "${defines[@]}" "${includes[@]}" -c "$1" -o "$object" ;;
    *.c) cc -O2 -w "${includes[@]}" -c "$1" -o "$object" ;;
  esac
}
export -f compile
export source build
declare -p defines includes > "$build/flags"
xargs -a "$build/files" -P "${JOBS:-$(nproc)}" -I{} bash -c '. "$build/flags"; compile {}'

c++ -pthread -o "$out" "$build"/*.o -L"$lib" -lllama-common -lllama -lggml -lggml-cpu -lggml-base -lssl -lcrypto \
  -Wl,-rpath,"$lib"
"$out" --version
