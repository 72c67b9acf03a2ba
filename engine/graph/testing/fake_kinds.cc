#include "engine/graph/testing/fake_kinds.h"

#include <google/protobuf/compiler/importer.h>
#include <google/protobuf/descriptor.pb.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace engine::graph::testing {

namespace pb = google::protobuf;

namespace {

class Tree : public pb::compiler::SourceTree {
 public:
  explicit Tree(std::string_view proto) : proto_(proto) {}
  pb::io::ZeroCopyInputStream* Open(const std::string& name) override {
    const std::string* text = &annotations_;
    if (name == "options.proto") {
      text = &proto_;
    } else {
      std::string path = std::string(ENGINE_SOURCE_DIR) + "/sdk/proto/" + name;
      if (name.rfind("google/", 0) == 0) path = "/usr/include/" + name;
      std::ifstream in(path);
      if (!in) return nullptr;
      std::stringstream all;
      all << in.rdbuf();
      annotations_ = all.str();
    }
    return new pb::io::ArrayInputStream(text->data(), static_cast<int>(text->size()));
  }

 private:
  std::string proto_, annotations_;
};

class Loud : public pb::compiler::MultiFileErrorCollector {
  void AddError(const std::string& file, int line, int column, const std::string& what) override {
    std::fprintf(stderr, "%s:%d:%d: %s\n", file.c_str(), line + 1, column + 1, what.c_str());
    std::abort();
  }
};

constexpr char kServing[] = R"(
syntax = "proto2";
package fake.serving;
import "engine/annotations.proto";

// Where a model comes from.
message Load {
  // Name of a model, or a folder.
  optional string path = 1 [(engine.needed) = true];
  // How weights are held in memory.
  optional Precision precision = 2 [default = F32];
  enum Precision {
    // As the file has them.
    NATIVE = 0;
    // Four bytes each.
    F32 = 1;
    BF16 = 2;
  }
}
message HttpApi {
  // Port of the socket.
  optional uint32 port = 1 [default = 8080, (engine.max) = 65535];
}
message Batcher {
  // Most sequences of a step.
  optional uint32 max_batch = 1 [default = 16, (engine.min) = 1, (engine.max) = 512, (engine.unit) = "sequences"];
  optional Fairness fairness = 2;
  message Fairness {
    optional double weight = 1 [(engine.min) = 0, (engine.max) = 1];
    repeated string tenants = 2;
    // Looks ahead.
    optional bool strict = 3;
  }
}
message PlainBatcher {
  optional string max = 1;
  optional string fairness = 2;
  optional uint32 max_batch = 7;
}
message Sample {
  optional float temperature = 1 [(engine.min) = 0];
  optional int32 seed = 2;
  oneof choice {
    int32 top_k = 3;
    float top_p = 4;
  }
}
)";

constexpr char kInt8[] = R"(
syntax = "proto2";
package fake.int8;
import "engine/annotations.proto";
// INT8 weights.
message Options {
  enum Scheme {
    // One scale for each output channel.
    PER_CHANNEL = 0;
    // One scale for each group of inputs.
    PER_GROUP = 1;
  }
  // How scales are shared.
  optional Scheme scheme = 1 [default = PER_CHANNEL];
  // Inputs of a group.
  optional uint32 group = 2 [default = 64, (engine.min) = 16, (engine.max) = 256];
}
)";

constexpr char kLora[] = R"(
syntax = "proto3";
package fake.lora;
message Options {
  // Folder of the adapter.
  string adapter = 1;
  optional int32 rank = 2;
}
)";

constexpr char kKvCache[] = R"(
syntax = "proto2";
package fake.kv;
import "engine/annotations.proto";
// Paged keys and values.
message Options {
  // Tokens of a page.
  optional uint32 page_tokens = 1 [default = 16, (engine.min) = 1, (engine.max) = 256, (engine.unit) = "tokens"];
  // Memory for all pages.
  optional string budget = 2 [default = "1GiB", (engine.byte_size) = true];
  // A file to warm up from.
  optional string warm = 3 [(engine.existing_path) = true];
}
)";

abi::Kind Resource(std::string name, std::string plugin, std::string options, std::string type) {
  abi::Kind kind;
  kind.role = abi::Role::kResource;
  kind.name = std::move(name);
  kind.plugin = std::move(plugin);
  kind.options_message = std::move(options);
  kind.provides = std::move(type);
  return kind;
}

