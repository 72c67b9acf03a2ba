#include "engine/model/train_ops.h"

#include "engine/kernels/kernels.h"
#include "engine/kernels/parallel.h"
#include "engine/model/train_nodes.h"
#include "engine/model/train_products.h"
#include "engine/philox.hpp"

namespace engine::model {
namespace {

// --- norm ----------------------------------------------------------------------------------------

struct NormNode : torch::autograd::Node {
  SavedVariable x, weight;
  double eps = 0;

  std::string name() const override { return "EngineNorm"; }
  void release_variables() override {
    x.reset_data();
    weight.reset_data();
  }
  variable_list apply(variable_list&& grads) override {
    const at::NoGradGuard no_grad;
    const Tensor in = x.unpack(), w = weight.unpack();
    const Tensor rows = AsRows(in);
    const int64_t width = rows.size(1), count = rows.size(0);
    const bool own = task_should_compute_output(1);
    if (!OnKernels(rows) || !OnKernels(w) || !OnRows(grads[0])) {
      const Tensor dy = AsRows(grads[0].to(in.scalar_type()));
      const Tensor r = at::rsqrt(at::mean(rows * rows, {-1}, true) + eps);
      const Tensor g = dy * w, unit = rows * r;
      const Tensor dx = r * (g - unit * at::mean(g * unit, {-1}, true));
      return {dx.view(in.sizes()), own ? at::sum(dy * unit, {0}) : Tensor()};
    }
    const Tensor dy = AsRows(grads[0]);
    Tensor dx = at::empty_like(rows);
    const int64_t pieces = (count + kRowsTogether - 1) / kRowsTogether;
    const Tensor sums = own ? at::zeros({pieces, width}, rows.options()) : Tensor();
    const float *xs = rows.const_data_ptr<float>(), *ws = w.const_data_ptr<float>();
    const Rows dys(dy);
    float* const to = dx.mutable_data_ptr<float>();
    float* const weights = own ? sums.mutable_data_ptr<float>() : nullptr;
    const kernels::Road& road = kernels::ActiveRoad();
    kernels::ParallelFor(pieces, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> buffer;
      for (int64_t p = begin; p < end; ++p) {
        const int64_t last = std::min(count, (p + 1) * kRowsTogether);
        for (int64_t r = p * kRowsTogether; r < last; ++r) {
          road.rms_norm_grad(xs + r * width, width, ws, static_cast<float>(eps),
                             dys.Read(r, &buffer), to + r * width,
                             own ? weights + p * width : nullptr);
        }
      }
    });
    return {dx.view(in.sizes()), own ? at::sum(sums, {0}) : Tensor()};
  }
};

Tensor NormForward(const Tensor& x, const Tensor& weight, double eps) {
  const Tensor rows = AsRows(x);
  if (!OnKernels(rows) || !OnKernels(weight)) {
    // In float at least, as Hugging Face's norms.
    const Tensor wide = rows.scalar_type() == at::kDouble ? rows : rows.to(at::kFloat);
    const Tensor r = at::rsqrt(at::mean(wide * wide, {-1}, true) + eps);
    return (weight * (wide * r).to(rows.scalar_type())).to(ProductType(x)).view(x.sizes());
  }
  const Tensor y = at::empty(rows.sizes(), rows.options().dtype(ProductType(x)));
  const Rows from(rows), to(y);
  const float* w = weight.const_data_ptr<float>();
  const kernels::Road& road = kernels::ActiveRoad();
  kernels::ParallelFor(rows.size(0), kRowsTogether, [&](int64_t begin, int64_t end) {
    std::vector<float> in, out;
    for (int64_t r = begin; r < end; ++r) {
      float* const values = to.Write(r, &out);
      road.rms_norm(from.Read(r, &in), rows.size(1), w, static_cast<float>(eps), values);
      to.Done(r, values);
    }
  });
  return y.view(x.sizes());
}

// --- dropout -------------------------------------------------------------------------------------

// y = x, kept where the draw says so. Draws have 16 bits, eight to a block of random numbers.
Tensor Drop(const Tensor& x, const Dropout& how) {
  const Tensor in = x.contiguous();
  const auto limit = static_cast<uint32_t>(std::lround(how.p * 65536));
  const double scale = 1 / (1 - how.p);
  Tensor keep = at::empty(in.sizes(), in.options().device(at::kCPU).dtype(at::kFloat));
  float* const to = keep.mutable_data_ptr<float>();
  const Philox random(how.seed, how.stream);
  const int64_t count = in.numel();
  kernels::ParallelFor((count + 7) / 8, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const auto draws = random.Block(static_cast<uint64_t>(block));
      const int64_t some = std::min<int64_t>(8, count - 8 * block);
      for (int64_t i = 0; i < some; ++i) {
        const uint32_t draw = draws[static_cast<size_t>(i / 2)] >> (16 * (i % 2)) & 0xffff;
        to[8 * block + i] = draw < limit ? 0.0f : static_cast<float>(scale);
      }
    }
  });
  return in * keep.to(in.options());
}

