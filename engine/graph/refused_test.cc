#include "engine/graph/refused.h"

#include <gtest/gtest.h>

#include "engine/graph/graph.h"
#include "engine/graph/testing/fake_kinds.h"

namespace engine::graph {
namespace {

std::string Errors(const std::string& text) {
  abi::KindIndex index = testing::FakeKinds();
  abi::Refusal& refusal = index.refused.at(0);
  refusal.version = "0.3.1";
  refusal.reason = "native tensor tier was built for another LibTorch";
  refusal.built_for = "torch=2.12.1";
  refusal.this_host = "torch=2.13.0";
  refusal.differs = "torch";
  refusal.fix = "build it again with this LibTorch";
  Plan plan;
  std::vector<Diagnostic> diagnostics;
  LoadPipeline({.path = "p.pbtxt", .text = text, .need_nodes = true}, index, {}, &plan,
               &diagnostics);
  return Render(diagnostics);
}

TEST(Refused, AMissedKindTellsTheWholeRefusalAndWhatItAffects) {
  EXPECT_EQ(Errors("node { name: \"a\" numbers { } out: \"x\" }\n"
                   "node { name: \"adapter\" acme_moe { } in: \"x\" }\n"),
            "p.pbtxt:2:24: error: unknown kind \"acme_moe\"\n"
            " 2 | node { name: \"adapter\" acme_moe { } in: \"x\" }\n"
            "   |                        ^~~~~~~~\n"
            "   = plugin com.acme.moe has it, but was refused: native tensor tier was built for "
            "another LibTorch\n"
            "   = plugin refused: /opt/engine/plugins/libacme_moe.so\n"
            "   =   id         com.acme.moe 0.3.1\n"
            "   =   because    native tensor tier was built for another LibTorch\n"
            "   =   built for  torch=2.12.1\n"
            "   =   this host  torch=2.13.0\n"
            "   =   differs    torch\n"
            "   =   fix        build it again with this LibTorch\n"
            "   =   affects    p.pbtxt:2:24 node \"adapter\" (acme_moe)\n");
}

TEST(Refused, SoDoesARequirement) {
  EXPECT_NE(Errors("require { plugin: \"com.acme.moe\" }\nnode { name: \"b\" monitor { } }\n")
                .find("=   affects    p.pbtxt:1:19 require \"com.acme.moe\"\n"),
            std::string::npos);
}

}  // namespace
}  // namespace engine::graph
