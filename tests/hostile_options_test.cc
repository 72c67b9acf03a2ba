// Random options for every kind of every shipped plugin: the checker and the kinds' own create()
// accept them or say what is wrong; none crashes, hangs or takes memory without bound.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "engine/graph/schema.h"
#include "engine/model/maker.h"
#include "engine/util.hpp"
#include "tests/random_options.h"
#include "tests/support.h"
#include "tests/watched_child.h"

namespace engine::tests {
namespace {

// The kinds of the shipped plugins and their schema, known to the child alone: LibTorch and the
// plugins must not have started threads in the process that forks.
class KindsBody : public ChildBody {
 public:
  explicit KindsBody(uint64_t per_kind) : per_kind_(per_kind) {}

  void Prepare() override {
    index_ = &BuiltPlugins().index();
    const Status status = graph::Schema::Build(*index_, {}, &schema_);
    if (!status.ok()) throw std::runtime_error(std::string(status.message()));
    for (const auto& [name, kind] : index_->kinds) {
      if (kind.options_message.empty()) continue;
      kinds_.push_back(&kind);
    }
    if (kinds_.size() > kMostKinds)
      throw std::runtime_error("more kinds than the test has room for");
  }
  // Cases of one kind lie together; kinds beyond the last have none.
  uint64_t count() const { return kMostKinds * per_kind_; }
  std::string Name(uint64_t i) override {
    return "kind number " + std::to_string(i / per_kind_) + ", seed " + std::to_string(i);
  }

 protected:
  static constexpr uint64_t kMostKinds = 64;

  const abi::Kind* KindOf(uint64_t i) const {
    const uint64_t number = i / per_kind_;
    return number < kinds_.size() ? kinds_[number] : nullptr;
  }
  const google::protobuf::Descriptor& OptionsOf(const abi::Kind& kind) const {
    return *schema_->Options(kind);
  }
  static void Fail(ChildNotes* notes, const std::string& text) {
    std::strncpy(notes->failure, text.c_str(), sizeof notes->failure - 1);
  }

  const uint64_t per_kind_;
  const abi::KindIndex* index_ = nullptr;
  std::unique_ptr<graph::Schema> schema_;
  std::vector<const abi::Kind*> kinds_;
};

std::string LinesOf(const std::string& text, int begin, int end) {
  std::istringstream in(text);
  std::string out, line;
  for (int at = 1; std::getline(in, line) && at < end; ++at) {
    if (at >= begin) out += line + "\n";
  }
  return out;
}

enum Counter { kAccepted, kRefused, kKinds, kWrong };

// Bytes go straight to create(), as if there were no checker before it.
class CreateBody : public KindsBody {
 public:
  using KindsBody::KindsBody;

  void Prepare() override {
    KindsBody::Prepare();
    if (chdir(folder_.path().c_str()) != 0) throw std::runtime_error("no folder to work in");
    WriteToyModel("toy");
    // Room for what is reasonable: a load of random weights takes as much memory, and as long, as
    // it is allowed.
    uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const uint64_t room =
        pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) + (uint64_t{256} << 20);
    const rlimit limit = {room, room};
    setrlimit(RLIMIT_AS, &limit);
  }

  void Case(uint64_t i, ChildNotes* notes) override {
    const abi::Kind* kind = KindOf(i);
    if (kind == nullptr) return;
    if (i % per_kind_ == 0) notes->counts[kKinds] = notes->counts[kKinds] + 1;
    // Reading a model takes ten thousand times as long as reading options.
    if (BuiltPlugins().Source(kind->name) == nullptr && i % 50 != 0) return;
    RandomOptions random(OptionsOf(*kind), i);
    const std::string bytes = random.MakeWire();
    const Status status = Create(*kind, bytes);
    if (!status.ok() && status.message().empty()) {
      Fail(notes, kind->name + " was refused without a reason");
    }
    const Counter counter = status.ok() ? kAccepted : kRefused;
    notes->counts[counter] = notes->counts[counter] + 1;
  }

 private:
  Status Create(const abi::Kind& kind, const std::string& bytes) {
    const abi::KindSource* source = BuiltPlugins().Source(kind.name);
    if (source == nullptr) return Load(kind, bytes);
    const engine_str name = Str("n"), options = Str(bytes);
    const uint32_t number = source->number;
    void* plugin = source->loaded->self;
    void* self = nullptr;
    if (kind.role == abi::Role::kNode) {
      const engine_node_vtable* table = nullptr;
      ENGINE_RETURN_IF_ERROR(
          Status(source->loaded->nodes->create(plugin, number, name, options, &table, &self)));
      table->destroy(self);
    } else if (kind.role == abi::Role::kTransform) {
      const engine_transform_vtable* table = nullptr;
      ENGINE_RETURN_IF_ERROR(
          Status(source->loaded->transforms->create(plugin, number, name, options, &table, &self)));
      table->destroy(self);
    } else {
      const engine_resource_vtable* table = nullptr;
      ENGINE_RETURN_IF_ERROR(
          Status(source->loaded->resources->create(plugin, number, name, options, &table, &self)));
      table->destroy(self);
    }
    return Status();
  }

