// Choosing a token from a row of logits without sorting the vocabulary.
#include <algorithm>
#include <cmath>

#include "engine/kernels/kernels.h"

namespace engine::kernels {
namespace {

using Candidate = std::pair<float, int32_t>;

// The least that a weight can be; forbidden tokens have it.
constexpr float kNothing = 1e-37f;

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
  return kept[0].second;  // by rounding alone; the last may be one that is forbidden
}

double Mass(const std::vector<Candidate>& kept) {
  double mass = 0;
  for (const Candidate& c : kept) mass += static_cast<double>(c.first);
  return mass;
}

// How many of the candidates, the first one at least, add up to that mass; *sum is what they do.
size_t Nucleus(const std::vector<Candidate>& kept, double mass, double* sum) {
  size_t n = 0;
  *sum = 0;
  while (n < kept.size() && (n == 0 || *sum < mass)) *sum += static_cast<double>(kept[n++].first);
  return n;
}

// Of candidates, the most typical ones: those whose surprise is nearest to the entropy of all of
// them, the fewest whose probabilities add up to `share`. Sorted by likelihood.
void MostTypical(double share, std::vector<Candidate>* kept) {
  const double total = Mass(*kept);
  double entropy = 0;
  for (const Candidate& c : *kept) {
    const double p = static_cast<double>(c.first) / total;
    if (p > 0) entropy -= p * std::log(p);
  }
  struct Far {
    double distance;
    Candidate candidate;
    bool operator<(const Far& other) const {  // a heap's top is its greatest: the nearest
      return distance != other.distance ? distance > other.distance
                                        : candidate.second > other.candidate.second;
    }
  };
  std::vector<Far> heap;
  heap.reserve(kept->size());
  for (const Candidate& c : *kept) {
    const double surprise = -std::log(static_cast<double>(c.first) / total);
    if (std::isfinite(surprise)) heap.push_back({std::abs(surprise - entropy), c});
  }
  std::make_heap(heap.begin(), heap.end());
  kept->clear();
  for (double sum = 0; !heap.empty() && (kept->empty() || sum < share * total);) {
    std::pop_heap(heap.begin(), heap.end());
    sum += static_cast<double>(heap.back().candidate.first);
    kept->push_back(heap.back().candidate);
    heap.pop_back();
  }
  std::sort(kept->begin(), kept->end(), Likelier);
}

// exp((x - top) / temperature) of a row into the scratch; the sum of them.
double Weigh(const float* logits, int64_t vocab, float top, float inverse_temperature,
             SampleScratch* scratch) {
  Reserve(&scratch->weights, vocab);
  constexpr int64_t kPiece = 1024;
  double total = 0;
  for (int64_t i = 0; i < vocab; i += kPiece) {
    const int64_t count = std::min(kPiece, vocab - i);
    total += static_cast<double>(ActiveRoad().exp_weights(
        logits + i, count, top, inverse_temperature, scratch->weights.data() + i));
  }
  return total;
}

}  // namespace

double LogSum(const float* logits, int64_t vocab, SampleScratch* scratch) {
  float first = 0, second = 0;
  int64_t best = -1;
  ActiveRoad().greatest(logits, vocab, &first, &second, &best);
  if (best < 0 || first == -INFINITY) return NAN;
  return static_cast<double>(first) + std::log(Weigh(logits, vocab, first, 1, scratch));
}

void TopTokens(const float* logits, int64_t vocab, int64_t count, double log_sum,
               SampleScratch* scratch, int32_t* ids, float* logprobs) {
  Likeliest(logits, vocab, std::min(count, vocab), &scratch->kept);
  for (size_t i = 0; i < scratch->kept.size(); ++i) {
    ids[i] = scratch->kept[i].second;
    logprobs[i] = static_cast<float>(static_cast<double>(scratch->kept[i].first) - log_sum);
  }
}

int64_t SampleRow(const float* logits, int64_t vocab, const Sampling& how, SampleScratch* scratch,
                  float* margin) {
  const Road& road = ActiveRoad();
  float first = 0, second = 0;
  int64_t best = -1;
  road.greatest(logits, vocab, &first, &second, &best);
  *margin = first - second;
  if (best < 0 || first == -INFINITY) return -1;
  // Below that, weights of all others are nothing, and the inverse may not be finite.
  constexpr double kLeastTemperature = 1e-6;
  if (how.temperature < kLeastTemperature || how.top_k == 1) return best;
  constexpr int64_t kPiece = 1024;
  const double total =
      Weigh(logits, vocab, first, static_cast<float>(1.0 / how.temperature), scratch);
  const float* w = scratch->weights.data();
  if (!(total > 0) || !std::isfinite(total)) return -1;
  const bool some = how.top_k > 0 && how.top_k < vocab;
  // The likeliest has the weight 1.
  const auto likely_enough = [&](const std::vector<Candidate>& kept, size_t n) {
    while (n > 1 && static_cast<double>(kept[n - 1].first) < how.min_p) --n;
    return n;
  };
  if (how.typical_p < 1 || (how.min_p > 0 && !some && how.top_p >= 1)) {
    std::vector<Candidate>& kept = scratch->kept;
    if (some) {
      Likeliest(w, vocab, how.top_k, &kept);
    } else {
      kept.clear();
      const double least = how.typical_p < 1 ? 0 : std::min(how.min_p, 1.0);
      for (int64_t i = 0; i < vocab; ++i) {
        if (w[i] > kNothing && static_cast<double>(w[i]) >= least) {
          kept.emplace_back(w[i], static_cast<int32_t>(i));
        }
      }
      if (kept.empty()) return best;
    }
    if (how.typical_p < 1) MostTypical(how.typical_p, &kept);
    double sum = 0;
    const size_t n = how.top_p < 1 ? Nucleus(kept, how.top_p * Mass(kept), &sum) : kept.size();
    return Draw(kept, how.typical_p < 1 ? likely_enough(kept, n) : n, how.draw);
  }
  if (some || how.top_p < 1) {
    // Most often few candidates hold the probability that is asked for; more are taken when not.
    for (int64_t count = some ? how.top_k : std::min<int64_t>(256, vocab);; count *= 8) {
      count = std::min(count, vocab);
      Likeliest(w, vocab, count, &scratch->kept);
      const double mass = some ? Mass(scratch->kept) : total;
      size_t n = scratch->kept.size();
      if (how.top_p < 1) {
        double sum = 0;
        n = Nucleus(scratch->kept, how.top_p * mass, &sum);
        if (!some && sum < how.top_p * mass && count < vocab) continue;
      }
      return Draw(scratch->kept, likely_enough(scratch->kept, n), how.draw);
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
        if (target < sum && w[j] > kNothing) return j;
      }
      break;
    }
    sum += piece;
  }
  return best;  // rounding left the draw beyond the sum
}

}  // namespace engine::kernels
