#include "engine/kernels/int_kernels.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <utility>
#include <vector>

#include "engine/kernels/isa.h"
#include "engine/kernels/parallel.h"
#include "engine/util.hpp"

namespace engine::kernels {
namespace {

constexpr std::array<int64_t, 7> kRows = {1, 2, 4, 8, 16, 32, 64};  // choices hold from here on
constexpr std::array<const char*, 7> kForms = {"s8 row",    "s8/32",  "s8/64",       "s8/96",
                                               "s8/longer", "u4 - 8", "u4 + minimum"};
constexpr int kRoads = 3;  // as Isa counts them

size_t FormOf(const IntScheme& scheme) {
  if (scheme.bits == 4) return scheme.minimum ? 6 : 5;
  return static_cast<size_t>(std::min<int64_t>(scheme.group / 32, 4));
}

size_t RowsOf(int64_t rows) {
  size_t at = 0;
  while (at + 1 < kRows.size() && kRows[at + 1] <= rows) ++at;
  return at;
}

using Choices = std::array<std::array<std::atomic<const IntKernel*>, kRows.size()>, kForms.size()>;
Choices& ChoicesOf(Isa isa) {
  static std::array<Choices, kRoads> choices = {};
  return choices[static_cast<size_t>(isa)];
}

// A small product with everything that a kernel reads.
class Sample {
 public:
  Sample(const IntScheme& scheme, int64_t out, int64_t in, int64_t rows)
      : x_(static_cast<size_t>(RowBlocks(rows) * kRowBlock * CodesStride(in))),
        y_(static_cast<size_t>(rows * out)) {
    const Status status = PackedMatrix::MakeInt(scheme, out, in, &w_);
    if (!status.ok()) return;
    uint64_t state = 88172645463325252u;  // xorshift; Marsaglia 2003
    const auto next = [&] {
      state ^= state << 13;
      state ^= state >> 7;
      return (state ^= state << 17) >> 32;
    };
    // Every seventh code of both sides is an extreme: whatever saturates shows itself.
    const auto code = [&](uint64_t i, int least) {
      const auto any = static_cast<int>(next() % 255) - 127;
      return static_cast<int8_t>(i % 7 != 0 ? any : any < 0 ? least : 127);
    };
    if (scheme.bits == 8) {
      std::vector<int8_t> row(static_cast<size_t>(in));
      std::vector<float> scales(static_cast<size_t>(w_->groups()), 0.0078125f);
      for (int64_t r = 0; r < out; ++r) {
        // Beyond some rows their values matter no longer, only their number.
        for (size_t k = 0; r < 256 && k < row.size(); ++k) row[k] = code(k, -128);
        w_->SetRowInt8(r, row.data(), scales.data());
      }
    } else {
      const int64_t head = scheme.minimum ? 4 : 2, block = 16 + head;
      std::vector<uint8_t> blocks(static_cast<size_t>(out * (in / 32) * block));
      for (uint8_t& byte : blocks) byte = static_cast<uint8_t>(next());
      std::vector<const uint8_t*> at;
      for (size_t i = 0; i < blocks.size(); i += static_cast<size_t>(block)) {
        const uint16_t scale = FloatToHalf(0.0078125f);
        std::memcpy(&blocks[i], &scale, 2);
        if (scheme.minimum) std::memcpy(&blocks[i + 2], &scale, 2);
      }
      for (int64_t r = 0; r < out; ++r) at.push_back(blocks.data() + r * (in / 32) * block);
      for (int64_t r = 0; r < out; r += kPanel) {
        w_->SetRowsBlocks(r, std::min(kPanel, out - r), at.data() + r);
      }
    }
    const int64_t groups = w_->groups();
    scales_.resize(static_cast<size_t>(RowBlocks(rows) * kRowBlock * groups));
    sums_.resize(scales_.size());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t g = 0; g < groups; ++g) {
        scales_[static_cast<size_t>(FactorAt(r, groups) + g * kRowBlock)] =
            0.03125f + 0.001f * static_cast<float>((r + 3 * g) % 23);
      }
      for (int64_t k = 0; k < in; ++k) {
        const int8_t q = code(static_cast<uint64_t>(k + r), -127);
        x_[static_cast<size_t>(r * CodesStride(in) + k)] = q;
        sums_[static_cast<size_t>(FactorAt(r, groups) + k / w_->group_size() * kRowBlock)] += q;
      }
    }
    args_.panels = std::as_const(*w_).panel(0);
    args_.panel_bytes = w_->panel_bytes();
    args_.groups = groups;
    args_.x = x_.data();
    args_.ldx = CodesStride(in);
    args_.rows = rows;
    args_.y = y_.data();
    args_.ldy = args_.out = out;
    args_.group_size = w_->group_size();
    args_.group_bytes = w_->group_bytes();
    args_.last_length = w_->last_length();
    args_.whole = scheme.group == 0;
    args_.x_scales = scales_.data();
    args_.x_sums = sums_.data();
  }
  bool made() const { return args_.panels != nullptr; }
  const std::vector<float>& Run(const IntKernel& kernel) {
    PanelsOf(kernel, w_->scheme())(args_, 0, w_->panels());
    return y_;
  }
  double SecondsOf(const IntKernel& kernel) {
    const PanelsFn run = PanelsOf(kernel, w_->scheme());
    const uint64_t begin = NowNs();
    // As it will serve: threads of one core share what limits a kernel.
    ParallelFor(w_->panels(), 1, [&](int64_t from, int64_t to) { run(args_, from, to); });
    return static_cast<double>(NowNs() - begin) * 1e-9;
  }

