// The C ABI keeps what its releases froze: compiling this is the test of layout and numbers.
// Structs may have grown at the tail; nothing else may differ from tests/abi/layout_1_0.inc, and layout_1_1.inc, which
// scripts/abi_layout.py made when these were released.
#include <gtest/gtest.h>

#include <cstring>

#include "engine/ext/async.h"
#include "engine/ext/kv.h"
#include "engine/ext/log.h"
#include "engine/ext/metrics.h"
#include "engine/ext/resources.h"
#include "engine/ext/tasks.h"
#include "engine/ext/transforms.h"
#include "engine/growth.hpp"
#include "engine/plugin.h"
#include "engine/sizes.hpp"
#include "engine/types.h"

#define STRUCT(name, size) static_assert(sizeof(name) >= (size), #name " shrank");
#define MEMBER(name, member, offset, size)                                        \
  static_assert(offsetof(name, member) == (offset), #name "." #member " moved");  \
  static_assert(sizeof(((name*)nullptr)->member) == (size), #name "." #member     \
                                                                  " has another " \
                                                                  "size");
#define VALUE(name, value) static_assert((name) == (value), #name " has another value");
#define TEXT(name, value) static_assert(std::string_view(name) == (value), #name " is another id");
#include "layout_1_0.inc"
#include "layout_1_1.inc"
#undef STRUCT
#undef MEMBER
#undef VALUE
#undef TEXT

// What readers rely on is what was frozen.
#define STRUCT(name, size)                                                                     \
  static_assert(std::string_view(#name) == "engine_str" || engine::kFirstSize<name> == (size), \
                #name " in sizes.hpp");
#define MEMBER(name, member, offset, size)
#define VALUE(name, value)
#define TEXT(name, value)
#include "layout_1_0.inc"

// Structs that came after 1.0, as they were first.
static_assert(engine::kFirstSize<engine_guide> == 24);
static_assert(engine::kFirstSize<engine_choices> == 48);

namespace engine {
namespace {

// A struct as a later and as an earlier side know it.
struct Grown {
  uint32_t struct_size;
  uint32_t value;
  uint64_t added;
};
struct Early {
  uint32_t struct_size;
  uint32_t value;
};

// The same address, of which the compiler knows no object: as from another side.
template <typename T>
T* FromElsewhere(void* at) {
  asm volatile("" : "+r"(at) : : "memory");
  return static_cast<T*>(at);
}

TEST(Growth, ElementsOfAnotherSizeAreReached) {
  Grown three[3] = {{sizeof(Grown), 1, 9}, {sizeof(Grown), 2, 9}, {sizeof(Grown), 3, 9}};
  const auto* seen = FromElsewhere<const Early>(three);
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(At(seen, i).value, i + 1);
    EXPECT_EQ(ENGINE_AT(seen, i)->value, i + 1);
  }
}

TEST(Growth, NothingIsWrittenBeyondWhatTheOtherSideHas) {
  struct {
    Early early = {sizeof(Early), 0};
    uint64_t beyond = 0x5555;
  } room;
  Give(Grown{sizeof(Grown), 7, 8}, FromElsewhere<Grown>(&room.early));
  EXPECT_EQ(room.early.value, 7u);
  EXPECT_EQ(room.early.struct_size, sizeof(Early));
  EXPECT_EQ(room.beyond, 0x5555u);
}

TEST(Growth, WhatThisSideDoesNotKnowIsZero) {
  Grown grown = {sizeof(Grown), 1, 0x5555};
  Give(Early{sizeof(Early), 7}, FromElsewhere<Early>(&grown));
  EXPECT_EQ(grown.struct_size, sizeof(Grown));
  EXPECT_EQ(grown.value, 7u);
  EXPECT_EQ(grown.added, 0u);
}

TEST(Growth, ACopyOfAnEarlierStructHasZerosForWhatItLacks) {
  alignas(Grown) char room[sizeof(Grown)];
  std::memset(room, 0x55, sizeof room);
  const Early early = {sizeof(Early), 7};
  std::memcpy(room, &early, sizeof early);
  const Grown copy = Known(*FromElsewhere<const Grown>(room));
  EXPECT_EQ(copy.struct_size, sizeof(Grown));
  EXPECT_EQ(copy.value, 7u);
  EXPECT_EQ(copy.added, 0u);
}

TEST(Growth, HasAsksForTheSizeThatTheMakerKnew) {
  Grown grown = {sizeof(Early), 0, 0};
  EXPECT_TRUE(ENGINE_HAS(&grown, value));
  EXPECT_FALSE(ENGINE_HAS(&grown, added));
}

}  // namespace
}  // namespace engine