struct DropoutNode : torch::autograd::Node {
  Dropout how;
  std::string name() const override { return "EngineDropout"; }
  variable_list apply(variable_list&& grads) override { return {Drop(grads[0], how)}; }
};

// --- linears -------------------------------------------------------------------------------------

// A linear as tensors, from forward to backward.
struct Linear {
  Tensor weight, a, b;
  std::shared_ptr<const kernels::PackedMatrix> packed;
  double scale = 0;
  Dropout dropout;
  Tensor low;  // A·dropout(x), [N, rank]

  explicit Linear(const LinearParts& parts)
      : packed(parts.packed), scale(parts.scale), dropout(parts.dropout) {
    if (parts.weight) weight = ToAten(*parts.weight);
    if (!parts.a) return;
    a = ToAten(*parts.a);
    b = ToAten(*parts.b);
  }
  // What autograd leads to, in the order of ToParams.
  void Edges(variable_list* edges) const { edges->insert(edges->end(), {weight, a, b}); }

  Tensor Forward(const Tensor& x) {
    ProductSum sum;
    Tensor y;
    if (packed != nullptr) {
      y = PackedProduct(x, *packed);
    } else {
      sum.Add(x, weight, false);
    }
    if (a.defined()) {
      low = Times(dropout.p > 0 ? Drop(x, dropout) : x, a, false);
      sum.Add(low, b, false, scale);
    }
    if (!y.defined()) return sum.Run();
    if (!sum.empty()) sum.RunInto(&y, true);
    return y;
  }

  // What Backward needs of Forward on silu(gate) * up; the values of the result are anything.
  Tensor ForwardLow(const Tensor& gate, const Tensor& up);

  // dy·B, [N, rank], without the scale; undefined without a branch.
  Tensor Back(const Tensor& dy) const { return a.defined() ? Times(dy, b, true) : Tensor(); }
  // Adds what dy [N, out] means for x to `dx`; what is dropped of it to `dropped`.
  void ToInput(const Tensor& dy, const Tensor& back, ProductSum* dx, Tensor* dropped) const {
    dx->Add(dy, packed != nullptr ? Unpacked(*packed, dy.scalar_type()) : weight, true);
    if (!a.defined()) return;
    if (dropout.p == 0) return dx->Add(back, a, true, scale);
    const Tensor part = Drop(Times(back, a, true), dropout) * scale;
    *dropped = dropped->defined() ? *dropped + part : part;
  }
  // Appends the gradients of weight, a and b.
  void ToParams(const Tensor& x, const Tensor& dy, const Tensor& back, bool weight_too,
                variable_list* grads) const {
    grads->push_back(weight_too ? RowsProduct(dy, x).to(weight.scalar_type()) : Tensor());
    if (!a.defined()) {
      grads->insert(grads->end(), 2, Tensor());
      return;
    }
    const Tensor da = RowsProduct(back, dropout.p > 0 ? Drop(x, dropout) : x);
    grads->push_back((da * scale).to(a.scalar_type()));
    grads->push_back((RowsProduct(dy, low) * scale).to(b.scalar_type()));
  }
  void Backward(const Tensor& x, const Tensor& dy, bool x_too, bool weight_too, ProductSum* dx,
                Tensor* dropped, variable_list* grads) const {
    const Tensor back = Back(dy);
    ToParams(x, dy, back, weight_too, grads);
    if (x_too) ToInput(dy, back, dx, dropped);
  }
};

