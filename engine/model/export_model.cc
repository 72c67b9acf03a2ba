#include "engine/model/export_model.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>

#include "engine/abi/host.h"
#include "engine/kernels/parallel.h"
#include "engine/model/extensions.h"
#include "engine/model/low_rank.h"
#include "engine/torch_ops.h"
#include "nlohmann/json.hpp"

namespace engine::model {
namespace {

const char* CodecName(uint32_t codec) {
  switch (codec) {
    case ENGINE_CODEC_INT8_PER_CHANNEL:
      return "INT8_PER_CHANNEL";
    case ENGINE_CODEC_INT8_GROUPS:
      return "INT8_GROUPS";
    default:
      return "DENSE";
  }
}

const char* DtypeName(uint32_t dtype) {
  return dtype == ENGINE_F64 ? "F64" : dtype == ENGINE_BF16 ? "BF16" : "F32";
}

// What a linear's site adds to its weight, from the first rewrite to the last.
struct SiteBranches {
  uint32_t site;
  std::vector<const engine_low_rank*> branches;
};

bool IsOriginalImpl(const Model& model, uint32_t site, const engine_site_impl* at) {
  const Impl* entry = &model.impl_entry(site);
  while (entry != nullptr && &entry->c != at) entry = entry->replaced.get();
  return entry != nullptr && entry->made_by.empty();
}

Status Unmergeable(const Model& model, uint32_t site, std::string_view why) {
  return Error(ENGINE_UNIMPLEMENTED, "site '", model.sites()[site].name, "' of resource '",
               model.impl_entry(site).made_by, "' ", why);
}

// Every site whose function a file of plain weights can say, with its branches; the first other one
// is an error.
Status CollectBranches(const Model& model, std::vector<SiteBranches>* out) {
  std::set<std::string> adapters;
  for (uint32_t i = 0; i < model.sites().size(); ++i) {
    const Site& site = model.sites()[i];
    // Where keys and values lie, and what training takes for a loss, is no part of a file.
    if (site.kind == ENGINE_SITE_KV_STORE || site.kind == ENGINE_SITE_LOSS) continue;
    SiteBranches found{i, {}};
    const engine_site_impl* under = &Peel(model.impl(i), &found.branches);
    const bool weighs = site.kind == ENGINE_SITE_LINEAR || site.kind == ENGINE_SITE_HEAD;
    const auto* packed =
        weighs ? Ask<engine_packed_linear>(*under, ENGINE_EXT_PACKED_LINEAR) : nullptr;
    const Param* param = const_cast<Model&>(model).FindParam(site.weight);
    if (packed != nullptr ? param == nullptr || param->packed != packed->packed->matrix
                          : !IsOriginalImpl(model, i, under)) {
      return Unmergeable(model, i, "computes what a file of weights cannot say");
    }
    if (found.branches.empty()) continue;
    if (!weighs) return Unmergeable(model, i, "has a low-rank branch, and is no linear");
    if (!param->tie_group.empty()) {
      return Unmergeable(model, i,
                         "has a low-rank branch, and its weight is tied to the embedding, which "
                         "the branch does not change; load a checkpoint with a head of its own");
    }
    for (const engine_low_rank* low : found.branches) {
      if (low->adapter.size != 0) adapters.insert(std::string(View(low->adapter)));
    }
    out->push_back(std::move(found));
  }
  if (adapters.size() < 2) return Status();
  return Error(ENGINE_FAILED_PRECONDITION, "the model has ", adapters.size(), " named adapters, '",
               *adapters.begin(), "' and '", *adapters.rbegin(),
               "' among them, of which a request chooses one; merge each by itself");
}

// --- values -------------------------------------------------------------------------------------

// The parameters as the model holds them now, in place of those of the file.
class MergedRows : public RowSource {
 public:
  MergedRows(const Model& model, bool original) : model_(model), original_(original) {}

  Status Add(const SiteBranches& found) {
    const Site& site = model_.sites()[found.site];
    std::vector<LowRank>& to = branches_[site.weight];
    for (const engine_low_rank* low : found.branches) {
      ENGINE_RETURN_IF_ERROR(LowRank::Read(*low, site.name, site.in, site.out, &to.emplace_back()));
    }
    return Status();
  }

  bool Replaces(const TensorInfo& tensor) const override {
    const Param& param = Of(tensor);
    return branches_.count(tensor.name) != 0 || param.tensor ||
           (param.packed != nullptr && !original_);
  }

  Status Rows(const TensorInfo& tensor, int64_t begin, int64_t end, double* to) const override {
    const Param& param = Of(tensor);
    const bool from_file = original_ && param.packed != nullptr;
    ENGINE_RETURN_IF_ERROR(from_file ? model_.base().checkpoint->ReadRows(tensor, begin, end, to)
                                     : model_.ReadRows(param, begin, end, to));
    const int64_t columns = tensor.columns();
    std::atomic<int64_t> bad = -1;
    const auto it = branches_.find(tensor.name);
    kernels::ParallelFor(end - begin, 8, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        double* row = to + r * columns;
        if (it != branches_.end()) {
          for (const LowRank& branch : it->second) {
            const double factor = branch.AddTo(begin + r, row);
            if (factor == 1) continue;
            for (int64_t c = 0; c < columns; ++c) row[c] *= factor;
          }
        }
        double poison = 0;
        for (int64_t c = 0; c < columns; ++c) poison += row[c] - row[c];
        if (poison != 0) bad = begin + r;
      }
    });
    if (bad < 0) return Status();
    return Error(ENGINE_DATA_LOSS, "row ", bad.load(), " of parameter '", param.name,
                 "' holds values that are not finite; such a model is not written");
  }

