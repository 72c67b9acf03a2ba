// What engine bench is made of: points of a load, ways to run the pipeline, what was measured, and
// how it is told. Invariant: values of one figure at the same place of two variants come from runs
// that stood beside each other.
#ifndef ENGINE_CLI_BENCH_H_
#define ENGINE_CLI_BENCH_H_

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/cli/commands.h"

namespace engine::cli {

// One way to run: the pipeline with everything on, without one optimization, or a peer.
struct Variant {
  std::string name;  // what is bypassed, a setting, the peer's name, or empty: everything on
  std::string kind;
  bool peer = false, setting = false;
  std::map<std::string, std::vector<double>> figures;
  std::string output;  // of the first run
  bool repeats_itself = true;
};

// One load of a sweep; without a sweep there is one.
struct Point {
  std::string load, x;  // x: the value of the swept word
  std::vector<Variant> variants;
};

// ---- bench_child.cc ----------------------------------------------------------------------------

struct Child {
  std::string out, err;
  bool good = false;
  uint64_t peak_bytes = 0;
};
// Runs a program to its end with its output caught; `words` begin with its path.
Status RunChild(std::vector<std::string> words, Child* child);
// Runs the pipeline once and adds what it measured. `machine` receives isa and threads.
Status RunVariant(const BenchArgs& args, const Point& point, const std::string& folder, bool counts,
                  Variant* variant, nlohmann::ordered_json* machine);

// ---- bench_peer.cc -----------------------------------------------------------------------------

// "llama.cpp=FOLDER": the folder of its binaries.
struct Peer {
  std::string folder, model;
  int threads = 0;
};
Status ParsePeer(const std::string& text, Peer* out);
// Runs what matches the load, at both settings of flash attention; the better one counts. One
// stream with out <= 2: prefill; else decoding at that depth; several streams: batched decoding.
Status RunPeer(const Peer& peer, const std::string& load, bool counts, Variant* variant);

// ---- bench_report.cc ---------------------------------------------------------------------------

double Median(std::vector<double> v);
struct Interval {
  double median, low, high;
};
// Median of the paired ratios a / b and its 95 % bootstrap interval, with a fixed seed.
Interval Ratio(const std::vector<double>& a, const std::vector<double>& b);
// True where less is better.
bool IsTime(const std::string& figure);
void PrintTable(const std::vector<Point>& points, const BenchArgs& args,
                const nlohmann::ordered_json& machine);
nlohmann::ordered_json ToJson(const std::vector<Point>& points, const BenchArgs& args,
                              const nlohmann::ordered_json& machine);
// The figure over the sweep, a line a variant.
std::string ToSvg(const std::vector<Point>& points, const BenchArgs& args,
                  const nlohmann::ordered_json& machine);

}  // namespace engine::cli

#endif  // ENGINE_CLI_BENCH_H_