 private:
  std::shared_ptr<PackedMatrix> w_;
  std::vector<int8_t, LineAllocator<int8_t>> x_;
  std::vector<float> y_;
  std::vector<float, LineAllocator<float>> scales_;
  std::vector<int32_t, LineAllocator<int32_t>> sums_;
  PanelArgs args_ = {};
};

bool Serves(const IntKernel& kernel, int64_t rows) {
  return rows >= kernel.least_rows && (kernel.there == nullptr || kernel.there());
}

// The fastest of those that serve that many rows and give the right bits. A kernel later in the
// road's order must be faster by more than noise.
const IntKernel* Measure(const Road& road, const IntScheme& scheme, int64_t rows) {
  const IntKernel* first = road.int_kernels;
  std::vector<const IntKernel*> candidates = {first};
  for (int64_t i = 1; i < road.int_kernel_count; ++i) {
    if (Serves(first[i], rows) && SameBits(first[i], *first, scheme, rows)) {
      candidates.push_back(first + i);
    }
  }
  if (candidates.size() == 1) return first;
  // Few rows are bound by the weights' way from memory, more by arithmetic.
  Sample sample(scheme, rows <= 2 ? 32768 : 1536, 576, rows);
  if (!sample.made()) return first;
  std::vector<double> best(candidates.size(), 1e9);
  for (int round = 0; round < 5; ++round) {
    for (size_t i = 0; i < candidates.size(); ++i) {
      best[i] = std::min(best[i], sample.SecondsOf(*candidates[i]));
    }
  }
  size_t chosen = 0;
  for (size_t i = 1; i < best.size(); ++i) {
    if (best[i] < 0.97 * best[chosen]) chosen = i;
  }
  return candidates[chosen];
}

using Names = std::map<std::pair<size_t, size_t>, std::string>;  // form, rows

// Lines "FORM <tab> ROWS <tab> KERNEL"; anything else empties it.
Names ReadNames(const std::string& file) {
  Names names;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string form, rows, kernel;
    std::getline(words, form, '\t');
    std::getline(words, rows, '\t');
    std::getline(words, kernel);
    size_t f = 0, r = 0;
    while (f < kForms.size() && form != kForms[f]) ++f;
    while (r < kRows.size() && rows != std::to_string(kRows[r])) ++r;
    if (f == kForms.size() || r == kRows.size() || names.size() > kForms.size() * kRows.size()) {
      return {};
    }
    names[{f, r}] = kernel;
  }
  return names;
}