// Rotates heads of y [N, heads * head_dim] in place; `forth` or back.
struct Turn {
  Tensor cos, sin;  // [tokens, head_dim] or [N, head_dim]; undefined: nothing turns
  explicit Turn(const Rotary& r) {
    if (r.cos == nullptr) return;
    cos = AsRows(ToAten(*r.cos));
    sin = AsRows(ToAten(*r.sin));
  }
  Tensor Apply(const Tensor& y, bool forth) const {
    if (!cos.defined()) return y;
    const int64_t width = cos.size(1), tokens = cos.size(0), rows = y.size(0);
    const int64_t heads = y.size(1) / width, half = width / 2;
    if (!OnRows(y) || cos.scalar_type() != at::kFloat) {
      const Tensor x = y.view({rows / tokens, tokens, heads, width});
      const Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);
      const Tensor turned = at::cat({-x.narrow(3, half, half), x.narrow(3, 0, half)}, 3);
      return (x * c + turned * (forth ? s : -s)).to(y.scalar_type()).reshape({rows, -1});
    }
    const Tensor in = y.contiguous(), out = at::empty_like(in), signed_sin = forth ? sin : -sin;
    const Rows from(in), to(out);
    const float *c = cos.const_data_ptr<float>(), *s = signed_sin.const_data_ptr<float>();
    const kernels::Road& road = kernels::ActiveRoad();
    kernels::ParallelFor(rows, kRowsTogether, [&](int64_t begin, int64_t end) {
      std::vector<float> read, written;
      for (int64_t r = begin; r < end; ++r) {
        const int64_t at = r % tokens * width;
        float* const values = to.Write(r, &written);
        road.rope(from.Read(r, &read), heads, width, c + at, s + at, values);
        to.Done(r, values);
      }
    });
    return out;
  }
};

Tensor SumUp(const ProductSum& products, const Tensor& dropped, const Tensor& like) {
  Tensor dx = products.Run();
  if (dropped.defined()) dx = dx + dropped;
  return dx.to(like.scalar_type()).view(like.sizes());
}

// x, then weight, a and b of each linear are both the edges and what is saved.
struct LinearsNode : torch::autograd::Node {
  std::vector<Linear> linears;
  std::vector<Turn> turns;
  Saved saved;
  at::ScalarType type = at::kFloat;

  std::string name() const override { return "EngineLinears"; }
  void release_variables() override {
    saved.Drop();
    for (Linear& l : linears) l.low = Tensor();
  }
  variable_list apply(variable_list&& grads) override {
    const at::NoGradGuard no_grad;
    const variable_list kept = saved.Take();
    const Tensor x = AsRows(kept[0]).to(type);
    const bool x_too = task_should_compute_output(0);
    variable_list result(1);
    ProductSum dx;
    Tensor dropped;
    for (size_t i = 0; i < linears.size(); ++i) {
      const size_t edge = 1 + 3 * i;
      if (!grads[i].defined()) {
        result.resize(edge + 3);
        continue;
      }
      const Tensor dy = turns[i].Apply(AsRows(grads[i]), false);
      linears[i].Backward(x, dy, x_too, task_should_compute_output(edge), &dx, &dropped, &result);
    }
    if (x_too && !dx.empty()) result[0] = SumUp(dx, dropped, kept[0]);
    return result;
  }
};

// The same for the three linears of an MLP. Saves x, gate and up.
struct MlpNode : torch::autograd::Node {
  std::vector<Linear> linears;
  Saved saved;  // x, then the edges, then gate and up
  at::ScalarType type = at::kFloat;

