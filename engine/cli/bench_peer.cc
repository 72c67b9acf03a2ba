// llama.cpp beside the engine: its own benchmark programs, at what matches a load.
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "engine/cli/bench.h"

namespace engine::cli {
namespace {

using nlohmann::json;

// The words of a load that a peer can be given; the others must be at their defaults.
struct PeerLoad {
  int streams = 1, prompt = 128, out = 64;
};

Status ParseLoad(const std::string& text, PeerLoad* load) {
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    int* to = key == "streams"  ? &load->streams
              : key == "prompt" ? &load->prompt
              : key == "out"    ? &load->out
                                : nullptr;
    if (to != nullptr && !value.empty() &&
        value.find_first_not_of("0123456789") == std::string::npos) {
      *to = std::atoi(value.c_str());
    } else if (key != "waves" && key != "warmup" && key != "seed") {
      return Error(ENGINE_INVALID_ARGUMENT, "--against: llama.cpp cannot be given '", word,
                   "'; streams, prompt and out as plain numbers can be compared");
    }
  }
  return Status();
}

// Lines of JSON objects in a program's output.
std::vector<json> Objects(const std::string& text) {
  std::vector<json> all;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    json j = json::parse(line, nullptr, false);
    if (j.is_object()) all.push_back(std::move(j));
  }
  return all;
}

}  // namespace

Status ParsePeer(const std::string& text, Peer* out) {
  const size_t equals = text.find('=');
  if (text.substr(0, equals) != "llama.cpp" || equals == std::string::npos) {
    return Error(ENGINE_INVALID_ARGUMENT, "--against ", text,
                 ": the peer that is known is llama.cpp=FOLDER, the folder of its binaries");
  }
  out->folder = text.substr(equals + 1);
  for (const char* binary : {"llama-bench", "llama-batched-bench"}) {
    std::error_code ignored;
    if (!std::filesystem::exists(out->folder + "/" + binary, ignored)) {
      return Error(ENGINE_NOT_FOUND, "--against: there is no ", binary, " in '", out->folder, "'");
    }
  }
  return Status();
}

Status RunPeer(const Peer& peer, const std::string& text, bool counts, Variant* variant) {
  PeerLoad load;
  ENGINE_RETURN_IF_ERROR(ParseLoad(text, &load));
  const bool batched = load.streams > 1, prefill = !batched && load.out <= 2;
  const std::string threads = std::to_string(peer.threads);
  const std::string figure = prefill ? "prefill_tokens_per_s" : "decode_tokens_per_s";
  double best = 0, peak = 0;
  for (const char* flash : {"0", "1"}) {
    std::vector<std::string> words;
    if (batched) {
      const int context = load.streams * (load.prompt + load.out) + 64;
      words = {peer.folder + "/llama-batched-bench",
               "-m",
               peer.model,
               "-t",
               threads,
               "-tb",
               threads,
               "-fa",
               flash[0] == '1' ? "on" : "off",
               "-c",
               std::to_string(context),
               "-b",
               "2048",
               "-ub",
               "512",
               "-npp",
               std::to_string(load.prompt),
               "-ntg",
               std::to_string(load.out),
               "-npl",
               std::to_string(load.streams),
               "--output-format",
               "jsonl"};
    } else {
      words = {peer.folder + "/llama-bench",
               "-m",
               peer.model,
               "-t",
               threads,
               "-fa",
               flash,
               "-r",
               "1",
               "-o",
               "jsonl"};
      if (prefill) {
        words.insert(words.end(), {"-p", std::to_string(load.prompt), "-n", "0"});
      } else {
        // Short prompts are no depth worth filling first.
        const int depth = load.prompt < 64 ? 0 : load.prompt;
        words.insert(words.end(),
                     {"-p", "0", "-n", std::to_string(load.out), "-d", std::to_string(depth)});
      }
    }
    Child child;
    ENGINE_RETURN_IF_ERROR(RunChild(words, &child));
    const std::vector<json> objects = Objects(child.out);
    const char* key = batched ? "speed_tg" : "avg_ts";
    if (!child.good || objects.empty() || !objects.back().contains(key)) {
      return Error(ENGINE_ABORTED, "llama.cpp failed: ", child.err.substr(0, 2000));
    }
    const double speed = objects.back()[key];
    if (speed > best) {
      best = speed;
      peak = static_cast<double>(child.peak_bytes);
    }
  }
  if (!counts) return Status();
  variant->figures[figure].push_back(best);
  variant->figures["peak_bytes"].push_back(peak);
  return Status();
}

}  // namespace engine::cli
