// Low-rank branches in a step: made of what stands at a linear, and added for the rows that chose
// them. Invariant: a row's bits are those of a step, and of a model, without any other adapter.
#include <algorithm>
#include <cmath>

#include "engine/kernels/parallel.h"
#include "engine/model/extensions.h"
#include "engine/model/low_rank.h"
#include "engine/model/lower.h"
#include "engine/torch_ops.h"
#include "engine/util.hpp"

namespace engine::model {
namespace {

using kernels::Reserve;

// What each output of a site's base and branch is multiplied by: the magnitude over the length of
// the row that both make.
Status OutputScales(Model* model, const Site& site, const engine_low_rank& low,
                    std::vector<float>* out) {
  constexpr int64_t kRowsTogether = 256;
  LowRank branch;
  ENGINE_RETURN_IF_ERROR(LowRank::Read(low, site.name, site.in, site.out, &branch));
  out->resize(static_cast<size_t>(site.out));
  std::vector<double> rows(static_cast<size_t>(kRowsTogether * site.in));
  for (int64_t first = 0; first < site.out; first += kRowsTogether) {
    const int64_t last = std::min(site.out, first + kRowsTogether);
    ENGINE_RETURN_IF_ERROR(
        model->ReadRows(*model->FindParam(site.weight), first, last, rows.data()));
    kernels::ParallelFor(last - first, 8, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        (*out)[static_cast<size_t>(first + r)] =
            static_cast<float>(branch.AddTo(first + r, rows.data() + r * site.in));
      }
    });
  }
  for (size_t r = 0; r < out->size(); ++r) {
    if (std::isfinite((*out)[r])) continue;
    return Error(ENGINE_DATA_LOSS, "row ", r, " of the weight of '", site.name,
                 "' and its branch has length 0, which a magnitude cannot scale");
  }
  return Status();
}

}  // namespace

Status Lowered::PackTensor(const Tensor& t, kernels::Format format,
                           std::shared_ptr<kernels::PackedMatrix>* out) {
  const Tensor f32 = ops::Contiguous(ops::To(ops::Detach(t), ENGINE_F32));
  ENGINE_RETURN_IF_ERROR(kernels::PackedMatrix::Make(format, f32.size(0), f32.size(1), out));
  for (int64_t r = 0; r < f32.size(0); r += kernels::kPanel) {
    (*out)->SetRows(r, std::min(kernels::kPanel, f32.size(0) - r),
                    ops::Data<float>(f32) + r * f32.size(1));
  }
  return Status();
}

// Packed in f32 whatever the model's dtype.
Status Lowered::MakeBranch(Model* model, uint32_t site, const engine_low_rank& low, Branch* out) {
  out->scale = static_cast<float>(low.scale);
  out->adapter = model->AdapterNumber(View(low.adapter));
  ENGINE_RETURN_IF_ERROR(PackTensor(ops::Borrow(low.a), kernels::Format::kF32, &out->a));
  ENGINE_RETURN_IF_ERROR(PackTensor(ops::Borrow(low.b), kernels::Format::kF32, &out->b));
  if (low.magnitude == nullptr) return Status();
  return OutputScales(model, model->sites()[site], low, &out->outputs);
}

Status Lowered::NoneNamed(const Model& model, uint32_t site, uint32_t unfused) {
  for (const Impl* at = &model.impl_entry(site); at != nullptr; at = at->replaced.get()) {
    if (at->made_by.empty()) continue;
    const auto* low = Ask<engine_low_rank>(at->c, ENGINE_EXT_LOW_RANK);
    if (low == nullptr || low->adapter.size == 0) continue;
    return Error(ENGINE_UNIMPLEMENTED, "site '", model.sites()[site].name, "' has adapter '",
                 View(low->adapter), "', and what stands at '", model.sites()[unfused].name,
                 "' can only be served whole, so that sequences cannot choose; leave out what "
                 "stands there, or the adapter's name");
  }
  return Status();
}

bool Lowered::LinearPlan::Scales(uint32_t adapter) const {
  return std::any_of(branches.begin(), branches.end(), [&](const Branch& branch) {
    return !branch.outputs.empty() && (branch.adapter == 0 || branch.adapter == adapter);
  });
}

bool Lowered::ScalesAny(const LinearPlan& linear) const {
  return std::any_of(spans_.begin(), spans_.end(),
                     [&](const Span& span) { return linear.Scales(span.adapter); });
}

void Lowered::AddBranches(const LinearPlan& linear, const float* x, int64_t in, float* y) {
  for (const Branch& branch : linear.branches) {
    if (branch.adapter == 0) {
      AddBranch(branch, x, spans_.back().end, in, linear.out, y);
      continue;
    }
    for (const Span& span : spans_) {
      if (branch.adapter != span.adapter) continue;
      AddBranch(branch, x + span.begin * in, span.end - span.begin, in, linear.out,
                y + span.begin * linear.out);
    }
  }
}

// Rows that nothing scales are added up in the order of a step that has no other rows.
void Lowered::AddApart(const LinearPlan& linear, const float* x, int64_t in, float* y) {
  for (const Span& span : spans_) {
    const int64_t rows = span.end - span.begin, first = span.begin * linear.out;
    const bool scales = linear.Scales(span.adapter);
    float* const sum = sum_.data() + first;
    const auto add_sum = [&] {
      for (int64_t k = 0; k < rows * linear.out; ++k) y[first + k] += sum[k];
    };
    if (!scales) add_sum();
    for (const Branch& branch : linear.branches) {
      if (branch.adapter != 0 && branch.adapter != span.adapter) continue;
      AddBranch(branch, x + span.begin * in, rows, in, linear.out, scales ? sum : y + first);
    }
    if (scales) add_sum();
  }
}

void Lowered::AddBranch(const Branch& branch, const float* x, int64_t rows, int64_t in, int64_t out,
                        float* y) {
  Reserve(&low_, rows * branch.a->out());
  const kernels::Product down{branch.a.get(), low_.data(), branch.a->out()};
  kernels::Multiply({x, in, rows}, {&down, 1}, &scratch_);
  const kernels::Product up{branch.b.get(), y, out, true, branch.scale};
  kernels::Multiply({low_.data(), branch.a->out(), rows}, {&up, 1}, &scratch_);
  if (branch.outputs.empty()) return;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < out; ++o) y[r * out + o] *= branch.outputs[static_cast<size_t>(o)];
  }
}

}  // namespace engine::model
