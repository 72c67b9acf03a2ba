#include "engine/cli/conformance/cases.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "engine/testing.hpp"
#include "engine/transform.hpp"

namespace engine::conformance {
namespace {

using testing::Canonical;
using testing::Field;
using testing::TestNode;
using testing::TestResource;

class Case {
 public:
  Case(Workbench* bench, const Field& field, const std::string& file)
      : bench_(*bench), field_(field), file_(file) {}

  // What failed, empty when nothing did; an error when the case cannot be understood.
  Status Run(std::string* report) {
    static const std::vector<std::string> kKnown = {
        "name", "node",  "transform",    "resource",          "model",     "use",  "in",   "out",
        "run",  "error", "same_as_base", "differs_from_base", "gradients", "site", "sites"};
    int subjects = 0;
    for (const Field& f : field_.fields) {
      if (std::find(kKnown.begin(), kKnown.end(), f.name) == kKnown.end()) {
        return Wrong(f, "a case has no field '" + f.name + "'");
      }
      subjects += f.name == "node" || f.name == "transform" || f.name == "resource";
    }
    if (subjects != 1) {
      return Wrong(field_, "a case has one of node, transform and resource; this one has " +
                               std::to_string(subjects));
    }
    if (const Field* node = field_.Find("node")) ENGINE_RETURN_IF_ERROR(RunNode(*node));
    if (const Field* r = field_.Find("resource")) ENGINE_RETURN_IF_ERROR(RunResource(*r));
    if (const Field* t = field_.Find("transform")) ENGINE_RETURN_IF_ERROR(RunTransform(*t));
    for (const std::string& finding : testing::TheFindings().Take()) Fail(field_, finding);
    *report = report_.str();
    return Status();
  }

 private:
  Status Wrong(const Field& at, const std::string& what) const {
    return Error(ENGINE_INVALID_ARGUMENT, file_, ":", at.line, ": ", what);
  }
  void Fail(const Field& at, const std::string& what) {
    report_ << file_ << ":" << at.line << ": " << what << "\n";
  }
  static void Lines(const char* title, const std::string& text, std::ostream& out) {
    std::istringstream in(text.empty() ? "(nothing)" : text);
    for (std::string line; std::getline(in, line); title = "        ") {
      out << "    " << title << "  " << line << "\n";
    }
  }
  void Compare(const Field& at, const std::string& actual, const std::string& expected) {
    const std::string found = Canonical(actual), wanted = Canonical(expected);
    if (found == wanted) return;
    Fail(at, "another text");
    Lines("expected", wanted, report_);
    Lines("actual  ", found, report_);
  }
  // True when the case expects no error, and there is none to go on behind.
  bool GoOn(const Field& subject, const Status& status) {
    const Field* expected = field_.Find("error");
    if (status.ok()) {
      if (expected == nullptr) return true;
      Fail(*expected,
           "an error is expected with " + testing::Quoted(expected->value) + ", and there is none");
    } else if (expected == nullptr) {
      Fail(subject, "an error: " + testing::ShowError(status));
    } else if (status.message().find(expected->value) == std::string_view::npos) {
      Fail(*expected, "another error");
      Lines("expected", expected->value, report_);
      Lines("actual  ", testing::ShowError(status), report_);
    }
    return false;
  }
  Status OneKind(const Field& of, const Field** kind) const {
    if (!of.message || of.fields.size() != 1 || !of.fields[0].message) {
      return Wrong(of, "'" + of.name + "' takes one kind: " + of.name + " { kind { ... } }");
    }
    *kind = &of.fields[0];
    return Status();
  }
  static std::string Text(const Field& kind) { return kind.name + " {" + kind.source + "\n}"; }