  std::string name() const override { return "EngineMlp"; }
  void release_variables() override {
    saved.Drop();
    for (Linear& l : linears) l.low = Tensor();
  }
  variable_list apply(variable_list&& grads) override {
    const at::NoGradGuard no_grad;
    const variable_list kept = saved.Take();
    const Tensor x = AsRows(kept[0]).to(type), gate = kept[10], up = kept[11];
    const Tensor dy = AsRows(grads[0]);
    const bool x_too = task_should_compute_output(0);
    const Linear& down = linears[2];
    const Tensor back = down.Back(dy);
    ProductSum to_h;
    Tensor dropped_h;
    down.ToInput(dy, back, &to_h, &dropped_h);
    Tensor dh = to_h.Run();
    if (dropped_h.defined()) dh += dropped_h;
    Tensor h = at::empty_like(gate), dup = at::empty_like(gate);
    GateBackward(gate, up, &dh, &h, &dup);
    variable_list down_grads, result(1);
    down.ToParams(h, dy, back, task_should_compute_output(7), &down_grads);
    h = Tensor();
    ProductSum dx;
    Tensor dropped;
    linears[0].Backward(x, dh, x_too, task_should_compute_output(1), &dx, &dropped, &result);
    linears[1].Backward(x, dup, x_too, task_should_compute_output(4), &dx, &dropped, &result);
    result.insert(result.end(), down_grads.begin(), down_grads.end());
    if (x_too) result[0] = SumUp(dx, dropped, kept[0]);
    return result;
  }

  // h again; dh becomes the gradient of gate.
  static void GateBackward(const Tensor& gate, const Tensor& up, Tensor* dh, Tensor* h,
                           Tensor* dup) {
    if (!OnRows(gate)) {
      const auto wide = gate.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
      const Tensor g = gate.to(wide), u = up.to(wide), d = dh->to(wide), s = at::sigmoid(g);
      *h = (g * s * u).to(gate.scalar_type());
      *dup = (d * g * s).to(gate.scalar_type());
      *dh = (d * u * s * (1 + g * (1 - s))).to(gate.scalar_type());
      return;
    }
    const Rows gs(gate), us(up), ds(*dh), hs(*h), dus(*dup);
    const kernels::Road& road = kernels::ActiveRoad();
    const int64_t width = gate.size(1);
    kernels::ParallelFor(gate.size(0), 16, [&](int64_t begin, int64_t end) {
      std::vector<float> g, u, d, dg, ho, du;
      for (int64_t r = begin; r < end; ++r) {
        float *const h_row = hs.Write(r, &ho), *const dg_row = ds.Write(r, &dg),
                     *const du_row = dus.Write(r, &du);
        road.silu_multiply_grad(gs.Read(r, &g), us.Read(r, &u), ds.Read(r, &d), width, h_row,
                                dg_row, du_row);
        hs.Done(r, h_row);
        ds.Done(r, dg_row);
        dus.Done(r, du_row);
      }
    });
  }
};

Tensor GateForward(const Tensor& gate, const Tensor& up) {
  if (!OnRows(gate)) {
    const auto wide = gate.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    return (at::silu(gate.to(wide)) * up.to(wide)).to(gate.scalar_type());
  }
  Tensor h = at::empty_like(gate);
  const Rows gs(gate), us(up), hs(h);
  const kernels::Road& road = kernels::ActiveRoad();
  const int64_t width = gate.size(1);
  kernels::ParallelFor(gate.size(0), 16, [&](int64_t begin, int64_t end) {
    std::vector<float> g, u, out;
    for (int64_t r = begin; r < end; ++r) {
      float* const values = hs.Write(r, &out);
      const float* const from = gs.Read(r, &g);
      std::copy(from, from + width, values);
      road.silu_multiply(values, us.Read(r, &u), width);
      hs.Done(r, values);
    }
  });
  return h;
}

Tensor Linear::ForwardLow(const Tensor& gate, const Tensor& up) {
  if (a.defined()) {
    const Tensor h = GateForward(gate, up);
    low = Times(dropout.p > 0 ? Drop(h, dropout) : h, a, false);
  }
  const int64_t out = packed != nullptr ? packed->out() : weight.size(0);
  return at::empty({gate.size(0), out}, gate.options());
}

