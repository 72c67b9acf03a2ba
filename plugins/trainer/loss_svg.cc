#include "loss_svg.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>

namespace engine::trainer {
namespace {

constexpr double kWidth = 760, kHeight = 420, kLeft = 70, kRight = 84, kTop = 44, kBottom = 54;
constexpr size_t kMostPoints = 1200;  // of a line; more would fall on the same pixels

// Colours for both schemes, each with a contrast of at least 4.5 for text.
constexpr char kStyle[] = R"(<style>
.ground{fill:#ffffff}.text{fill:#24292f}.quiet{fill:#57606a}.grid{stroke:#d0d7de}.axis{stroke:#57606a}
.loss{stroke:#0550ae}.losstext{fill:#0550ae}.rate{stroke:#953800}.ratetext{fill:#953800}
@media (prefers-color-scheme: dark){
.ground{fill:#0d1117}.text{fill:#e6edf3}.quiet{fill:#9da7b3}.grid{stroke:#30363d}.axis{stroke:#9da7b3}
.loss{stroke:#79c0ff}.losstext{fill:#79c0ff}.rate{stroke:#ffa657}.ratetext{fill:#ffa657}}
</style>
)";

std::string Number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", v);
  return text;
}

std::string Escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      out += c;
    }
  }
  return out;
}

struct Place {
  double x, y;
};

// Of many points, of each stretch of neighbours the least and the greatest: peaks stay visible.
std::string Polyline(const std::vector<Place>& points) {
  const size_t stretch = std::max<size_t>(1, (2 * points.size() + kMostPoints - 1) / kMostPoints);
  std::ostringstream out;
  out.setf(std::ios::fixed);
  out.precision(1);
  const auto put = [&](const Place& p) { out << p.x << ',' << p.y << ' '; };
  for (size_t i = 0; i < points.size(); i += stretch) {
    const auto begin = points.begin() + static_cast<std::ptrdiff_t>(i);
    const auto end =
        points.begin() + static_cast<std::ptrdiff_t>(std::min(points.size(), i + stretch));
    if (points.size() <= kMostPoints) {
      std::for_each(begin, end, put);
      continue;
    }
    auto [low, high] =
        std::minmax_element(begin, end, [](const Place& a, const Place& b) { return a.y < b.y; });
    if (high < low) std::swap(low, high);
    put(*low);
    if (high != low) put(*high);
  }
  return out.str();
}

}  // namespace

std::vector<double> internal::Smooth(const std::vector<double>& values, double keep) {
  std::vector<double> out;
  double mean = 0, weight = 0;
  for (const double v : values) {
    mean = keep * mean + (1 - keep) * v;
    weight = keep * weight + (1 - keep);
    out.push_back(mean / weight);
  }
  return out;
}

std::vector<double> internal::Ticks(double low, double high, int count) {
  // One value alone gets room around it.
  if (!(high > low)) {
    const double room = low == 0 ? 1 : std::fabs(low) / 2;
    low -= room;
    high += room;
  }
  const double raw = (high - low) / count, power = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double f : {5.0, 2.0, 1.0}) {
    if (raw <= f * power * (1 + 1e-9)) step = f * power;
  }
  std::vector<double> ticks;
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  for (double i = first; i <= last; ++i) ticks.push_back(i * step);
  return ticks;
}