  Status RunNode(const Field& subject) {
    const Field* kind = nullptr;
    ENGINE_RETURN_IF_ERROR(OneKind(subject, &kind));
    std::vector<std::unique_ptr<TestResource>> resources;
    std::vector<std::vector<runtime::ResourceSlot>> models;
    TestNode node(Text(*kind), bench_.plugin());
    for (const Field& use : field_.fields) {
      if (use.name == "use") ENGINE_RETURN_IF_ERROR(Use(use, &node, &resources, &models));
    }
    const Field* expected = field_.Find("error");
    if (!node.status().ok() || (expected != nullptr && field_.Find("in") == nullptr)) {
      GoOn(subject, node.status());
      return Status();
    }
    std::string errors;
    for (size_t i = 0; i < field_.fields.size(); ++i) {
      const Field& f = field_.fields[i];
      if (f.name == "out" &&
          (i == 0 || (field_.fields[i - 1].name != "in" && field_.fields[i - 1].name != "run"))) {
        return Wrong(f, "'out' stands behind the 'in' or 'run' that it answers");
      }
      if (f.name != "in" && f.name != "run") continue;
      const std::string actual = f.name == "in" ? node.Feed(f.source) : node.Run();
      const bool told = i + 1 < field_.fields.size() && field_.fields[i + 1].name == "out";
      if (told) {
        Compare(field_.fields[i + 1], actual, field_.fields[i + 1].source);
      } else {
        errors += actual;
      }
    }
    if (expected != nullptr && errors.find(expected->value) == std::string::npos) {
      Fail(*expected, "an error is expected with " + testing::Quoted(expected->value));
      Lines("actual  ", errors, report_);
    }
    return Status();
  }

  Status Use(const Field& use, TestNode* node,
             std::vector<std::unique_ptr<TestResource>>* resources,
             std::vector<std::vector<runtime::ResourceSlot>>* models) {
    const std::string slot = use.Get("slot");
    std::string chain;
    const Field* kind = nullptr;
    for (const Field& f : use.fields) {
      if (f.message) kind = &f;
    }
    if (slot.empty() || kind == nullptr) {
      return Wrong(use, "'use' takes a slot and a kind: use { slot: \"WORDS\"  words { } }");
    }
    if (kind->name != "model") {
      resources->push_back(std::make_unique<TestResource>(Text(*kind), bench_.plugin()));
      node->Use(slot, *resources->back());
      return Status();
    }
    // A small model, through the transforms that are named.
    std::string text = "resource { name: \"r0\"  load { path: \"@MODEL@\" } }\n";
    int made = 0;
    for (const Field& f : kind->fields) {
      if (!f.message) return Wrong(f, "a model of a slot takes transforms");
      text += "resource { name: \"r" + std::to_string(made + 1) + "\"  from: \"r" +
              std::to_string(made) + "\"  " + Text(f) + " }\n";
      ++made;
    }
    ENGINE_RETURN_IF_ERROR(bench_.MakeModel(text, {}, &models->emplace_back()));
    const runtime::ResourceSlot& last = models->back().back();
    node->Use(slot, last->type, last->object);
    return Status();
  }

  Status RunResource(const Field& subject) {
    const Field* kind = nullptr;
    ENGINE_RETURN_IF_ERROR(OneKind(subject, &kind));
    const TestResource resource(Text(*kind), bench_.plugin());
    GoOn(subject, resource.status());
    return Status();
  }

  Status Size(SmallModelSize* size) const {
    const Field* model = field_.Find("model");
    if (model == nullptr) return Status();
    testing::Take take(*model);
    take.Number("hidden", &size->hidden).Number("blocks", &size->blocks);
    take.Number("heads", &size->heads).Number("kv_heads", &size->kv_heads);
    take.Number("mlp", &size->mlp).Number("context", &size->context).Number("seed", &size->seed);
    const Status done = take.Done();
    return done.ok() ? done : Wrong(*model, std::string(done.message()));
  }

  Status RunTransform(const Field& subject) {
    const Field* kind = nullptr;
    ENGINE_RETURN_IF_ERROR(OneKind(subject, &kind));
    SmallModelSize size;
    ENGINE_RETURN_IF_ERROR(Size(&size));
    std::vector<runtime::ResourceSlot> slots;
    const std::string base = "resource { name: \"base\"  load { path: \"@MODEL@\" } }\n";
    Status status = bench_.MakeModel(
        base + "resource { name: \"it\"  from: \"base\"  " + Text(*kind) + " }\n", size, &slots);
    const bool gradients = field_.Get("gradients") == "true";
    Probe probe, plain;
    if (status.ok()) status = ProbeModel(model::ModelOf(slots.back()), "it", gradients, &probe);
    if (!GoOn(subject, status)) return Status();
    for (const float x : probe.logits) {
      if (std::isfinite(x)) continue;
      Fail(subject, "logits are not finite");
      break;
    }
    ENGINE_RETURN_IF_ERROR(CompareSites(probe));
    // The base first, so that the view goes before it.
    ENGINE_RETURN_IF_ERROR(ProbeModel(model::ModelOf(slots.front()), "base", false, &plain));
    ENGINE_RETURN_IF_ERROR(CompareBase(probe, plain));
    if (gradients) CheckGradients(*field_.Find("gradients"), probe);
    while (!slots.empty()) slots.pop_back();
    return Status();
  }

