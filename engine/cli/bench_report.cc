#include <algorithm>
#include <cstdio>
#include <random>

#include "engine/cli/bench.h"

namespace engine::cli {

using nlohmann::ordered_json;

namespace {

const std::vector<double>* FigureOf(const Variant& v, const std::string& figure) {
  const auto it = v.figures.find(figure);
  return it == v.figures.end() || it->second.empty() ? nullptr : &it->second;
}

std::string Title(const Variant& v) {
  if (v.name.empty()) return "everything on";
  if (v.peer || v.setting) return v.name;
  return v.name + " (" + v.kind + ")";
}

// How much better the whole is than without the variant's piece, or than the peer.
bool Gain(const Variant& on, const Variant& other, const std::string& figure, Interval* out) {
  const auto *a = FigureOf(on, figure), *b = FigureOf(other, figure);
  if (a == nullptr || b == nullptr || a->size() != b->size()) return false;
  *out = IsTime(figure) ? Ratio(*b, *a) : Ratio(*a, *b);
  return true;
}

std::string Cell(const Variant& v, const std::string& figure, double unit = 1) {
  const auto* values = FigureOf(v, figure);
  if (values == nullptr) return "-";
  char text[32];
  std::snprintf(text, sizeof text, Median(*values) * unit < 100 ? "%.3f" : "%.0f",
                Median(*values) * unit);
  return text;
}

}  // namespace

double Median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  const size_t n = v.size();
  return n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

Interval Ratio(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> ratios;
  for (size_t i = 0; i < a.size(); ++i) ratios.push_back(a[i] / b[i]);
  std::mt19937 random(1);
  std::uniform_int_distribution<size_t> pick(0, ratios.size() - 1);
  std::vector<double> medians;
  for (int round = 0; round < 2000; ++round) {
    std::vector<double> sample;
    for (size_t i = 0; i < ratios.size(); ++i) sample.push_back(ratios[pick(random)]);
    medians.push_back(Median(std::move(sample)));
  }
  std::sort(medians.begin(), medians.end());
  return {Median(ratios), medians[50], medians[1949]};
}

bool IsTime(const std::string& figure) {
  return figure == "run_s" || figure == "load_s" || figure == "seconds" ||
         figure.find("_ms") != std::string::npos || figure.find("bytes") != std::string::npos;
}

void PrintTable(const std::vector<Point>& points, const BenchArgs& args,
                const ordered_json& machine) {
  const Variant& first = points[0].variants[0];
  const auto* runs = FigureOf(first, "run_s");
  std::printf("isa %s, %d threads, %zu runs each, interleaved\n",
              machine["isa"].get<std::string>().c_str(), machine["threads"].get<int>(),
              runs == nullptr ? 0 : runs->size());
  for (const Point& point : points) {
    if (!point.load.empty()) std::printf("load: %s\n", point.load.c_str());
    std::printf("%-26s %12s %9s  %-22s %s\n", "", args.figure.c_str(), "peak MiB",
                "everything on gains", "output");
    const Variant& on = point.variants[0];
    for (const Variant& v : point.variants) {
      std::string gain, same;
      Interval r;
      if (&v != &on && Gain(on, v, args.figure, &r)) {
        char text[64];
        std::snprintf(text, sizeof text, "%.2fx [%.2f, %.2f]", r.median, r.low, r.high);
        gain = text;
      }
      if (&v != &on && !v.peer) same = v.output == on.output ? "same" : "differs";
      std::printf("%-26s %12s %9s  %-22s %s\n", Title(v).c_str(), Cell(v, args.figure).c_str(),
                  Cell(v, "peak_bytes", 1.0 / 1048576).c_str(), gain.c_str(), same.c_str());
    }
    for (const Variant& v : point.variants) {
      if (!v.repeats_itself) {
        std::printf("note: the output of '%s' is not the same in each run\n", Title(v).c_str());
      }
    }
  }
}

ordered_json ToJson(const std::vector<Point>& points, const BenchArgs& args,
                    const ordered_json& machine) {
  ordered_json j;
  j["pipeline"] = args.pipeline.file;
  if (!args.pipeline.sets.empty()) j["sets"] = args.pipeline.sets;
  j["isa"] = machine["isa"];
  j["threads"] = machine["threads"];
  j["figure"] = args.figure;
  j["points"] = ordered_json::array();
  for (const Point& point : points) {
    ordered_json p;
    if (!point.load.empty()) p["load"] = point.load;
    if (!point.x.empty()) p["x"] = point.x;
    p["variants"] = ordered_json::array();
    for (const Variant& v : point.variants) {
      ordered_json item;
      item[v.peer      ? "peer"
           : v.setting ? "with"
                       : "without"] = v.name.empty() ? ordered_json() : ordered_json(v.name);
      if (!v.kind.empty()) item["kind"] = v.kind;
      item["figures"] = v.figures;
      if (!v.peer) item["repeats_itself"] = v.repeats_itself;
      Interval r;
      if (!v.name.empty() && Gain(point.variants[0], v, args.figure, &r)) {
        item["gain"] = {{"median", r.median}, {"low", r.low}, {"high", r.high}};
      }
      if (!v.name.empty() && !v.peer) {
        item["same_output"] = v.output == point.variants[0].output;
      }
      p["variants"].push_back(item);
    }
    j["points"].push_back(p);
  }
  return j;
}

}  // namespace engine::cli
