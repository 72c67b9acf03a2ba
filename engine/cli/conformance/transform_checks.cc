// What is tried with a transform: a small random model goes through it.
#include <cmath>

#include "engine/cli/conformance/kind_checks.h"

namespace engine::conformance {
namespace {

using testing::CallPlugin;
using testing::TheFindings;

constexpr char kBase[] = "resource { name: \"base\"  load { path: \"@MODEL@\" } }\n";

std::string DiffText(const std::vector<model::SiteChange>& diff) {
  std::string text;
  for (const model::SiteChange& c : diff) {
    text += std::to_string(c.site) + " " + c.note + " " + std::to_string(c.bytes_before) + " " +
            std::to_string(c.bytes_after) + "\n";
  }
  return text;
}

// Plans twice by one instance, and once by another.
Status PlanThrice(const Subject& s, model::Model* base, const std::string& options,
                  std::vector<model::SiteChange>* diff) {
  testing::TestPlugin& plugin = s.bench->plugin();
  const uint32_t number = s.bench->registry().Source(s.kind->name)->number;
  std::string texts[3];
  const engine_transform_vtable* tables[2] = {};
  void* selves[2] = {};
  Status status;
  for (int i = 0; i < 2 && status.ok(); ++i) {
    status = CallPlugin("create()", [&] {
      return plugin.transforms()->create(plugin.self(), number, Str("it"), Str(options), &tables[i],
                                         &selves[i]);
    });
  }
  for (int i = 0; i < 3 && status.ok(); ++i) {
    diff->clear();
    const int which = i / 2;
    status = CallPlugin(
        "plan()", [&] { return base->Plan(tables[which], selves[which], "it", diff).release(); });
    texts[i] = DiffText(*diff);
  }
  if (status.ok() && (texts[0] != texts[1] || texts[0] != texts[2])) {
    TheFindings().Add("plan() does not say the same each time");
  }
  for (int i = 0; i < 2; ++i) {
    if (tables[i] != nullptr && selves[i] != nullptr) tables[i]->destroy(selves[i]);
  }
  return status;
}

}  // namespace

void CheckTransform(const Subject& s) {
  RandomOptions random = s.Random();
  std::string refused;
  // The least options first; where these are refused, such as a name that is no site's, others.
  for (int i = 0; i < 60; ++i) {
    const std::string options = i < 20 ? random.Least() : random.Valid();
    const std::string text = s.kind->name + " { " + random.text() + " }";
    std::vector<runtime::ResourceSlot> slots, base;
    Status status = s.bench->MakeModel(kBase, {}, &base);
    std::vector<model::SiteChange> diff;
    s.report->At("planning " + text);
    if (status.ok()) status = PlanThrice(s, model::ModelOf(base[0]), options, &diff);
    s.report->At("rewriting a model by " + text);
    if (status.ok()) {
      status = s.bench->MakeModel(
          kBase + ("resource { name: \"it\"  from: \"base\"  " + text + " }"), {}, &slots);
    }
    Probe probe;
    s.report->At("computing with a model that " + text + " rewrote");
    if (status.ok()) status = ProbeModel(model::ModelOf(slots.back()), "it", false, &probe);
    if (status.ok()) {
      for (const float x : probe.logits) {
        if (!std::isfinite(x)) TheFindings().Add("logits are not finite with " + text);
      }
      s.report->At("destroying what " + text + " made");
      while (!slots.empty()) slots.pop_back();
      s.report->TellFindings(s.kind->name, "model",
                             std::to_string(diff.size()) +
                                 " sites of a small random model: the same plan thrice, rewritten, "
                                 "run, destroyed");
      return;
    }
    if (refused.empty()) refused = testing::ShowError(status);
    if (const auto findings = TheFindings().Take(); !findings.empty()) {
      s.report->Tell(s.kind->name, "model", Result::kFailed, text, findings);
      return;
    }
  }
  s.report->Tell(s.kind->name, "model", Result::kSkipped,
                 "it takes no small random model: " + refused.substr(0, 200));
}

}  // namespace engine::conformance