  Status CompareSites(const Probe& probe) {
    std::vector<std::string> patterns;
    for (const Field& f : field_.fields) {
      if (f.name == "site") patterns.push_back(f.value);
    }
    for (const std::string& site : probe.sites) {
      const bool meant = patterns.empty() ||
                         std::any_of(patterns.begin(), patterns.end(),
                                     [&](const std::string& p) { return MatchesSite(p, site); });
      if (!meant)
        Fail(*field_.Find("site"), "site " + site + " is replaced, and none of the patterns");
    }
    const Field* count = field_.Find("sites");
    if (count == nullptr || count->value == std::to_string(probe.sites.size())) return Status();
    Fail(*count, std::to_string(probe.sites.size()) + " sites are replaced, and " + count->value +
                     " expected");
    for (const std::string& site : probe.sites) report_ << "    " << site << "\n";
    return Status();
  }

  Status CompareBase(const Probe& probe, const Probe& plain) {
    double most = 0;
    for (size_t i = 0; i < probe.logits.size() && i < plain.logits.size(); ++i) {
      const double d = std::fabs(double{probe.logits[i]} - double{plain.logits[i]});
      most = d <= most ? most : d;  // a NaN stays
    }
    if (const Field* same = field_.Find("same_as_base")) {
      char* end = nullptr;
      const double bound = std::strtod(same->value.c_str(), &end);
      if (same->value.empty() || *end != '\0') return Wrong(*same, "'same_as_base' takes a number");
      if (!(most <= bound)) {
        Fail(*same, "logits differ from the base's by " + testing::Digits(most) + "; at most " +
                        same->value + " is expected");
      }
    }
    const Field* differs = field_.Find("differs_from_base");
    if (differs != nullptr && differs->value == "true" && most == 0) {
      Fail(*differs, "logits are the base's");
    }
    return Status();
  }

  void CheckGradients(const Field& at, const Probe& probe) {
    if (probe.trained.empty()) Fail(at, "nothing is trained: the transform added no parameter");
    double all = 0;
    for (const Probe::Trained& t : probe.trained) {
      if (!t.there) {
        Fail(at, t.name + " gets no gradient");
      } else if (!std::isfinite(t.norm)) {
        Fail(at, "the gradient of " + t.name + " is not finite");
      } else {
        all += t.norm;
      }
    }
    if (!probe.trained.empty() && all == 0) Fail(at, "all gradients are zero");
  }

  Workbench& bench_;
  const Field& field_;
  const std::string& file_;
  std::ostringstream report_;
};

}  // namespace

Status RunCases(Workbench* bench, const std::string& text, const std::string& file,
                const std::string& only, CasesResult* out) {
  std::vector<Field> cases;
  Status status = testing::ParseText(text, &cases);
  if (!status.ok()) return status.Prefix(file + ": ");
  for (const Field& field : cases) {
    if (field.name != "case" || !field.message) {
      return Error(ENGINE_INVALID_ARGUMENT, file, ":", field.line, ": '", field.name,
                   "' is no case { ... }");
    }
    const std::string name = field.Get("name", "case of line " + std::to_string(field.line));
    if (name.find(only) == std::string::npos) continue;
    std::string report;
    ENGINE_RETURN_IF_ERROR(Case(bench, field, file).Run(&report));
    ++out->run;
    out->failed += !report.empty();
    out->report += (report.empty() ? "ok      " : "FAILED  ") + name + "\n" + report;
  }
  return Status();
}

}  // namespace engine::conformance
