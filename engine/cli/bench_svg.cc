// A chart of a sweep: the figure upwards, the swept value to the right on a logarithmic axis when
// it doubles, one line a variant with its spread.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>

#include "engine/cli/bench.h"

namespace engine::cli {
namespace {

constexpr double kWidth = 720, kHeight = 420, kLeft = 70, kRight = 190, kTop = 40, kBottom = 50;
constexpr const char* kColors[] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd",
                                   "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f"};

std::string Number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", v);
  return text;
}

std::string Escape(const std::string& text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

// 1, 2 or 5 times a power of ten, so that about five steps reach `most`.
double Step(double most) {
  const double raw = most / 5, power = std::pow(10, std::floor(std::log10(raw)));
  for (double f : {1.0, 2.0, 5.0}) {
    if (raw <= f * power) return f * power;
  }
  return 10 * power;
}

}  // namespace

std::string ToSvg(const std::vector<Point>& points, const BenchArgs& args,
                  const nlohmann::ordered_json& machine) {
  std::vector<double> xs;
  for (size_t i = 0; i < points.size(); ++i) {
    const double x = std::atof(points[i].x.c_str());
    xs.push_back(points[i].x.empty() ? static_cast<double>(i) : x);
  }
  const auto [low, high] = std::minmax_element(xs.begin(), xs.end());
  const bool logarithmic = *low > 0 && *high / *low >= 8;
  const auto along = [&](double v) { return logarithmic ? std::log2(v) : v; };
  const double span = std::max(1e-9, along(*high) - along(*low));
  double most = 0;
  for (const Point& p : points) {
    for (const Variant& v : p.variants) {
      const auto it = v.figures.find(args.figure);
      if (it == v.figures.end()) continue;
      for (double y : it->second) most = std::max(most, y);
    }
  }
  if (most <= 0) most = 1;
  const double step = Step(most), top = std::ceil(most / step) * step;
  const auto X = [&](double v) {
    return kLeft + (along(v) - along(*low)) / span * (kWidth - kLeft - kRight);
  };
  const auto Y = [&](double v) { return kHeight - kBottom - v / top * (kHeight - kTop - kBottom); };
  std::ostringstream s;
  s << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << kWidth << ' ' << kHeight
    << "\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" "
       "fill=\"white\"/>\n<text x=\""
    << kLeft << "\" y=\"20\" font-size=\"14\">" << Escape(args.figure) << " over "
    << Escape(args.sweep.substr(0, args.sweep.find('='))) << "</text>\n<text x=\"" << kLeft
    << "\" y=\"34\" fill=\"#666\">" << Escape(machine["isa"].get<std::string>()) << ", "
    << machine["threads"].get<int>() << " threads</text>\n";
  for (double y = 0; y <= top + step / 2; y += step) {
    s << "<line x1=\"" << kLeft << "\" x2=\"" << kWidth - kRight << "\" y1=\"" << Y(y) << "\" y2=\""
      << Y(y) << "\" stroke=\"#ddd\"/><text x=\"" << kLeft - 6 << "\" y=\"" << Y(y) + 4
      << "\" text-anchor=\"end\">" << Number(y) << "</text>\n";
  }
  for (size_t i = 0; i < points.size(); ++i) {
    s << "<text x=\"" << X(xs[i]) << "\" y=\"" << kHeight - kBottom + 18
      << "\" text-anchor=\"middle\">" << Escape(points[i].x.empty() ? points[i].load : points[i].x)
      << "</text>\n";
  }
  for (size_t v = 0; v < points[0].variants.size(); ++v) {
    const char* color = kColors[v % std::size(kColors)];
    std::ostringstream line;
    double last = top / 2;
    for (size_t i = 0; i < points.size(); ++i) {
      const auto it = points[i].variants[v].figures.find(args.figure);
      if (it == points[i].variants[v].figures.end() || it->second.empty()) continue;
      last = Median(it->second);
      const auto [least, greatest] = std::minmax_element(it->second.begin(), it->second.end());
      line << X(xs[i]) << ',' << Y(last) << ' ';
      s << "<line x1=\"" << X(xs[i]) << "\" x2=\"" << X(xs[i]) << "\" y1=\"" << Y(*least)
        << "\" y2=\"" << Y(*greatest) << "\" stroke=\"" << color
        << "\" stroke-opacity=\"0.5\"/><circle cx=\"" << X(xs[i]) << "\" cy=\"" << Y(last)
        << "\" r=\"3\" fill=\"" << color << "\"/>\n";
    }
    const Variant& variant = points[0].variants[v];
    const std::string name = variant.name.empty()              ? "everything on"
                             : variant.peer || variant.setting ? variant.name
                                                               : "without " + variant.name;
    s << "<polyline points=\"" << line.str() << "\" fill=\"none\" stroke=\"" << color
      << "\" stroke-width=\"2\"/><text x=\"" << kWidth - kRight + 8 << "\" y=\"" << Y(last) + 4
      << "\" fill=\"" << color << "\">" << Escape(name) << "</text>\n";
  }
  // A ceiling is what arithmetic allows; it is given, not measured.
  for (const std::string& given : args.ceilings) {
    const size_t equals = given.find('=');
    const double y = std::atof(given.c_str() + (equals == std::string::npos ? 0 : equals + 1));
    if (y <= 0 || y > top * 1.5) continue;
    s << "<line x1=\"" << kLeft << "\" x2=\"" << kWidth - kRight << "\" y1=\"" << Y(y) << "\" y2=\""
      << Y(y) << "\" stroke=\"#000\" stroke-dasharray=\"6 4\"/><text x=\"" << kWidth - kRight + 8
      << "\" y=\"" << Y(y) + 4 << "\">" << Escape(given.substr(0, equals)) << "</text>\n";
  }
  s << "</svg>\n";
  return s.str();
}

}  // namespace engine::cli
