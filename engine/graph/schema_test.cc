#include "engine/graph/schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "engine/graph/testing/fake_kinds.h"

namespace engine::graph {
namespace {

using testing::CompileSchema;
using testing::FakeKinds;
using ::testing::HasSubstr;

std::string Failure(const abi::KindIndex& index) {
  std::unique_ptr<Schema> schema;
  return std::string(Schema::Build(index, {}, &schema).message());
}

// Runs the real protoc on the exported schema.
bool ProtocReads(const std::string& schema, const std::string& pipeline) {
  const auto folder = std::filesystem::temp_directory_path() /
                      ("engine_schema_" + std::to_string(static_cast<long>(getpid())));
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "pipeline.proto") << schema;
  std::ofstream(folder / "in.pbtxt") << pipeline;
  const std::string command = "cd " + folder.string() +
                              " && protoc --encode=engine.Pipeline pipeline.proto < in.pbtxt > out";
  const bool good =
      std::system(command.c_str()) == 0 && std::filesystem::file_size(folder / "out") > 0;
  std::filesystem::remove_all(folder);
  return good;
}

TEST(Schema, ExportIsReadByProtoc) {
  std::unique_ptr<Schema> schema;
  SubgraphKind subgraph{"speak", "Speaks.", {{"depth", "How deep.", OptionType::kInteger}}};
  ASSERT_TRUE(Schema::Build(FakeKinds(), {subgraph}, &schema).ok());
  const std::string text = schema->Export();
  EXPECT_TRUE(ProtocReads(text, testing::DesignExample()));
  EXPECT_TRUE(ProtocReads(text, "node { name: \"a\" speak { depth: 4 } queue { size: 3 } }"));
  EXPECT_TRUE(ProtocReads(text, "node { name: \"b\" batcher { fairness { weight: 0.5 } } }"));
  EXPECT_FALSE(ProtocReads(text, "node { name: \"b\" batchr { } }"));
  EXPECT_THAT(text, HasSubstr("// Tokens of a page."));
  EXPECT_THAT(text, HasSubstr("// Limits: 1 to 256 tokens."));
  EXPECT_THAT(text, HasSubstr("// Values that whoever runs the pipeline may choose."));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("import \"")));
}

TEST(Schema, NumbersOfKindsDoNotDependOnOtherKinds) {
  auto number = [](const std::string& text) {
    const size_t at = text.find(" kv_cache = ");
    return text.substr(at, text.find(';', at) - at);
  };
  std::unique_ptr<Schema> all, less;
  ASSERT_TRUE(Schema::Build(FakeKinds(), {}, &all).ok());
  abi::KindIndex index = FakeKinds();
  index.kinds.erase("int8");
  ASSERT_TRUE(Schema::Build(index, {}, &less).ok());
  EXPECT_EQ(number(all->Export()), number(less->Export()));
}

TEST(Schema, WithoutAnyPlugin) {
  std::unique_ptr<Schema> schema;
  abi::KindIndex index;
  ASSERT_TRUE(Schema::Build(index, {}, &schema).ok());
  EXPECT_TRUE(ProtocReads(schema->Export(), "name: \"x\""));
}

TEST(Schema, BadPluginsAreNamed) {
  abi::KindIndex index = FakeKinds();
  index.plugins[0].schemas = "\xff\xff not a schema";
  EXPECT_THAT(Failure(index), HasSubstr("schema bytes of plugin engine.serving cannot be read"));

  index = FakeKinds();
  abi::Plugin twin = index.plugins[1];
  twin.id = "com.twin";
  index.plugins.push_back(twin);
  EXPECT_THAT(Failure(index), HasSubstr("schema of plugin com.twin does not fit"));
  EXPECT_THAT(Failure(index), HasSubstr("engine.int8/options.proto"));

  index = FakeKinds();
  index.kinds.at("int8").options_message = "fake.int8.Optoins";
  EXPECT_THAT(Failure(index), HasSubstr("kind \"int8\" of plugin engine.int8"));

  index = FakeKinds();
  abi::Kind kind = index.kinds.at("sink");
  kind.name = "queue";
  index.kinds["queue"] = kind;
  EXPECT_THAT(Failure(index), HasSubstr("already has"));

  index = FakeKinds();
  kind.name = "no good";
  index.kinds["no good"] = kind;
  EXPECT_THAT(Failure(index), HasSubstr("is not an identifier"));
}

TEST(Schema, ByteSizes) {
  EXPECT_EQ(ParseByteSize("4096"), 4096u);
  EXPECT_EQ(ParseByteSize("1GiB"), 1u << 30);
  EXPECT_EQ(ParseByteSize("1.5 MiB"), 1572864u);
  EXPECT_EQ(ParseByteSize("2GB"), 2000000000u);
  for (const char* bad : {"", "GiB", "1 gig", "-1", "1e3", "99999999999TiB", "nan"}) {
    EXPECT_EQ(ParseByteSize(bad), std::nullopt) << bad;
  }
}

}  // namespace
}  // namespace engine::graph
