// What the server counts, in Prometheus' text format (0.0.4). One thread writes and reads it.
#ifndef PLUGINS_HTTP_API_FIGURES_H_
#define PLUGINS_HTTP_API_FIGURES_H_

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace engine::http_api {

class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds)
      : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}
  void Add(double value);
  void Render(const std::string& name, const std::string& help, std::string* to) const;

 private:
  std::vector<double> bounds_;  // rising
  std::vector<uint64_t> counts_;
  double sum_ = 0;
  uint64_t count_ = 0;
};

struct Figures {
  std::map<std::tuple<std::string, int>, uint64_t> responses;  // by route and status
  std::map<std::string, uint64_t> rejected;                    // by reason
  std::map<std::string, uint64_t> finished;                    // answers, by reason
  uint64_t aborted = 0, slow_readers = 0;
  uint64_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  Histogram first_token, between_tokens, request;

  Figures();
  // `running`: requests under way. `vllm`: also under the names that vLLM has.
  std::string Render(size_t connections, size_t running, const std::string& model, bool vllm) const;
};

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_FIGURES_H_
