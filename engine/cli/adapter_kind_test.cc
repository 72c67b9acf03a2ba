#include "engine/cli/adapter_kind.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/graph/testing/fake_kinds.h"

namespace engine::cli {
namespace {

using graph::testing::FakeKinds;
using testing::AllOf;
using testing::HasSubstr;

// The kind that was found, or why there is none.
std::string Found(const abi::KindIndex& index, std::string_view wanted = "") {
  std::string kind;
  const Status status = AdapterKind(index, wanted, &kind);
  return status.ok() ? kind : std::string(status.message());
}

TEST(AdapterKind, IsTheTransformThatTakesAFolder) {
  EXPECT_EQ(Found(FakeKinds()), "lora");
  EXPECT_EQ(Found(FakeKinds(), "lora"), "lora");
  abi::KindIndex index = FakeKinds();
  index.kinds["rank_one"] = index.kinds.at("lora");
  index.kinds.at("rank_one").name = "rank_one";
  index.kinds.erase("lora");
  EXPECT_EQ(Found(index), "rank_one");
}

TEST(AdapterKind, AmongSeveralOneIsNamed) {
  abi::KindIndex index = FakeKinds();
  index.kinds["rank_one"] = index.kinds.at("lora");
  index.kinds.at("rank_one").name = "rank_one";
  EXPECT_THAT(Found(index), AllOf(HasSubstr("there are 2 kinds that read adapters: lora, rank_one"),
                                  HasSubstr("--adapter-kind")));
  EXPECT_EQ(Found(index, "rank_one"), "rank_one");
  EXPECT_THAT(Found(index, "rank_on"), HasSubstr("did you mean \"rank_one\"?"));
  EXPECT_THAT(Found(index, "int8"), HasSubstr("names no kind that reads adapters"));
}

TEST(AdapterKind, OthersAreNone) {
  for (const auto& spoil : {+[](abi::Kind* k) { k->phase = abi::Phase::kCodec; },
                            +[](abi::Kind* k) { k->role = abi::Role::kResource; },
                            +[](abi::Kind* k) { k->options_message = "fake.int8.Options"; }}) {
    abi::KindIndex index = FakeKinds();
    spoil(&index.kinds.at("lora"));
    EXPECT_THAT(Found(index), HasSubstr("no plugin reads adapters"));
    EXPECT_THAT(Found(index, "lora"), HasSubstr("no plugin reads adapters"));
  }
}

}  // namespace
}  // namespace engine::cli
