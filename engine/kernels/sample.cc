// Choosing a token from a row of logits without sorting the vocabulary.
#include <algorithm>
#include <cmath>

#include "engine/kernels/kernels.h"

namespace engine::kernels {
namespace {

using Candidate = std::pair<float, int32_t>;

bool Likelier(const Candidate& a, const Candidate& b) {
  return a.first > b.first || (a.first == b.first && a.second < b.second);
}

// The `count` likeliest of the weights, the first of equals; sorted. A heap of them is kept while
// the weights pass by, so that nearly all cost one comparison.
void Likeliest(const float* weights, int64_t vocab, int64_t count, std::vector<Candidate>* kept) {
  kept->clear();
  for (int64_t i = 0; i < vocab; ++i) {
    const Candidate candidate{weights[i], static_cast<int32_t>(i)};
    if (static_cast<int64_t>(kept->size()) < count) {
      kept->push_back(candidate);
      std::push_heap(kept->begin(), kept->end(), Likelier);
    } else if (weights[i] > kept->front().first) {
      std::pop_heap(kept->begin(), kept->end(), Likelier);
      kept->back() = candidate;
      std::push_heap(kept->begin(), kept->end(), Likelier);
    }
  }
  std::sort_heap(kept->begin(), kept->end(), Likelier);
}

// The candidate on which draw * total falls.
int64_t Draw(const std::vector<Candidate>& kept, size_t count, double draw) {
  double total = 0, sum = 0;
  for (size_t i = 0; i < count; ++i) total += static_cast<double>(kept[i].first);
  for (size_t i = 0; i < count; ++i) {
    sum += static_cast<double>(kept[i].first);
    if (draw * total < sum) return kept[i].second;
  }
  return kept[count - 1].second;
}

}  // namespace

int64_t SampleRow(const float* logits, int64_t vocab, const Sampling& how, SampleScratch* scratch,
                  float* margin) {
  const Road& road = ActiveRoad();
  float first = 0, second = 0;
  int64_t best = -1;
  road.greatest(logits, vocab, &first, &second, &best);
  *margin = first - second;
  if (best < 0 || first == -INFINITY) return -1;
  if (how.temperature <= 0 || how.top_k == 1) return best;
  Reserve(&scratch->weights, vocab);
  float* w = scratch->weights.data();
  constexpr int64_t kPiece = 1024;
  const auto inverse = static_cast<float>(1.0 / how.temperature);
  double total = 0;
  for (int64_t i = 0; i < vocab; i += kPiece) {
    const int64_t count = std::min(kPiece, vocab - i);
    total += static_cast<double>(road.exp_weights(logits + i, count, first, inverse, w + i));
  }
  if (!(total > 0) || !std::isfinite(total)) return -1;
  const bool some = how.top_k > 0 && how.top_k < vocab;
  if (some || how.top_p < 1) {
    // Most often few candidates hold the probability that is asked for; more are taken when not.
    for (int64_t count = some ? how.top_k : std::min<int64_t>(256, vocab);; count *= 8) {
      count = std::min(count, vocab);
      Likeliest(w, vocab, count, &scratch->kept);
      double mass = total;
      if (some) {
        mass = 0;
        for (const Candidate& c : scratch->kept) mass += static_cast<double>(c.first);
      }
      size_t n = scratch->kept.size();
      if (how.top_p < 1) {
        double sum = 0;
        n = 0;
        while (n < scratch->kept.size() && (n == 0 || sum < how.top_p * mass)) {
          sum += static_cast<double>(scratch->kept[n++].first);
        }
        if (!some && sum < how.top_p * mass && count < vocab) continue;
      }
      return Draw(scratch->kept, n, how.draw);
    }
  }
  // All of the vocabulary: whole pieces are passed over first.
  const double target = how.draw * total;
  double sum = 0;
  for (int64_t i = 0; i < vocab; i += kPiece) {
    const int64_t end = std::min(vocab, i + kPiece);
    double piece = 0;
    for (int64_t j = i; j < end; ++j) piece += static_cast<double>(w[j]);
    if (target < sum + piece || end == vocab) {
      for (int64_t j = i; j < end; ++j) {
        sum += static_cast<double>(w[j]);
        if (target < sum) return j;
      }
      break;
    }
    sum += piece;
  }
  // Rounding left the draw beyond the sum: the last that has any weight.
  for (int64_t j = vocab - 1; j > 0; --j) {
    if (w[j] > 0) return j;
  }
  return best;
}

}  // namespace engine::kernels
