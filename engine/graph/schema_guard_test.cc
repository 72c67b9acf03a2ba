#include "engine/graph/schema_guard.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include "engine/graph/schema.h"
#include "engine/graph/testing/fake_kinds.h"

namespace engine::graph {
namespace {

using testing::CompileSchema;
using ::testing::HasSubstr;

abi::Plugin Plugin(const std::string& id, const std::string& schemas) {
  abi::Plugin plugin;
  plugin.id = id;
  plugin.schemas = schemas;
  return plugin;
}

abi::Kind Kind(const std::string& name, const std::string& options, abi::Role role) {
  abi::Kind kind;
  kind.name = name;
  kind.options_message = options;
  kind.role = role;
  return kind;
}

std::string Package(const std::string& name) {
  return CompileSchema("syntax = \"proto2\"; package " + name +
                       "; message Options { optional int32 n = 1; }");
}

TEST(SchemaGuard, AcceptsWhatSchemaBuildTakes) {
  SchemaGuard guard;
  const abi::KindIndex& index = testing::FakeKinds();
  for (const abi::Plugin& plugin : index.plugins) {
    std::vector<abi::Kind> kinds;
    for (const std::string& name : plugin.kinds) kinds.push_back(*index.Find(name));
    const Status status = guard.Add(plugin, kinds);
    EXPECT_TRUE(status.ok()) << status.message();
  }
}

TEST(SchemaGuard, ABadSchemaHarmsItsOwnPluginOnly) {
  SchemaGuard guard;
  ASSERT_TRUE(guard.Add(Plugin("a", Package("acme.a")), {}).ok());
  EXPECT_THAT(guard.Add(Plugin("b", "\xff\xff"), {}).message(),
              HasSubstr("the schema bytes of plugin b cannot be read"));
  const Status clash = guard.Add(Plugin("c", Package("acme.a")), {});
  EXPECT_EQ(clash.code(), ENGINE_INVALID_ARGUMENT);
  EXPECT_THAT(clash.message(), HasSubstr("plugin c does not fit with the others"));
  EXPECT_THAT(clash.message(), HasSubstr("\"acme.a.Options\" is already defined"));
  EXPECT_TRUE(guard.Add(Plugin("d", Package("acme.d")), {}).ok());
}

TEST(SchemaGuard, ForgetsThePartsOfARefusedPlugin) {
  SchemaGuard guard;
  const abi::Kind bad = Kind("x", "acme.Nowhere", abi::Role::kNode);
  EXPECT_EQ(guard.Add(Plugin("a", Package("acme.x")), {bad}).code(), ENGINE_NOT_FOUND);
  // The same package, and even the same plugin, put right.
  EXPECT_TRUE(guard.Add(Plugin("b", Package("acme.x")), {}).ok());
  EXPECT_FALSE(guard.Add(Plugin("a", Package("acme.x")), {}).ok());
  EXPECT_TRUE(guard.Add(Plugin("a", Package("acme.y")), {}).ok());
}

TEST(SchemaGuard, NamesOfThePipelineLanguageAreTaken) {
  SchemaGuard guard;
  EXPECT_THAT(
      guard
          .Add(Plugin("a", CompileSchema("syntax = \"proto2\"; package engine; message Node { }")),
               {})
          .message(),
      HasSubstr("\"engine.Node\" is already defined"));
  for (const char* name : {"name", "in", "kind", "executor"}) {
    const Status status = guard.Add(Plugin("a", ""), {Kind(name, "", abi::Role::kNode)});
    EXPECT_EQ(status.code(), ENGINE_ALREADY_EXISTS) << name;
    EXPECT_THAT(status.message(), HasSubstr("of something that Node already has"));
  }
  EXPECT_TRUE(guard.Add(Plugin("a", ""), {Kind("executor", "", abi::Role::kTransform)}).ok());
}

TEST(SchemaGuard, NoPluginDecidesWhatOthersGetOfProtobufsOwnFiles) {
  google::protobuf::FileDescriptorSet set;
  auto* file = set.add_file();
  file->set_name("google/protobuf/duration.proto");
  file->set_package("google.protobuf");
  file->add_message_type()->set_name("Duration");  // without its fields
  SchemaGuard guard;
  ASSERT_TRUE(guard.Add(Plugin("evil", set.SerializeAsString()), {}).ok());
  const std::string user = CompileSchema(
      "syntax = \"proto2\"; package acme.t; import \"google/protobuf/duration.proto\";"
      "message Options { optional google.protobuf.Duration d = 1; }");
  const Status status = guard.Add(Plugin("good", user), {});
  EXPECT_TRUE(status.ok()) << status.message();
  set.mutable_file(0)->set_name("google/protobuf/of_their_own.proto");
  EXPECT_THAT(guard.Add(Plugin("other", set.SerializeAsString()), {}).message(),
              HasSubstr("which this engine does not know"));
}

}  // namespace
}  // namespace engine::graph
