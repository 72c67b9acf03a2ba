# What the scripts beside this share: where the targets come from, and their names.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
all_targets=(pipeline elf scan_cache scan_report gguf safetensors tokenizer chat_template http guided)
# Those with a planted bug.
planted_targets=(pipeline elf scan_cache scan_report gguf safetensors tokenizer http guided)
limits=(-timeout=20 -rss_limit_mb=2048 -max_len=65536)
committed=tests/fuzz/corpus

# build FOLDER SANITIZE JOBS NINJA_TARGET: configures once, builds, and writes the seeds.
build() {
  local clang
  clang=$(command -v clang++-14 || command -v clang++ || true)
  [ -n "$clang" ] || { echo "fuzz: clang is needed; run: apt-get install clang-14" >&2; exit 1; }
  [ -e "$1/build.ninja" ] || cmake -S . -B "$1" -G Ninja -DCMAKE_CXX_COMPILER="$clang" \
    -DCMAKE_C_COMPILER="${clang/++/}" -DENGINE_SANITIZE="$2" -DENGINE_WITH_TORCH=OFF \
    "-DENGINE_PARTS=abi;graph;model"
  cmake --build "$1" -j "$3" --target "$4"
  python3 tests/fuzz/seeds.py "$1/seeds"
}