abi::Kind Transform(std::string name, std::string plugin, std::string options, abi::Phase phase) {
  abi::Kind kind =
      Resource(std::move(name), std::move(plugin), std::move(options), "engine.Model/1");
  kind.role = abi::Role::kTransform;
  kind.accepts = "engine.Model/1";
  kind.phase = phase;
  return kind;
}

abi::Port Port(std::string name, std::string type, std::string shape = "", std::string dtype = "") {
  abi::Port port;
  port.name = std::move(name);
  port.type = std::move(type);
  port.shape = std::move(shape);
  port.dtype = std::move(dtype);
  return port;
}

abi::Slot Model(bool mutates = false) {
  abi::Slot slot;
  slot.name = "MODEL";
  slot.type = "engine.Model/1";
  slot.mutates = mutates;
  return slot;
}

abi::Kind Node(std::string name, std::vector<abi::Port> in, std::vector<abi::Port> out) {
  abi::Kind kind;
  kind.name = std::move(name);
  kind.plugin = "engine.serving";
  kind.inputs = std::move(in);
  kind.outputs = std::move(out);
  return kind;
}

abi::KindIndex Make() {
  abi::KindIndex index;
  auto plugin = [&](const char* id, const char* version, const char* proto) {
    abi::Plugin p;
    p.id = id;
    p.version = version;
    p.path = std::string("/opt/engine/plugins/lib") + id + ".so";
    p.license = "Apache-2.0";
    p.summary = "A stand-in.";
    p.tier = "NONE";
    if (proto != nullptr) p.schemas = CompileSchema(proto);
    index.plugins.push_back(std::move(p));
  };
  plugin("engine.serving", "0.1.0", kServing);
  plugin("engine.int8", "1.4.2", kInt8);
  plugin("engine.lora", "0.2.0", kLora);
  plugin("engine.kv_cache", "0.1.0", kKvCache);
  abi::Refusal refusal;
  refusal.path = "/opt/engine/plugins/libacme_moe.so";
  refusal.id = "com.acme.moe";
  refusal.kinds = {"acme_moe"};
  refusal.reason = "built for torch 2.12.1, and this host has 2.13.0";
  index.refused.push_back(refusal);

  auto add = [&](abi::Kind kind) {
    if (kind.doc.empty()) kind.doc = "The " + kind.name + " of tests.";
    for (abi::Plugin& p : index.plugins) {
      if (p.id == kind.plugin) p.kinds.push_back(kind.name);
    }
    index.kinds.emplace(kind.name, std::move(kind));
  };
  const std::string model = "engine.Model/1", tensor = "engine.Tensor/1";
  add(Resource("load", "engine.serving", "fake.serving.Load", model));
  add(Resource("dataset", "engine.serving", "", "engine.Dataset/1"));
  add(Transform("int8", "engine.int8", "fake.int8.Options", abi::Phase::kCodec));
  add(Transform("lora", "engine.lora", "fake.lora.Options", abi::Phase::kAdapter));
  add(Transform("kv_cache", "engine.kv_cache", "fake.kv.Options", abi::Phase::kKvStorage));

  abi::Kind kind =
      Node("http_api", {Port("EVENT", "engine.Event/1")}, {Port("REQUEST", "engine.Request/1")});
  kind.options_message = "fake.serving.HttpApi";
  kind.policies = {abi::Policy::kAny};
  kind.emission = abi::Emission::kMany;
  kind.executor = "io";
  add(kind);
  kind =
      Node("tokenize", {Port("REQUEST", "engine.Request/1")}, {Port("PROMPT", "engine.Prompt/1")});
  kind.uses = {Model()};
  add(kind);
  kind = Node("batcher", {Port("NEW", "engine.Prompt/1"), Port("RUNNING", "engine.Sampled/1")},
              {Port("STEP", "engine.Step/1"), Port("TOKEN", "engine.Token/1")});
  kind.options_message = "fake.serving.Batcher";
  kind.uses = {Model(true)};
  kind.policies = {abi::Policy::kAny};
  kind.emission = abi::Emission::kMany;
  kind.bypass = "plain_batcher";
  add(kind);
  kind.name = "plain_batcher";
  kind.options_message = "fake.serving.PlainBatcher";
  kind.bypass = "";
  add(kind);
  kind = Node("forward", {Port("STEP", "engine.Step/1")},
              {Port("LOGITS", tensor, "[rows, vocab]", "f32")});
  kind.uses = {Model()};
  kind.executor = "compute";
  add(kind);
  kind = Node("sample", {Port("LOGITS", tensor, "[rows, vocab]", "f32")},
              {Port("SAMPLED", "engine.Sampled/1")});
  kind.options_message = "fake.serving.Sample";
  add(kind);
  kind = Node("detokenize", {Port("TOKEN", "engine.Token/1")}, {Port("EVENT", "engine.Event/1")});
  kind.uses = {Model()};
  add(kind);
  add(Node("monitor", {}, {}));

  add(Node("numbers", {}, {Port("OUT", tensor, "[n, 576]", "f32")}));
  add(Node("halves", {}, {Port("OUT", tensor, "[n, 512]", "f16")}));
  add(Node("thirds", {}, {Port("OUT", tensor, "[n, 512]", "f32")}));
  add(Node("flat", {}, {Port("OUT", tensor, "[n]", "f32")}));
  add(Node("same", {Port("IN", tensor, "[n, k]")}, {Port("OUT", tensor, "[n, k]")}));
  kind = Node("pair", {Port("LEFT", tensor, "[n, k]"), Port("RIGHT", tensor, "[n, k]")},
              {Port("OUT", tensor, "[n, k]")});
  kind.policies = {abi::Policy::kJoin, abi::Policy::kAny, abi::Policy::kLatest,
                   abi::Policy::kBatch};
  add(kind);
  kind = Node("fan", {Port("IN", tensor)}, {Port("OUT", tensor)});
  kind.emission = abi::Emission::kMany;
  add(kind);
  kind = Node("gather", {Port("IN", "*")}, {});
  kind.inputs[0].repeated = true;
  kind.policies = {abi::Policy::kAny};
  kind.emission = abi::Emission::kNone;
  kind.max_in_flight = 4;
  add(kind);
  add(Node("sink", {Port("IN", "*")}, {}));
  kind = Node("train", {Port("IN", tensor)}, {});
  kind.uses = {Model(true), {"DATA", "engine.Dataset/1", "What it learns.", false, true}};
  add(kind);
  return index;
}

}  // namespace