void WriteNames(const std::string& file, const Names& names) {
  if (file.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(file).parent_path(), error);
  std::string beside = file;
  beside.append(".").append(std::to_string(getpid()));
  {
    std::ofstream out(beside);
    for (const auto& [at, name] : names) {
      out << kForms[at.first] << '\t' << kRows[at.second] << '\t' << name << '\n';
    }
    if (!out.flush()) {
      std::filesystem::remove(beside, error);
      return;
    }
  }
  std::filesystem::rename(beside, file, error);
  if (error) std::filesystem::remove(beside, error);
}

}  // namespace

const IntKernel& IntKernelFor(const IntScheme& scheme, int64_t rows) {
  const IntKernel* chosen =
      ChoicesOf(ActiveIsa())[FormOf(scheme)][RowsOf(rows)].load(std::memory_order_relaxed);
  return chosen != nullptr ? *chosen : *ActiveRoad().int_kernels;
}

bool SameBits(const IntKernel& kernel, const IntKernel& truth, const IntScheme& scheme,
              int64_t rows) {
  for (const int64_t some : {rows, rows + 1, rows + rows / 2}) {
    Sample sample(scheme, 72, 288, some);
    if (!sample.made()) return false;
    const std::vector<float> want = sample.Run(truth), got = sample.Run(kernel);
    if (std::memcmp(want.data(), got.data(), want.size() * sizeof(float)) != 0) return false;
  }
  return true;
}

void ChooseIntKernels(std::span<const IntScheme> schemes, const std::string& file) {
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  const Road& road = ActiveRoad();
  const IntKernel* first = road.int_kernels;
  if (road.int_kernel_count == 1) return;
  Names names = ReadNames(file);
  bool fresh = false;
  for (const IntScheme& scheme : schemes) {
    const size_t form = FormOf(scheme);
    for (size_t r = 0; r < kRows.size(); ++r) {
      std::atomic<const IntKernel*>& choice = ChoicesOf(ActiveIsa())[form][r];
      if (choice.load() != nullptr) continue;
      const IntKernel* chosen = nullptr;
      const auto known = names.find({form, r});
      for (int64_t i = 0; known != names.end() && i < road.int_kernel_count; ++i) {
        if (known->second != first[i].name || !Serves(first[i], kRows[r])) continue;
        if (i == 0 || SameBits(first[i], *first, scheme, kRows[r])) chosen = first + i;
      }
      if (chosen == nullptr) {
        chosen = Measure(road, scheme, kRows[r]);
        names[{form, r}] = chosen->name;
        fresh = true;
      }
      choice.store(chosen);
    }
  }
  if (fresh) WriteNames(file, names);
}

std::string IntKernelReport() {
  std::string report;
  for (size_t form = 0; form < kForms.size(); ++form) {
    std::string line;
    for (size_t r = 0; r < kRows.size(); ++r) {
      const IntKernel* chosen = ChoicesOf(ActiveIsa())[form][r].load();
      if (chosen == nullptr) continue;
      line.append(line.empty() ? "" : ",").append(" ").append(std::to_string(kRows[r]));
      line.append(" ").append(chosen->name);
    }
    if (line.empty()) continue;
    report.append(report.empty() ? "" : "; ").append(kForms[form]).append(":").append(line);
  }
  return report;
}

std::string IntKernelFileName() {
  // The processor, as far as it tells, and what there is to choose from.
  std::string key = IsaReport();
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line) && !line.empty();) {
    for (const char* word : {"vendor_id", "cpu family", "model", "stepping"}) {
      if (line.rfind(word, 0) == 0) key += line;
    }
  }
  const Road& road = ActiveRoad();
  for (int64_t i = 0; i < road.int_kernel_count; ++i) key += road.int_kernels[i].name;
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : key) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  char name[40];
  std::snprintf(name, sizeof name, "kernels-%016lx.txt", static_cast<unsigned long>(hash));
  return name;
}

}  // namespace engine::kernels
