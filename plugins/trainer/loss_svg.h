// The curve of a run as an SVG: loss over steps, faint as it came and smoothed, and the learning
// rate as a thin line on an axis of its own. Legible on light and on dark.
#ifndef PLUGINS_TRAINER_LOSS_SVG_H_
#define PLUGINS_TRAINER_LOSS_SVG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace engine::trainer {

struct CurvePoint {
  uint32_t step = 0;
  double loss = 0;  // nats a token
  double lr = 0;
};

// `points` in the order of their steps, at least one. Losses that are not finite are left out.
std::string LossSvg(std::string_view title, const std::vector<CurvePoint>& points);

namespace internal {

// Exponentially weighted means of the values so far, the first ones not drawn towards zero
// (Kingma and Ba 2014, arXiv:1412.6980, section 3).
std::vector<double> Smooth(const std::vector<double>& values, double keep);

// Round numbers (1, 2 or 5 times a power of ten apart) from at most `low` to at least `high`, about
// `count` of them.
std::vector<double> Ticks(double low, double high, int count);

}  // namespace internal

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_LOSS_SVG_H_
