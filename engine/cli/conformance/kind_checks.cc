#include "engine/cli/conformance/kind_checks.h"

#include <malloc.h>

#include <algorithm>
#include <map>

#include "engine/abi/describe.h"
#include "engine/abi/host.h"
#include "engine/ext/draft/state.h"

namespace engine::conformance {
namespace {

using testing::CallPlugin;
using testing::ShowError;
using testing::TestNode;
using testing::TheFindings;

// Everything of a description, to be compared.
std::string KindText(const abi::Kind& k) {
  std::string text = k.name + "|" + k.doc + "|" + k.options_message + "|" + k.executor + "|" +
                     k.bypass + "|" + k.provides + "|" + k.accepts;
  for (const auto* ports : {&k.inputs, &k.outputs}) {
    for (const abi::Port& p : *ports) {
      text += "|" + p.name + " " + p.type + " " + p.shape + " " + p.dtype + " " + p.doc +
              std::to_string(p.optional) + std::to_string(p.repeated) + std::to_string(p.errors);
    }
    text += "/";
  }
  for (const abi::Slot& s : k.uses) {
    text += "|" + s.name + " " + s.type + " " + s.doc + std::to_string(s.mutates) +
            std::to_string(s.optional);
  }
  for (const abi::Policy p : k.policies) text += std::to_string(static_cast<int>(p));
  return text + std::to_string(static_cast<int>(k.emission)) + " " +
         std::to_string(k.max_in_flight) + " " + std::to_string(static_cast<uint32_t>(k.phase));
}

uint32_t Number(const Subject& s) { return s.bench->registry().Source(s.kind->name)->number; }

// Bytes that the plugin keeps each time that `step` runs, by the heap of this process; what it
// keeps once does not count.
int64_t BytesKept(const std::function<void()>& step) {
  constexpr int kWarm = 50, kTimes = 200;
  for (int i = 0; i < kWarm; ++i) step();
  const auto before = static_cast<int64_t>(mallinfo2().uordblks);
  for (int i = 0; i < kTimes; ++i) step();
  return (static_cast<int64_t>(mallinfo2().uordblks) - before) / kTimes;
}

// Text of a packet's payload by its type, the round's; empty: tests know no such type.
std::string MadeUp(const std::string& type, int round) {
  static const std::map<std::string, std::vector<std::string>> kTexts = {
      {ENGINE_TYPE_TEXT,
       {R"({ text: "Name a colour." })", R"({ text: "" })", R"({ text: "\377\376 Gr\303\274n" })",
        R"({ text: "b" request { id: "r" session: "s" max_tokens: 2 priority: 1 n: 1 } })",
        "{ text: \"" + std::string(5000, 'x') + "\" }"}},
      {ENGINE_TYPE_TOKENS,
       {"{ ids: [1, 2, 3] }", "{ ids: [7] continued_ids: [8, 9] }",
        R"({ ids: [4, 5] request { id: "r" max_tokens: 2 sampling { seed: 3 } } })"}},
      {ENGINE_TYPE_CANCEL, {"{ cancels: 0 }", "{ cancels: 99 }"}},
      {ENGINE_TYPE_TOKEN,
       {"{ id: 65 request: 1 prompt_ids: [1, 2] }", "{ id: 66 request: 1 index: 1 }",
        "{ id: -1 request: 1 index: 2 finish: STOP }",
        R"({ id: -1 request: 2 finish: ERROR error: "no room" error_code: RESOURCE_EXHAUSTED })"}},
      {ENGINE_TYPE_EVENT,
       {R"({ text: "Gr" token { id: 65 request: 1 prompt_ids: [1, 2] } })",
        R"({ text: "\303\274n" token { id: 66 request: 1 index: 1 } })",
        R"({ text: "" finish: STOP token { id: -1 request: 1 index: 2 } })",
        R"({ finish: ERROR token { id: -1 request: 2 error: "no room" error_code: ABORTED } })"}},
      {ENGINE_TYPE_STEP,
       {"{ sequence { request: 1 tokens: [1, 2, 3] } }",
        "{ sequence { request: 1 tokens: [4] } sequence { request: 2 tokens: [5, 6] } }"}},
      {ENGINE_TYPE_LOGITS,
       {"{ row { request: 1 position: 3 values: [0.5, -1, 2] } }",
        "{ row { request: 1 position: 4 values: [0, 0] } row { request: 2 values: [3, -3] } }"}},
      {ENGINE_TYPE_SAMPLED,
       {"{ row { request: 1 id: 2 position: 3 margin: 1.5 } }",
        "{ row { request: 1 id: 0 position: 4 } row { request: 2 id: 1 } }"}},
      {ENGINE_TYPE_TRAIN_BATCH,
       {"{ row { ids: [1, 2, 3] labels: [2, 3, -100] } next: 1 }",
        "{ row { ids: [4, 5] labels: [5, -100] } row { ids: [6, 0] labels: [-100, -100] } "
        "start: 1 next: 2 }"}},
      {ENGINE_TYPE_TRAIN_STEP,
       {"{ step: 1 loss: 5.5 tokens: 20 grad_norm: 1 lr: 0.001 steps: 2 }",
        "{ step: 2 loss: 4.5 tokens: 20 grad_norm: 1 lr: 0.001 steps: 2 }"}}};
  const auto it = kTexts.find(type == "*" ? ENGINE_TYPE_TEXT : type);
  if (it == kTexts.end()) return "";
  return it->second[static_cast<size_t>(round) % it->second.size()];
}

// What a node's slots hold while it is tried. False, with the reason, when something cannot be
// made.
class Slots {
 public:
  Status Fill(const Subject& s, TestNode* node) {
    for (const abi::Slot& slot : s.kind->uses) {
      if (slot.type == ENGINE_TYPE_MODEL) {
        if (models_.empty()) {
          ENGINE_RETURN_IF_ERROR(s.bench->MakeModel(
              "resource { name: \"base\"  load { path: \"@MODEL@\" } }", {}, &models_));
        }
        node->Use(slot.name, models_.back()->type, models_.back()->object);
        continue;
      }
      const abi::Kind* maker = nullptr;
      for (const abi::Kind* kind : s.bench->Kinds()) {
        if (kind->role == abi::Role::kResource && kind->provides == slot.type) maker = kind;
      }
      if (maker == nullptr) {
        if (slot.optional) continue;
        return Error(ENGINE_NOT_FOUND, "slot ", slot.name, " takes a ", slot.type,
                     ", and no kind of this plugin makes one");
      }
      RandomOptions random(s.bench->schema().Options(*maker), s.options->seed,
                           s.bench->folder() + "/file");
      random.Least();
      resources_.push_back(std::make_unique<testing::TestResource>(
          maker->name + " {" + random.text() + "}", s.bench->plugin()));
      ENGINE_RETURN_IF_ERROR(resources_.back()->status());
      node->Use(slot.name, *resources_.back());
    }
    return Status();
  }