std::string LossSvg(std::string_view title, const std::vector<CurvePoint>& points) {
  std::vector<double> steps, losses;
  double most_lr = 0;
  for (const CurvePoint& p : points) {
    most_lr = std::max(most_lr, p.lr);
    if (!std::isfinite(p.loss)) continue;
    steps.push_back(p.step);
    losses.push_back(p.loss);
  }
  const auto [low, high] = std::minmax_element(losses.begin(), losses.end());
  const bool any = !losses.empty();
  const std::vector<double> y_ticks = internal::Ticks(any ? *low : 0, any ? *high : 1, 5);
  const std::vector<double> lr_ticks = internal::Ticks(0, most_lr > 0 ? most_lr : 1, 4);
  const double first = points.front().step, last = points.back().step;
  const double span = std::max(1.0, last - first);
  const auto X = [&](double step) {
    return kLeft + (step - first) / span * (kWidth - kLeft - kRight);
  };
  const auto Up = [&](double v, const std::vector<double>& ticks) {
    return kHeight - kBottom -
           (v - ticks.front()) / (ticks.back() - ticks.front()) * (kHeight - kTop - kBottom);
  };
  // A smoothing over about a tenth of the run.
  const double keep = 1 - 1 / std::max(1.0, static_cast<double>(losses.size()) / 10);
  const std::vector<double> smooth = internal::Smooth(losses, keep);
  std::vector<Place> raw_line, smooth_line, lr_line;
  for (size_t i = 0; i < losses.size(); ++i) {
    raw_line.push_back({X(steps[i]), Up(losses[i], y_ticks)});
    smooth_line.push_back({X(steps[i]), Up(smooth[i], y_ticks)});
  }
  for (const CurvePoint& p : points) lr_line.push_back({X(p.step), Up(p.lr, lr_ticks)});

  const double right = kWidth - kRight, bottom = kHeight - kBottom;
  std::ostringstream s;
  s << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << kWidth << ' ' << kHeight
    << "\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n<title>" << Escape(title)
    << "</title>\n"
    << kStyle
    << "<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n<text class=\"text\" x=\"" << kLeft
    << "\" y=\"24\" font-size=\"15\">" << Escape(title) << "</text>\n";
  for (const double y : y_ticks) {
    s << "<line class=\"grid\" x1=\"" << kLeft << "\" x2=\"" << right << "\" y1=\""
      << Up(y, y_ticks) << "\" y2=\"" << Up(y, y_ticks) << "\"/><text class=\"quiet\" x=\""
      << kLeft - 8 << "\" y=\"" << Up(y, y_ticks) + 4 << "\" text-anchor=\"end\">" << Number(y)
      << "</text>\n";
  }
  for (const double lr : lr_ticks) {
    s << "<text class=\"ratetext\" x=\"" << right + 8 << "\" y=\"" << Up(lr, lr_ticks) + 4 << "\">"
      << Number(lr) << "</text>\n";
  }
  for (const double x : internal::Ticks(first, first + span, 6)) {
    if (x < first || x > first + span || x != std::floor(x)) continue;
    s << "<line class=\"axis\" x1=\"" << X(x) << "\" x2=\"" << X(x) << "\" y1=\"" << bottom
      << "\" y2=\"" << bottom + 5 << "\"/><text class=\"quiet\" x=\"" << X(x) << "\" y=\""
      << bottom + 20 << "\" text-anchor=\"middle\">" << Number(x) << "</text>\n";
  }
  s << "<polyline class=\"axis\" fill=\"none\" points=\"" << kLeft << ',' << kTop << ' ' << kLeft
    << ',' << bottom << ' ' << right << ',' << bottom << ' ' << right << ',' << kTop
    << "\"/>\n<text class=\"quiet\" x=\"" << (kLeft + right) / 2 << "\" y=\"" << kHeight - 12
    << "\" text-anchor=\"middle\">step</text>\n<text class=\"losstext\" text-anchor=\"middle\" "
       "transform=\"translate(18 "
    << (kTop + bottom) / 2
    << ") rotate(-90)\">loss, nats per token</text>\n<text class=\"ratetext\" "
       "text-anchor=\"middle\" transform=\"translate("
    << kWidth - 12 << ' ' << (kTop + bottom) / 2 << ") rotate(90)\">learning rate</text>\n"
    << "<polyline class=\"rate\" fill=\"none\" stroke-width=\"1\" stroke-dasharray=\"4 3\" "
       "points=\""
    << Polyline(lr_line)
    << "\"/>\n<polyline class=\"loss\" fill=\"none\" stroke-width=\"1\" stroke-opacity=\"0.4\" "
       "points=\""
    << Polyline(raw_line)
    << "\"/>\n<polyline class=\"loss\" fill=\"none\" stroke-width=\"2.5\" points=\""
    << Polyline(smooth_line) << "\"/>\n";
  if (any) {
    s << "<text class=\"losstext\" x=\"" << right - 8 << "\" y=\"" << kTop + 14
      << "\" text-anchor=\"end\">loss " << Number(losses.back()) << " at step "
      << Number(steps.back()) << "</text>\n";
  }
  s << "</svg>\n";
  return s.str();
}

}  // namespace engine::trainer