std::string CompileSchema(std::string_view proto) {
  Tree tree(proto);
  Loud loud;
  pb::compiler::Importer importer(&tree, &loud);
  const pb::FileDescriptor* file = importer.Import("options.proto");
  pb::FileDescriptorSet set;
  for (int i = 0; i < file->dependency_count(); ++i) {
    for (int k = 0; k < file->dependency(i)->dependency_count(); ++k) {
      file->dependency(i)->dependency(k)->CopyTo(set.add_file());
    }
    file->dependency(i)->CopyTo(set.add_file());
  }
  pb::FileDescriptorProto* own = set.add_file();
  file->CopyTo(own);
  file->CopyJsonNameTo(own);
  file->CopySourceCodeInfoTo(own);
  return set.SerializeAsString();
}

const abi::KindIndex& FakeKinds() {
  static const abi::KindIndex* index = new abi::KindIndex(Make());
  return *index;
}

std::string DesignExample() {
  return R"(# proto-file: engine/pipeline.proto
# proto-message: Pipeline
# Chat serving: INT8 weights, one adapter, paged KV cache, continuous batching.
name: "chat"

param { name: "model"  default: "smollm2-135m-instruct"  sets: "base.load.path"   doc: "Model name or folder." }
param { name: "batch"  default: "32"                     sets: "batch.max_batch"  doc: "Sequences per step." }

resource { name: "base"                  load { } }
resource { name: "small"  from: "base"   int8 { scheme: PER_CHANNEL } }
resource { name: "tuned"  from: "small"  lora { adapter: "adapters/tone" } }
resource { name: "chat"   from: "tuned"  kv_cache { page_tokens: 16 budget: "1GiB" } }

node { name: "api"      http_api { port: 8080 }  out: "REQUEST:request"  in: "EVENT:event"  feedback: "EVENT" }
node { name: "encode"   tokenize { }    use: "chat"  in: "request"  out: "prompt" }
node { name: "batch"    batcher { }     use: "chat"  in: "NEW:prompt"  in: "RUNNING:sampled"  feedback: "RUNNING"  out: "STEP:step"  out: "TOKEN:token" }
node { name: "forward"  forward { }     use: "chat"  in: "step"  out: "logits" }
node { name: "sample"   sample { }      in: "logits"  out: "sampled" }
node { name: "decode"   detokenize { }  use: "chat"  in: "token"  out: "event" }
node { name: "watch"    monitor { }     }
)";
}

}  // namespace engine::graph::testing