 private:
  std::vector<runtime::ResourceSlot> models_;
  std::vector<std::unique_ptr<testing::TestResource>> resources_;
};

// A round's packets: one on each input.
Status Packets(const Subject& s, int round, std::string* text) {
  text->clear();
  for (const abi::Port& port : s.kind->inputs) {
    // In ANY and LATEST an empty input is nothing new; an optional one is left open now and then.
    if (port.optional && round % 2 == 1) continue;
    const std::string made = MadeUp(port.type, round);
    if (made.empty()) {
      if (port.optional) continue;
      return Error(ENGINE_NOT_FOUND, "input ", port.name, " takes packets of type ", port.type,
                   ", which the check cannot make up");
    }
    *text += port.name + " " + made + "\n";
  }
  return Status();
}

struct Driven {
  uint64_t calls = 0, packets = 0, errors = 0;
  std::string first_error;
};
void Drive(const Subject& s, TestNode* node, int rounds, Driven* out) {
  for (int round = 0; round < rounds && !node->finished(); ++round) {
    std::string text, answer;
    if (s.kind->inputs.empty()) {
      s.report->At("calling the source " + s.kind->name);
      answer = node->Run(1);
    } else {
      if (!Packets(s, round, &text).ok()) break;
      s.report->At("giving " + s.kind->name + " " + text.substr(0, 200));
      answer = node->Feed(text);
    }
    ++out->calls;
    if (out->first_error.empty() && answer.find("error: ") != std::string::npos) {
      out->first_error = answer.substr(answer.find("error: "));
      out->first_error.resize(std::min<size_t>(out->first_error.find('\n'), 160));
    }
  }
  out->packets += node->packets();
  out->errors += node->errors();
}
std::string Told(const Driven& d) {
  std::string text = std::to_string(d.calls) + " calls, " + std::to_string(d.packets) +
                     " packets out, " + std::to_string(d.errors) + " errors";
  return d.first_error.empty() ? text : text + "; the first " + d.first_error;
}

// Makes the node and its slots; false when it told why that cannot be.
bool Prepare(const Subject& s, const char* check, TestNode* node, Slots* slots) {
  std::string text;
  Status status = node->status();
  if (status.ok()) status = Packets(s, 0, &text);
  if (status.ok()) status = slots->Fill(s, node);
  if (status.ok()) return true;
  const std::vector<std::string> findings = TheFindings().Take();
  s.report->Tell(s.kind->name, check, findings.empty() ? Result::kSkipped : Result::kFailed,
                 std::string(status.message()), findings);
  return false;
}

const engine_kind_desc& Desc(const Subject& s) {
  return *s.bench->plugin().nodes()->describe(s.bench->plugin().self(), Number(s));
}

}  // namespace

RandomOptions Subject::Random() const {
  return RandomOptions(bench->schema().Options(*kind), options->seed, bench->folder() + "/file");
}

Instance::Instance(const Subject& s, std::string_view options) {
  testing::TestPlugin& plugin = s.bench->plugin();
  const std::string name = "my_" + s.kind->name;
  const auto make = [&](const auto* table, const auto* vtable) {
    status_ = CallPlugin("create()", [&] {
      return table->create(plugin.self(), Number(s), Str(name), Str(options), &vtable, &self_);
    });
    if (!status_.ok()) {
      self_ = nullptr;
      return;
    }
    if (!Complete(vtable) || vtable->destroy == nullptr) {
      TheFindings().Add("create() gave a table that is not filled in");
      status_ = Error(ENGINE_INTERNAL, "no table");
      return;
    }
    destroy_ = vtable->destroy;
  };
  if (s.kind->role == abi::Role::kNode) {
    make(plugin.nodes(), static_cast<const engine_node_vtable*>(nullptr));
  } else if (s.kind->role == abi::Role::kTransform) {
    make(plugin.transforms(), static_cast<const engine_transform_vtable*>(nullptr));
  } else {
    make(plugin.resources(), static_cast<const engine_resource_vtable*>(nullptr));
  }
}
Instance::~Instance() {
  if (destroy_ != nullptr) destroy_(self_);
}

void CheckDescriptions(Workbench* bench, Reporter* report) {
  testing::TestPlugin& plugin = bench->plugin();
  const engine_plugin& manifest = plugin.manifest();
  std::vector<std::string> wrong;
  report->At("calling extension()");
  for (const char* id : {ENGINE_EXT_NODES, ENGINE_EXT_TRANSFORMS, ENGINE_EXT_RESOURCES}) {
    if (manifest.extension(plugin.self(), id) != manifest.extension(plugin.self(), id)) {
      wrong.push_back(std::string("extension(\"") + id + "\") answers another table each time");
    }
  }
  if (manifest.extension(plugin.self(), "test.Unknown/1") != nullptr) {
    wrong.push_back("extension() answers a table for an id that nobody defined");
  }
  size_t kinds = 0;
  const auto twice = [&](const auto* table, engine_role role) {
    for (uint32_t i = 0; table != nullptr && i < table->count; ++i, ++kinds) {
      std::string texts[2];
      for (std::string& text : texts) {
        abi::Kind kind;
        report->At("calling describe(" + std::to_string(i) + ")");
        const engine_kind_desc* desc = table->describe(plugin.self(), i);
        const Status status = abi::DescribeKind(desc, bench->id(), role, &kind);
        text = status.ok() ? KindText(kind) : std::string(status.message());
      }
      if (texts[0] != texts[1]) {
        wrong.push_back("describe(" + std::to_string(i) + ") does not answer the same twice");
      }
    }
  };
  twice(plugin.nodes(), ENGINE_ROLE_NODE);
  twice(plugin.transforms(), ENGINE_ROLE_TRANSFORM);
  twice(plugin.resources(), ENGINE_ROLE_RESOURCE);
  report->Tell(
      "", "describe", wrong.empty() ? Result::kOk : Result::kFailed,
      std::to_string(kinds) + (kinds == 1 ? " kind" : " kinds") + ", the same answers twice",
      wrong);
}

void CheckCreate(const Subject& s) {
  RandomOptions random = s.Random();
  const std::string options = random.Least();
  s.report->At("creating " + s.kind->name + " { " + random.text() + " } twice");
  std::string refused;
  {
    const Instance first(s, options), second(s, options);
    if (!first.status().ok()) refused = ShowError(first.status());
    if (first.status().ok() && second.status().ok() && first.self() == second.self() &&
        first.self() != nullptr) {
      TheFindings().Add("two instances are one: create() gave the same self twice");
    }
  }
  // What is printed or logged at each creation would count too.
  testing::TestHost::Get().TakeLog();
  const int64_t kept = BytesKept([&] {
    const Instance one(s, options);
    testing::TestHost::Get().TakeLog();
  });
  if (kept >= 16) {
    TheFindings().Add("create and destroy keep " + std::to_string(kept) + " bytes each time");
  }
  s.report->TellFindings(
      s.kind->name, "create",
      refused.empty() ? "twice, and 250 times without keeping memory" : "it answers " + refused);
}

void CheckRandomOptions(const Subject& s) {
  if (s.bench->schema().Options(*s.kind) == nullptr) {
    return s.report->Tell(s.kind->name, "options", Result::kSkipped, "it takes no options");
  }
  RandomOptions random = s.Random();
  int tried = 0, refused = 0;
  const auto until = std::chrono::steady_clock::now() + s.options->limit / 2;
  while (tried < s.options->messages && std::chrono::steady_clock::now() < until) {
    const std::string options = random.Valid();
    s.report->At("creating " + s.kind->name + " { " + random.text() + " }");
    const Instance one(s, options);
    refused += !one.status().ok();
    ++tried;
  }
  s.report->TellFindings(s.kind->name, "options",
                         std::to_string(tried) + " random messages, " + std::to_string(refused) +
                             " of them refused by create()");
}

void CheckWire(const Subject& s) {
  RandomOptions random = s.Random();
  int refused = 0;
  const auto once = [&] {
    const std::string options = random.Broken();
    s.report->At("creating " + s.kind->name + " from " + random.text());
    // At the end of a block of its own, so that reading behind it is seen by a sanitizer.
    const std::vector<char> exact(options.begin(), options.end());
    const Instance one(s, {exact.data(), exact.size()});
    refused += !one.status().ok();
  };
  for (int i = 0; i < s.options->messages; ++i) once();
  s.report->TellFindings(s.kind->name, "wire",
                         std::to_string(s.options->messages) + " broken messages, " +
                             std::to_string(refused) + " of them refused");
}

void CheckPackets(const Subject& s) {
  RandomOptions random = s.Random();
  const std::string options = random.Least(s.kind->inputs.empty());
  Slots slots;
  {
    TestNode node(Desc(s), Number(s), options, s.bench->plugin());
    node.SetPatience(s.options->limit / 4);
    if (!Prepare(s, "packets", &node, &slots)) return;
    Driven driven;
    Drive(s, &node, 12, &driven);
    s.report->At("closing and destroying " + s.kind->name);
    node.End();
    if (!node.status().ok()) {
      const std::vector<std::string> findings = TheFindings().Take();
      s.report->Tell(s.kind->name, "packets", findings.empty() ? Result::kSkipped : Result::kFailed,
                     "open() says: " + ShowError(node.status()), findings);
      return;
    }
    s.report->TellFindings(s.kind->name, "packets", Told(driven));
  }
  const bool any = std::any_of(s.kind->inputs.begin(), s.kind->inputs.end(),
                               [](const auto& p) { return p.type == "*" || p.errors; });
  if (!any) {
    s.report->Tell(s.kind->name, "other types", Result::kSkipped,
                   "no input takes them: the checker of pipelines lets none through");
    return;
  }
  TestNode node(Desc(s), Number(s), options, s.bench->plugin());
  if (!Prepare(s, "other types", &node, &slots)) return;
  int given = 0;
  for (const abi::Port& port : s.kind->inputs) {
    for (const auto& [type, text] : testing::PayloadTexts()) {
      std::string made = MadeUp(type, 0);
      if (type == ENGINE_TYPE_ERROR && port.errors) made = R"({ code: ABORTED message: "no" })";
      if (made.empty() || (port.type != "*" && type != ENGINE_TYPE_ERROR)) continue;
      made.insert(1, " type: \"" + type + "\" ");
      s.report->At("giving " + s.kind->name + " a packet of type " + type + " on " + port.name);
      node.Feed(port.name + " " + made);
      ++given;
    }
  }
  node.End();
  s.report->TellFindings(s.kind->name, "other types", std::to_string(given) + " packets");
}

void CheckCancel(const Subject& s) {
  RandomOptions random = s.Random();
  const std::string options = random.Least(s.kind->inputs.empty());
  Slots slots;
  Driven driven;
  for (const auto after : {std::chrono::microseconds(0), std::chrono::microseconds(300)}) {
    TestNode node(Desc(s), Number(s), options, s.bench->plugin());
    node.SetPatience(s.options->limit / 8);
    if (!Prepare(s, "cancel", &node, &slots)) return;
    // Some work first, so that there is something to give up.
    Drive(s, &node, 1, &driven);
    node.Cancel(after);
    Drive(s, &node, 3, &driven);
    s.report->At("closing " + s.kind->name + " after a cancel");
    node.End();
    if (!node.status().ok()) {
      const std::vector<std::string> findings = TheFindings().Take();
      s.report->Tell(s.kind->name, "cancel", findings.empty() ? Result::kSkipped : Result::kFailed,
                     "open() says: " + ShowError(node.status()), findings);
      return;
    }
  }
  s.report->TellFindings(s.kind->name, "cancel", "before a call and within one: " + Told(driven));
}

void CheckState(const Subject& s) {
  testing::TestPlugin& plugin = s.bench->plugin();
  const auto* state = static_cast<const engine_state*>(
      plugin.manifest().extension(plugin.self(), ENGINE_EXT_STATE));
  if (state == nullptr || s.kind->role != abi::Role::kNode) {
    return s.report->Tell(s.kind->name, "state", Result::kSkipped,
                          state == nullptr ? std::string("the plugin offers no ") + ENGINE_EXT_STATE
                                           : "only nodes have some");
  }
  const auto save = [&](void* instance, std::string* out) {
    return CallPlugin("save()", [&] {
      return state->save(
          instance,
          [](void* arg, engine_str bytes) -> engine_status* {
            static_cast<std::string*>(arg)->append(View(bytes));
            return nullptr;
          },
          out);
    });
  };
  RandomOptions random = s.Random();
  const std::string options = random.Least();
  Slots slots;
  TestNode used(Desc(s), Number(s), options, plugin), fresh(Desc(s), Number(s), options, plugin);
  if (!Prepare(s, "state", &used, &slots) || !Prepare(s, "state", &fresh, &slots)) return;
  Driven driven;
  Drive(s, &used, 4, &driven);
  Drive(s, &fresh, 1, &driven);
  std::string first, again;
  s.report->At("saving the state of " + s.kind->name);
  Status status = save(used.self(), &first);
  s.report->At("loading the state of " + s.kind->name);
  if (status.ok()) {
    status = CallPlugin("load()", [&] { return state->load(fresh.self(), Str(first)); });
  }
  if (status.ok()) status = save(fresh.self(), &again);
  if (!status.ok()) TheFindings().Add(ShowError(status));
  if (status.ok() && first != again) {
    TheFindings().Add(
        "what is saved after a load is not what was loaded: " + std::to_string(first.size()) +
        " and " + std::to_string(again.size()) + " bytes");
  }
  for (const std::string& broken : {std::string(), first.substr(0, first.size() / 2), first + "x",
                                    std::string("\xff\xfe\x00\x01", 4)}) {
    s.report->At("loading " + std::to_string(broken.size()) + " bytes that are no state");
    const Status ignored =
        CallPlugin("load()", [&] { return state->load(fresh.self(), Str(broken)); });
  }
  used.End();
  fresh.End();
  s.report->TellFindings(s.kind->name, "state",
                         std::to_string(first.size()) + " bytes saved, loaded and saved again");
}

}  // namespace engine::conformance