  // The host's own kind, which reads a model and draws its weights; its path, the first field, is
  // that of a model in every other case.
  Status Load(const abi::Kind& kind, std::string bytes) {
    if (bytes.size() % 2 == 0) bytes += std::string("\x0a\x03toy");
    graph::PlanResource resource;
    resource.name = "n";
    resource.kind = &kind;
    resource.options = bytes;
    runtime::ResourceSlot made;
    model::ResourcePlan plan;
    return model::Maker(BuiltPlugins()).Explain(resource, nullptr, &made, &plan);
  }

  TempFolder folder_;
};

// A text with one block a case, so that one reading checks many.
class CheckBody : public KindsBody {
 public:
  static constexpr uint64_t kBlocks = 200;
  using KindsBody::KindsBody;

  void Case(uint64_t i, ChildNotes* notes) override {
    const abi::Kind* kind = KindOf(i);
    if (kind == nullptr) return;
    if (i % per_kind_ == 0) notes->counts[kKinds] = notes->counts[kKinds] + 1;
    struct Place {
      int begin = 0, end = 0;
      bool wrong = false;
    };
    std::vector<Place> places;
    std::string text;
    bool deep = false;
    int line = 1;
    for (uint64_t k = 0; k < kBlocks; ++k) {
      RandomOptions random(OptionsOf(*kind), i * kBlocks + k);
      const RandomOptions::Text options = random.MakeText();
      const bool node = kind->role == abi::Role::kNode;
      const std::string block = std::string(node ? "node" : "resource") + " { name: \"n" +
                                std::to_string(k) + "\" " + kind->name + " {" + options.block +
                                " } }\n";
      const auto lines = static_cast<int>(std::count(block.begin(), block.end(), '\n'));
      // The first that ends the reading is told alone.
      if (options.deep && !deep) places.clear();
      if (!deep) places.push_back({line, line + lines, options.wrong});
      deep = deep || options.deep;
      line += lines;
      text += block;
    }
    graph::Plan plan;
    std::vector<graph::Diagnostic> diagnostics;
    const bool good = graph::LoadPipeline({.path = "m.pbtxt", .text = text, .need_nodes = false},
                                          *index_, {}, &plan, &diagnostics);
    if (good == graph::HasErrors(diagnostics)) return Fail(notes, "no error tells why");
    for (const graph::Diagnostic& d : diagnostics) {
      if (d.file.empty() || d.line < 1 || d.line > line || d.column < 1 || d.message.empty()) {
        return Fail(notes, "an error without a place: " + graph::Render(d));
      }
    }
    if (deep) places.resize(1);
    if (text.size() > (4u << 20)) places.clear();  // refused as a whole
    notes->counts[kRefused] = notes->counts[kRefused] + kBlocks - places.size();
    for (const Place& place : places) {
      const auto told = [&](const graph::Diagnostic& d) {
        return d.severity == graph::Severity::kError && d.line >= place.begin && d.line < place.end;
      };
      const bool any = std::any_of(diagnostics.begin(), diagnostics.end(), told);
      if (place.wrong && !any) {
        return Fail(notes, "nothing is told of line " + std::to_string(place.begin) + ":\n" +
                               LinesOf(text, place.begin, place.end));
      }
      notes->counts[any ? kRefused : kAccepted] = notes->counts[any ? kRefused : kAccepted] + 1;
      notes->counts[kWrong] = notes->counts[kWrong] + place.wrong;
    }
  }
};

void ExpectSound(const char* what, const ChildNotes& notes, uint64_t cases) {
  std::printf(
      "%s: %llu kinds, %llu accepted, %llu refused (%llu known to be wrong), %.0f MiB more "
      "at the peak\n",
      what, static_cast<unsigned long long>(notes.counts[kKinds]),
      static_cast<unsigned long long>(notes.counts[kAccepted]),
      static_cast<unsigned long long>(notes.counts[kRefused]),
      static_cast<unsigned long long>(notes.counts[kWrong]),
      static_cast<double>(notes.rss_peak - notes.rss_begin) / 1048576);
  EXPECT_GE(notes.counts[kKinds], 20u);
  // All but one kind of the host's own, of which some are enough.
  EXPECT_GE(notes.counts[kAccepted] + notes.counts[kRefused], cases * (notes.counts[kKinds] - 1));
  EXPECT_GT(notes.counts[kAccepted], 0u);
  EXPECT_GT(notes.counts[kRefused], 0u);
  EXPECT_LT(notes.rss_peak - notes.rss_begin, uint64_t{1} << 30);
}

TEST(HostileOptions, CreateAcceptsOrSaysWhy) {
  const auto cases = static_cast<uint64_t>(std::max(1.0, 10000 * TestScale()));
  CreateBody body(cases);
  ExpectSound("create", RunWatched(&body, body.count(), 20), cases);
}

TEST(HostileOptions, CheckerAcceptsOrSaysWhere) {
  const auto texts = static_cast<uint64_t>(std::max(1.0, 50 * TestScale()));
  CheckBody body(texts);
  ExpectSound("checker", RunWatched(&body, body.count(), 60), texts * CheckBody::kBlocks);
}

}  // namespace
}  // namespace engine::tests