 private:
  const Param& Of(const TensorInfo& tensor) const {
    return *const_cast<Model&>(model_).FindParam(tensor.name);
  }

  const Model& model_;
  const bool original_;
  std::map<std::string, std::vector<LowRank>, std::less<>> branches_;
};

// --- provenance ---------------------------------------------------------------------------------

std::string Hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

nlohmann::ordered_json Origin(const Model& model) {
  nlohmann::ordered_json j;
  j["engine"] = abi::kEngineVersion;
  j["base"] = {{"name", model.config().name},
               {"path", model.base().checkpoint->path()},
               {"fingerprint", Hex(model.base().fingerprint)},
               {"dtype", DtypeName(model.dtype())}};
  std::set<std::string> changed;
  for (uint32_t i = 0; i < model.sites().size(); ++i) {
    std::vector<const engine_low_rank*> branches;
    Peel(model.impl(i), &branches);
    if (!branches.empty()) changed.insert(model.sites()[i].weight);
  }
  j["parameters"] = nlohmann::ordered_json::object();
  for (const Param& param : model.params()) {
    if (param.stored == nullptr || (!param.trainable && changed.count(param.name) == 0)) continue;
    j["parameters"][param.name] = {{"stored", EncodingName(param.stored->encoding)},
                                   {"codec", CodecName(param.codec)}};
  }
  return j;
}

std::string Dump(const nlohmann::ordered_json& j) {
  return j.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

const Param* Quantized(const Model& model) {
  for (const Param& param : model.params()) {
    if (param.packed != nullptr) return &param;
  }
  return nullptr;
}

Status Prepare(const Model& model, const MergeRequest& request,
               std::vector<SiteBranches>* branches) {
  const ExportRequest place{request.path, request.format, request.replace, nullptr, {}, ""};
  ENGINE_RETURN_IF_ERROR(CheckExportPath(*model.base().checkpoint, place));
  ENGINE_RETURN_IF_ERROR(CollectBranches(model, branches));
  const Param* quantized = Quantized(model);
  if (quantized == nullptr || request.merge_into != ENGINE_MERGE_REFUSE) return Status();
  return Error(ENGINE_FAILED_PRECONDITION, "parameter '", quantized->name, "' is held as ",
               CodecName(quantized->codec),
               "; say what to merge into: DEQUANTIZED, the rounded weights that training saw, or "
               "ORIGINAL, those that were loaded");
}

}  // namespace

Status Provenance(const Model& model, std::string* json) {
  *json = Dump(Origin(model));
  return Status();
}

Status CheckExportModel(const Model& model, const MergeRequest& request) {
  std::vector<SiteBranches> branches;
  return Prepare(model, request, &branches);
}

Status ExportModel(const Model& model, const MergeRequest& request) {
  std::vector<SiteBranches> branches;
  ENGINE_RETURN_IF_ERROR(Prepare(model, request, &branches));
  const bool quantized = Quantized(model) != nullptr;
  const bool original = request.merge_into == ENGINE_MERGE_ORIGINAL;
  MergedRows rows(model, original);
  size_t count = 0;
  for (const SiteBranches& found : branches) {
    ENGINE_RETURN_IF_ERROR(rows.Add(found));
    count += found.branches.size();
  }
  nlohmann::ordered_json j = Origin(model);
  const char* into = !quantized ? "LOADED" : original ? "ORIGINAL" : "DEQUANTIZED";
  j["merged"] = {{"branches", count}, {"into", into}};
  ExportRequest out{request.path, request.format, request.replace, &rows, {}, Dump(j)};
  const nlohmann::ordered_json& base = j["base"];
  out.notes["engine.version"] = abi::kEngineVersion;
  for (const auto& [key, value] : base.items()) {
    out.notes["engine.base." + key] = value.get<std::string>();
  }
  out.notes["engine.merged.branches"] = std::to_string(count);
  out.notes["engine.merged.into"] = into;
  return ExportCheckpoint(*model.base().checkpoint, out);
}

engine_status* ExportModelC(engine_model* model, const engine_export* how) {
  return Guard([&]() -> Status {
    static constexpr const char* kTypes[] = {"F32", "F16", "BF16", "F64", "Q8_0", "INT8"};
    ENGINE_RETURN_IF_ERROR(CheckComplete(how, "how the model is written"));
    if (how->type >= std::size(kTypes) || how->merge_into > ENGINE_MERGE_ORIGINAL) {
      return Error(ENGINE_INVALID_ARGUMENT, "type ", how->type, " or merge_into ", how->merge_into,
                   " of an export is not known");
    }
    MergeRequest request;
    request.path = std::string(View(how->path));
    request.replace = (how->flags & ENGINE_EXPORT_REPLACE) != 0;
    request.merge_into = static_cast<engine_merge_into>(how->merge_into);
    ENGINE_RETURN_IF_ERROR(ParseExportFormat(request.path, kTypes[how->type], &request.format));
    const bool check = (how->flags & ENGINE_EXPORT_CHECK) != 0;
    return check ? CheckExportModel(*FromC(model), request) : ExportModel(*FromC(model), request);
  });
}

engine_status* ProvenanceC(const engine_model* model, engine_put put, void* arg) {
  return Guard([&]() -> Status {
    std::string json;
    ENGINE_RETURN_IF_ERROR(Provenance(*FromC(model), &json));
    return Status(put(arg, Str(json)));
  });
}

}  // namespace engine::model