std::vector<Linear> LinearsOf(const std::vector<LinearParts>& parts) {
  return std::vector<Linear>(parts.begin(), parts.end());
}

}  // namespace

torch::stable::Tensor FusedNorm(const torch::stable::Tensor& stable_x,
                                const torch::stable::Tensor& stable_weight, double eps) {
  const variable_list inputs = {ToAten(stable_x), ToAten(stable_weight)};
  variable_list outputs;
  {
    const at::NoGradGuard no_grad;
    outputs.push_back(NormForward(inputs[0], inputs[1], eps));
  }
  if (Recording(inputs)) {
    auto node = c10::make_intrusive<NormNode>();
    node->x = SavedVariable(inputs[0], false);
    node->weight = SavedVariable(inputs[1], false);
    node->eps = eps;
    Record(node, inputs, &outputs);
  }
  return ToStable(outputs[0]);
}

std::vector<torch::stable::Tensor> FusedLinears(const torch::stable::Tensor& stable_x,
                                                const std::vector<LinearParts>& parts,
                                                const std::vector<Rotary>& rotary) {
  auto node = c10::make_intrusive<LinearsNode>();
  node->linears = LinearsOf(parts);
  for (size_t i = 0; i < parts.size(); ++i) {
    node->turns.emplace_back(i < rotary.size() ? rotary[i] : Rotary());
  }
  variable_list inputs = {ToAten(stable_x)}, outputs;
  for (const Linear& l : node->linears) l.Edges(&inputs);
  node->type = ProductType(inputs[0]);
  {
    const at::NoGradGuard no_grad;
    const Tensor x = AsRows(inputs[0]).to(node->type);
    for (size_t i = 0; i < parts.size(); ++i) {
      const Tensor y = node->turns[i].Apply(node->linears[i].Forward(x), true);
      outputs.push_back(y.view(SizesWith(inputs[0], y.size(1))));
    }
  }
  if (Recording(inputs)) {
    for (const Tensor& t : inputs) node->saved.Keep(t);
    Record(node, inputs, &outputs);
  }
  std::vector<torch::stable::Tensor> results;
  for (const Tensor& y : outputs) results.push_back(ToStable(y));
  return results;
}

torch::stable::Tensor FusedMlp(const torch::stable::Tensor& stable_x, const LinearParts& gate_parts,
                               const LinearParts& up_parts, const LinearParts& down_parts,
                               bool values) {
  auto node = c10::make_intrusive<MlpNode>();
  node->linears = LinearsOf({gate_parts, up_parts, down_parts});
  variable_list inputs = {ToAten(stable_x)}, outputs;
  for (const Linear& l : node->linears) l.Edges(&inputs);
  node->type = ProductType(inputs[0]);
  Tensor gate, up;
  {
    const at::NoGradGuard no_grad;
    const Tensor x = AsRows(inputs[0]).to(node->type);
    gate = node->linears[0].Forward(x);
    up = node->linears[1].Forward(x);
    Linear& down = node->linears[2];
    const Tensor y = values ? down.Forward(GateForward(gate, up)) : down.ForwardLow(gate, up);
    outputs.push_back(y.view(SizesWith(inputs[0], y.size(1))));
  }
  if (Recording(inputs)) {
    for (const Tensor& t : inputs) node->saved.Keep(t);
    node->saved.Keep(gate);
    node->saved.Keep(up);
    Record(node, inputs, &outputs);
  }
  return ToStable(outputs[0]);
}

torch::stable::Tensor FusedDropout(const torch::stable::Tensor& x, const Dropout& how) {
  const variable_list inputs = {ToAten(x)};
  variable_list outputs;
  {
    const at::NoGradGuard no_grad;
    outputs.push_back(Drop(inputs[0], how));
  }
  if (Recording(inputs)) {
    auto node = c10::make_intrusive<DropoutNode>();
    node->how = how;
    Record(node, inputs, &outputs);
  }
  return ToStable(outputs[0]);
}

}  // namespace engine::model
